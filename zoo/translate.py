"""Sequences for sequences from a trained model, such as translations; its checkpoint alone suffices.

    translator = load("outputs/.../")
    for answer in translator.answers(["ein Satz", "noch einer"]):
        print(answer.text)

Texts are read and answered a block at a time, those of similar length together, so neither memory nor padding grows
with their number.

Axes: B texts in a batch, S source tokens, T target tokens, H heads
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.checkpoint import build_model, find, read
from zoo.data.pair_preprocessing import KIND, PairPreprocessing
from zoo.decoding import answers, looked_at
from zoo.errors import UserError
from zoo.pictures.attention import of_layers
from zoo.text import BOS_NUMBER, EOS_NUMBER, NEVER_WRITTEN, PAIR_SPECIAL, pieces, text_of

BLOCK, BATCH = 1024, 64  # texts that are in memory, and that are answered together
UNITS = {"char": "characters", "word": "words", "bpe": "byte pairs"}


@dataclass(frozen=True)
class Answer:
    """What a model makes of one text.

    Args:
        source, text: what went in and what came out, one line each.
        numbers: the tokens that were written, `<eos>` among them where the model came to it.
    """

    source: str
    text: str
    numbers: list[int] = field(default_factory=list)


@dataclass
class Translator:
    """A trained model with what is needed to use it.

    Args:
        model: encode, decode, start and step, in evaluation mode.
        prepare: of the checkpoint.
        beams, length_penalty: of the search, unless another is asked for; those of the run's test.
        device: where the model is.
    """

    model: nn.Module
    prepare: PairPreprocessing
    beams: int = 4
    length_penalty: float = 0.6
    device: str = "cpu"

    def describe(self) -> str:
        """One line on what answers."""
        source, target = self.prepare.sides
        vocabulary = self.prepare.tgt_tokenizer
        known = f"{vocabulary.vocab_size - len(PAIR_SPECIAL):,} {UNITS[vocabulary.kind]}"
        return f"{type(self.model).__name__}, from {source} to {target}, which it writes in {known}."

    def notes(self, texts: Sequence[str]) -> list[str]:
        """What the user should know of texts, a line each: what of them the model cannot read, or not to their end."""
        return self.prepare.encode(texts)[1] if texts else []

    def answers(
        self, texts: Iterable[str], *, beams: int | None = None, length_penalty: float | None = None
    ) -> Iterator[Answer]:
        """An answer to each text, in their order. A text of white space has an empty one."""
        search = {
            "beams": self.beams if beams is None else beams,
            "length_penalty": self.length_penalty if length_penalty is None else length_penalty,
        }
        waiting = iter(texts)
        while block := list(islice(waiting, BLOCK)):
            found = {i: Answer(text, "") for i, text in enumerate(block) if not text.strip()}
            asked = [i for i in range(len(block)) if i not in found]
            if asked:
                tokens, _ = self.prepare.encode([block[i] for i in asked])
                for rows in tokens.lengths.argsort(stable=True).split(BATCH):
                    src, mask = (part.to(self.device) for part in tokens[rows])  # (B, S) each
                    numbers = self.written(src.long(), mask, search)
                    found |= {asked[row]: self.answer(block[asked[row]], own)
                              for row, own in zip(rows.tolist(), numbers, strict=True)}  # fmt: skip
            yield from (found[i] for i in range(len(block)))

    def written(self, src: torch.Tensor, mask: torch.Tensor, search: dict[str, Any]) -> list[list[int]]:
        return answers(self.model, src, mask, bos=BOS_NUMBER, eos=EOS_NUMBER, banned=NEVER_WRITTEN, **search)

    def answer(self, source: str, numbers: list[int]) -> Answer:
        text = text_of(self.prepare.tgt_tokenizer, numbers)
        return Answer(source, " ".join(text.splitlines()), numbers)  # a model of characters may write a new line

    def look(self, answer: Answer) -> dict[str, Any]:
        """Figures of what the model looked at while it wrote an answer; see `zoo.pictures.attention.of_layers`.

        Raises:
            UserError: it looks at nothing.
        """
        tokens, _ = self.prepare.encode([answer.source])
        src, mask = (part.to(self.device) for part in tokens[torch.tensor([0])])  # (1, S)
        layers = looked_at(self.model, src.long(), mask, answer.numbers, bos=BOS_NUMBER)
        if not layers and answer.numbers:
            raise UserError(
                f"This {type(self.model).__name__} has no attention that could be shown; leave alignment= out."
            )
        sources, targets = pieces(self.prepare.src_tokenizer, src[0].tolist()), answer.numbers
        return of_layers(layers, sources, pieces(self.prepare.tgt_tokenizer, targets)) if layers else {}


def load(source: str | Path, allow: Sequence[str] = ()) -> Translator:
    """The model of a checkpoint, ready to be used, on the GPU where there is one.

    Args:
        source: run folder (its best), or .ckpt.
        allow: see `zoo.checkpoint.load_model`.

    Raises:
        UserError: no checkpoint, one that was refused, or one of a model for something else.
    """
    path = find(source)
    checkpoint = read(path)
    config, saved = checkpoint.get("config"), checkpoint.get("preprocessing")
    config = config if isinstance(config, dict) else {}
    task = config.get("task") or {}
    if not isinstance(saved, dict) or saved.get("kind") != KIND or task.get("head") != "sequence":
        name = str(task.get("_target_") or "no task").rpartition(".")[2]
        what = f" on {saved['kind']}" if isinstance(saved, dict) and "kind" in saved else ""
        raise UserError(
            f"{path} was trained by {name}{what}, and makes no text of a text; train a model that does first, for "
            "instance python train.py model=seq2seq data=dates."
        )
    prepare = PairPreprocessing.from_dict(saved)
    check_vocabularies(prepare, config.get("model") or {}, path)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build_model(checkpoint, path, allow).to(device)
    return Translator(model, prepare, int(task.get("beams", 4)), float(task.get("length_penalty", 0.6)), device)


def check_vocabularies(prepare: PairPreprocessing, model: dict[str, Any], path: Path) -> None:
    """Raises UserError where the model was built for other vocabularies than those beside it."""
    sizes = {"src_vocab_size": prepare.src_tokenizer.vocab_size, "tgt_vocab_size": prepare.tgt_tokenizer.vocab_size}
    for key, size in sizes.items():
        if model.get(key, size) != size:
            raise UserError(
                f"The vocabulary in {path} has {size} tokens, and its model {key}={model[key]}; train it anew."
            )
