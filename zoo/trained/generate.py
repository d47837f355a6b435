"""New text from a trained language model; its checkpoint alone suffices.

    writer = load("outputs/.../")
    prompt = writer.read("ROMEO:")
    for text in writer.write(prompt, length=200, temperature=0.8):
        print(writer.whole(prompt, text))

Axes: B texts, T tokens of the prompt, N tokens to be written, V vocabulary
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.checkpoint import build_model, find, read
from zoo.decoding import sample, step_of
from zoo.errors import UserError, listed
from zoo.text import PAD, PIECES, UNKNOWN, Tokenizer
from zoo.text import load as load_tokenizer
from zoo.trained.purpose import WRITING, misplaced, purpose

BEGINNINGS = ("\n", ".")  # after one of these, a line or a sentence begins


@dataclass(frozen=True)
class Prompt:
    """What a text starts from.

    Args:
        text: as it was given.
        tokens: what the model reads; at least one.
        notes: what the user should know, a line each.
    """

    text: str
    tokens: list[int]
    notes: list[str] = field(default_factory=list)


@dataclass
class Writer:
    """A trained language model with what is needed to use it.

    Args:
        model: see `zoo.decoding.step_of`, in evaluation mode.
        tokenizer: of the checkpoint.
        window: tokens of a window of its training; a model that carries a state goes beyond it.
        device: where the model is.
    """

    model: nn.Module
    tokenizer: Tokenizer
    window: int | None = None
    device: str = "cpu"

    @property
    def special(self) -> list[int]:
        """The tokens that stand for no text."""
        return [i for i, token in enumerate(self.tokenizer.tokens) if token in (PAD, UNKNOWN)]

    def describe(self) -> str:
        """One line on what writes."""
        return (
            f"{type(self.model).__name__}, a vocabulary of {self.tokenizer.vocab_size} {PIECES[self.tokenizer.kind]}."
        )

    def read(self, text: str) -> Prompt:
        """The prompt of a text.

        Raises:
            UserError: it is no text.
        """
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError("prompt= holds bytes that are no text in the encoding of this terminal.") from None
        tokens = self.tokenizer.encode(text)
        if not tokens:
            token, name = self.beginning()
            return Prompt(text, [token], [f"The prompt is empty: the text begins as after {name}."])
        unknown = self.tokenizer.unknown(text)
        said = f"Not in the vocabulary, and read as {UNKNOWN}: {listed([repr(piece) for piece in unknown])}."
        return Prompt(text, tokens, [said] if unknown else [])

    def beginning(self) -> tuple[int, str]:
        """What a text without a prompt starts after: a newline, else a full stop, else the most frequent token."""
        for piece in BEGINNINGS:
            tokens = self.tokenizer.encode(piece)
            if len(tokens) == 1 and not self.tokenizer.unknown(piece):
                return tokens[0], repr(piece)
        token = next(i for i in range(self.tokenizer.vocab_size) if i not in self.special)  # the most frequent is first
        return token, repr(self.tokenizer.tokens[token])

    def write(
        self,
        prompt: Prompt,
        *,
        length: int = 500,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        samples: int = 1,
        special: bool = False,
    ) -> list[str]:
        """What comes after the prompt, `samples` times.

        Args:
            length: N, in tokens of the vocabulary: characters, words or byte pairs.
            temperature, top_k, top_p: see `zoo.decoding.sample`.
            seed: the same one gives the same texts; text number i does not depend on how many there are.
            special: whether tokens that stand for no text may come.
        """
        first = torch.tensor([prompt.tokens] * samples, device=self.device)  # (B, T)
        found = sample(
            step_of(self.model, self.window),
            first,
            steps=length,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            generator=torch.Generator().manual_seed(seed),
            banned=() if special else self.special,
        )  # (B, N)
        return [self.tokenizer.decode(row) for row in found.tolist()]

    def whole(self, prompt: Prompt, text: str) -> str:
        """The prompt as it was given, and what comes after it: a new word, or the end of the prompt's last one."""
        if self.tokenizer.kind == "wordpiece" and text.startswith("##"):
            return prompt.text + text.removeprefix("##")
        space = " " if self.tokenizer.kind in ("word", "wordpiece") and prompt.text else ""
        return prompt.text + space + text


def load(source: str | Path, allow: Sequence[str] = ()) -> Writer:
    """The language model of a checkpoint, ready to be used, on the GPU where there is one.

    Args:
        source: run folder (its best), or .ckpt.
        allow: see `zoo.checkpoint.load_model`.

    Raises:
        UserError: no checkpoint, one that was refused, or one of a model that does not go on with text.
    """
    path = find(source)
    return writer_of(read(path), path, allow)


def writer_of(checkpoint: dict[str, Any], path: Path, allow: Sequence[str] = ()) -> Writer:
    """The language model of a checkpoint that was read from `path`; see `load`."""
    if purpose(checkpoint) != WRITING or not isinstance(checkpoint["preprocessing"].get("tokenizer"), dict):
        raise misplaced(path, checkpoint, "goes on with no text", "python train.py model=lstm data=python_docs")
    tokenizer = load_tokenizer(checkpoint["preprocessing"]["tokenizer"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build_model(checkpoint, path, allow).to(device)
    return Writer(model, tokenizer, (checkpoint["config"].get("data") or {}).get("window"), device)


def how(chosen: dict[str, Any]) -> str:
    """What was chosen of `Writer.write`, one line from which the same text can be had again."""
    keys, samples = ("temperature", "top_k", "top_p", "seed"), chosen.get("samples", 1)
    if chosen["temperature"] == 0:
        return f"Always the likeliest token (temperature=0){f', {samples} times the same' if samples > 1 else ''}."
    return f"Drawn with {' '.join(f'{key}={chosen[key]}' for key in keys if key in chosen)}."
