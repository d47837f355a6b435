"""Sequences for sequences from a trained model, such as translations, or captions of images; its checkpoint suffices.

    translator = load("outputs/.../")
    for answer in translator.answers(["ein Satz", "noch einer"]):
        print(answer.text)

Texts are read and answered a block at a time, those of similar length together, so neither memory nor padding grows
with their number; images a batch at a time.

Axes: B texts or images in a batch, S source tokens, T target tokens, C channels, H and W height and width
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.checkpoint import build_model, find, read
from zoo.data.captions import CaptionPreprocessing
from zoo.data.image_folder import EXTENSIONS, image_files
from zoo.data.pair_preprocessing import PairPreprocessing
from zoo.decoding import answers, looked_at, sample
from zoo.errors import UserError, listed
from zoo.pictures.attention import of_layers, over_image
from zoo.text import BOS_NUMBER, EOS_NUMBER, NEVER_WRITTEN, PAIR_SPECIAL, PIECES, Tokenizer, pieces, text_of
from zoo.trained.purpose import CAPTIONS, PAIRS, misplaced, purpose, task_of

BLOCK, BATCH = 1024, 64  # sources that are in memory, and that are answered together
TEXT_FILES = (".txt", ".tsv", ".csv", ".src")


@dataclass(frozen=True)
class Answer:
    """What a model makes of one source.

    Args:
        source: the text that went in, or the name of the image.
        text: what came out, one line.
        numbers: the tokens that were written, `<eos>` among them where the model came to it.
        problem: why there is no answer, one line.
        grey: the image has no colours, and the model was trained on some.
    """

    source: str
    text: str
    numbers: list[int] = field(default_factory=list)
    problem: str = ""
    grey: bool = False


@dataclass
class Translator:
    """A trained model of pairs of texts with what is needed to use it.

    Args:
        model: encode, decode, start and step, in evaluation mode.
        prepare: of the checkpoint.
        beams, length_penalty: of the search, unless another is asked for; those of the run's test.
        device: where the model is.
        max_steps: tokens that are written of an image.
    """

    model: nn.Module
    prepare: Any
    beams: int = 4
    length_penalty: float = 0.6
    device: str = "cpu"
    max_steps: int = 50

    def __post_init__(self) -> None:
        # What the model cannot take is cut, and said, as what was too long for training.
        limits = [n for n in (self.prepare.max_len, getattr(self.model, "max_len", None)) if n is not None]
        self.prepare = replace(self.prepare, max_len=min(limits, default=None))

    @property
    def tokenizer(self) -> Tokenizer:
        """Of what is written."""
        return self.prepare.tgt_tokenizer

    @property
    def way(self) -> str:
        """What becomes what."""
        return "from {} to {}".format(*self.prepare.sides)

    def describe(self) -> str:
        """One line on what answers."""
        known = f"{self.tokenizer.vocab_size - len(PAIR_SPECIAL):,} {PIECES[self.tokenizer.kind]}"
        return f"{type(self.model).__name__}, {self.way}, which it writes in {known}."

    def open(self, value: str) -> list[str]:
        """The sources that a user means: the lines of a file, or a single text.

        Raises:
            UserError: the file is missing, empty or no text; or it is an image.
        """
        path = Path(os.path.expanduser(value))  # noqa: PTH111 - pathlib's raises where ~ begins no home
        names_one = len(value.split()) == 1
        is_folder = names_one and os.sep in value and is_there(path, "is_dir")
        if is_folder or (names_one and path.suffix.lower() in EXTENSIONS):
            kind = "a folder" if is_folder else "an image"
            raise UserError(f"{value} is {kind}, and this model was trained on texts; give it a text, or a text file.")
        if (names_one and path.suffix.lower() in TEXT_FILES) or is_there(path, "is_file"):
            return lines_of(path)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UserError("input= holds bytes that are no text in the encoding of this terminal.") from None
        return [" ".join(value.splitlines())]

    def notes(self, texts: Sequence[str]) -> list[str]:
        """What the user should know of texts, a line each: what of them the model cannot read, or not to their end."""
        numbers = self.prepare.cut(texts, 0)
        notes = self.prepare.finish(texts, numbers, 0)[1] if any(text.strip() for text in texts) else []
        if len(texts) > 1:
            room = self.prepare.max_len
            long = [str(i) for i, some in enumerate(numbers, start=1) if room is not None and len(some) >= room]
            empty = [str(i) for i, text in enumerate(texts, start=1) if not text.strip()]
            for what, places in {"Cut": long, "Empty, and answered with nothing": empty}.items():
                notes += [f"{what}: line{'s' * (len(places) > 1)} {listed(places)}."] if places else []
        return notes

    def answers(
        self, sources: Iterable[str], *, beams: int | None = None, length_penalty: float | None = None
    ) -> Iterator[Answer]:
        """An answer to each source, in their order. A text of white space has an empty one."""
        search = {
            "beams": self.beams if beams is None else beams,
            "length_penalty": self.length_penalty if length_penalty is None else length_penalty,
        }
        waiting = iter(sources)
        while block := list(islice(waiting, BLOCK)):
            yield from self.block(block, search)

    def block(self, texts: list[str], search: dict[str, Any]) -> Iterator[Answer]:
        """The answers to texts that are in memory together."""
        found = {i: Answer(text, "") for i, text in enumerate(texts) if not text.strip()}
        asked = [i for i in range(len(texts)) if i not in found]
        if asked:
            tokens, _ = self.prepare.encode([texts[i] for i in asked])
            for rows in tokens.lengths.argsort(stable=True).split(BATCH):
                src, mask = (part.to(self.device) for part in tokens[rows])  # (B, S) each
                numbers = self.written(src.long(), mask, search)
                found |= {asked[row]: self.answer(texts[asked[row]], own)
                          for row, own in zip(rows.tolist(), numbers, strict=True)}  # fmt: skip
        yield from (found[i] for i in range(len(texts)))

    def written(self, src: Tensor, mask: Tensor | None, search: dict[str, Any]) -> list[list[int]]:
        ends: dict[str, Any] = {"bos": BOS_NUMBER, "eos": EOS_NUMBER, "banned": NEVER_WRITTEN}
        return answers(self.model, src, mask, max_steps=self.max_steps, **ends, **search)

    def answer(self, source: str, numbers: list[int]) -> Answer:
        text = text_of(self.tokenizer, numbers)
        return Answer(source, " ".join(text.splitlines()), numbers)  # a model of characters may write a new line

    def draw(self, text: str, *, seed: int = 0, **sampling: Any) -> Answer:
        """An answer that is drawn by chance, not searched for.

        Args:
            seed: the same one gives the same answer.
            sampling: temperature, top_k and top_p; see `zoo.decoding.sample`.
        """
        if not text.strip():
            return Answer(text, "")
        model: Any = self.model
        src, mask = self.source(text)
        room = min(2 * src.shape[1] + 10, getattr(model, "max_len", None) or 2**31)  # as much as a search has
        with torch.no_grad():
            state = model.start(model.encode(src, mask), mask)
        first = torch.full((1, 1), BOS_NUMBER, device=self.device)  # (1, 1)
        generator = torch.Generator().manual_seed(seed)
        options: dict[str, Any] = {"steps": room, "generator": generator, "banned": NEVER_WRITTEN} | sampling
        numbers = sample(model.step, first, state, **options)[0].tolist()
        return self.answer(text, numbers[: numbers.index(EOS_NUMBER) + 1] if EOS_NUMBER in numbers else numbers)

    def source(self, text: str) -> tuple[Tensor, Tensor | None]:
        """One source as the model takes it, and its mask; (1, S) each."""
        tokens, _ = self.prepare.encode([text])
        src, mask = tokens[torch.tensor([0])]
        return src.long().to(self.device), mask.to(self.device)

    def line(self, answer: Answer) -> str:
        """An answer as it is printed."""
        return answer.text

    def look(self, answer: Answer) -> dict[str, Any]:
        """Figures of what the model looked at while it wrote an answer; {} where it wrote nothing.

        Raises:
            UserError: it looks at nothing.
        """
        src, mask = self.source(answer.source)
        layers = looked_at(self.model, src, mask, answer.numbers, bos=BOS_NUMBER)  # {name: (heads, T, S)}
        if not layers and answer.numbers:
            raise UserError(
                f"This {type(self.model).__name__} has no attention that could be shown; leave alignment= out."
            )
        return self.figures(answer, src, layers, pieces(self.tokenizer, answer.numbers)) if layers else {}

    def figures(self, answer: Answer, src: Tensor, layers: dict[str, Tensor], written: list[str]) -> dict[str, Any]:
        """See `zoo.pictures.attention.of_layers`."""
        return of_layers(layers, pieces(self.prepare.src_tokenizer, src[0].tolist()), written)


class Describer(Translator):
    """A trained model of captions. Its sources are names of images."""

    def __post_init__(self) -> None:  # there is nothing to cut
        pass

    @property
    def way(self) -> str:
        image = self.prepare.image
        return f"from an image ({image.channels}x{image.height}x{image.width}) to a sentence"

    def open(self, value: str) -> list[str]:
        """The images that a user means: a file, or all in a folder and below it, in the order of their names.

        Raises:
            UserError: there is none.
        """
        path = Path(os.path.expanduser(value))  # noqa: PTH111 - see above
        if not path.exists():
            raise UserError(f"There is no image at {value}; this model says what an image shows, so give it one.")
        if path.suffix.lower() in TEXT_FILES and path.is_file():
            raise UserError(f"{value} is no image, and this model was trained on images; give it one, or a folder.")
        files = image_files(path) if path.is_dir() else [path]
        if not files:
            raise UserError(f"There is no image in {value}; input= takes an image or a folder with images.")
        return [str(file) for file in files]

    def notes(self, texts: Sequence[str]) -> list[str]:
        return []

    def block(self, texts: list[str], search: dict[str, Any]) -> Iterator[Answer]:
        """The answers to images; of those that cannot be read, what is wrong."""
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(texts), BATCH):
                files = texts[start : start + BATCH]
                opened = list(pool.map(self.attempt, files))
                good = {file: image for file, image in zip(files, opened, strict=True) if isinstance(image, Tensor)}
                numbers: list[list[int]] = []
                if good:
                    images = self.prepare.image(torch.stack(list(good.values())).to(self.device))  # (B, C, H, W)
                    numbers = self.written(images, None, search)
                found = dict(zip(good, numbers, strict=True))
                for file, image in zip(files, opened, strict=True):
                    if isinstance(image, Tensor):
                        yield replace(self.answer(file, found[file]), grey=is_grey(image))
                    else:
                        yield Answer(file, "", problem=str(image))

    def line(self, answer: Answer) -> str:
        return f"{answer.source}: {answer.text}"

    def attempt(self, file: str) -> Tensor | UserError:
        """(C, H, W) uint8, or why not."""
        try:
            image: Tensor = self.prepare.image.open(file)
        except UserError as error:
            return error
        return image

    def source(self, text: str) -> tuple[Tensor, Tensor | None]:
        return self.prepare.image(self.prepare.image.open(text)[None].to(self.device)), None  # (1, C, H, W)

    def figures(self, answer: Answer, src: Tensor, layers: dict[str, Tensor], written: list[str]) -> dict[str, Any]:
        """See `zoo.pictures.attention.over_image`."""
        mean = torch.stack([weights.mean(0) for weights in layers.values()]).mean(0)  # (T, S)
        return {"attention": over_image(src[0], mean, written, Path(answer.source).name)}


def remarks(found: Sequence[Answer], total: int) -> list[str]:
    """What is to be said of images once all are answered, a line each.

    Args:
        found: at least those answers that have something to say.
        total: how many were asked for.

    Raises:
        UserError: none of them could be read.
    """
    problems, grey = [a.problem for a in found if a.problem], [a.source for a in found if a.grey]
    if len(problems) == total:
        raise UserError(problems[0] if total == 1 else f"None of the {total} images could be read.")
    said = [f"{len(problems)} of {total} could not be read and were skipped."] if problems else []
    return said + ([f"Without colours, and the model was trained on some: {listed(grey)}."] if grey else [])


def is_there(path: Path, question: str) -> bool:
    """What `path.is_file()` or `path.is_dir()` answers; a text may be too long for a name."""
    try:
        return bool(getattr(path, question)())
    except (OSError, ValueError):
        return False


def is_grey(image: Tensor) -> bool:
    """Whether an image of colours, (C, H, W), has none."""
    return len(image) > 1 and bool((image == image[:1]).all())


def lines_of(path: Path) -> list[str]:
    """The lines of a text file. Raises UserError where it is missing, empty or no text."""
    if not path.is_file():
        raise UserError(f"There is no file {path}; give the name of one, or a text.")
    try:
        lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8 (byte {error.start}); save it as UTF-8.") from None
    if not any(line.strip() for line in lines):
        raise UserError(f"{path} is empty; write one text a line into it.")
    return lines


def load(source: str | Path, allow: Sequence[str] = ()) -> Translator:
    """The model of a checkpoint, ready to be used, on the GPU where there is one.

    Args:
        source: run folder (its best), or .ckpt.
        allow: see `zoo.checkpoint.load_model`.

    Raises:
        UserError: no checkpoint, one that was refused, or one of a model for something else.
    """
    path = find(source)
    return translator_of(read(path), path, allow)


def translator_of(checkpoint: dict[str, Any], path: Path, allow: Sequence[str] = ()) -> Translator:
    """The model of a checkpoint that was read from `path`; see `load`."""
    kind = purpose(checkpoint)
    if kind not in (PAIRS, CAPTIONS):
        raise misplaced(
            path, checkpoint, "makes no text of a text or an image", "python train.py model=seq2seq data=dates"
        )
    task, saved = task_of(checkpoint), checkpoint["preprocessing"]
    prepare: Any = PairPreprocessing.from_dict(saved) if kind == PAIRS else CaptionPreprocessing.from_dict(saved)
    check_sizes(prepare, checkpoint["config"].get("model") or {}, path)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build_model(checkpoint, path, allow).to(device)
    search = int(task.get("beams", 4)), float(task.get("length_penalty", 0.6))
    make = Translator if kind == PAIRS else Describer
    return make(model, prepare, *search, device, int(task.get("max_steps", 50)))


def check_sizes(prepare: Any, model: dict[str, Any], path: Path) -> None:
    """Raises UserError where the model was built for other vocabularies or images than those beside it."""
    sizes = {"tgt_vocab_size": prepare.tgt_tokenizer.vocab_size}
    if isinstance(prepare, PairPreprocessing):
        sizes["src_vocab_size"] = prepare.src_tokenizer.vocab_size
    for key, size in sizes.items():
        if model.get(key, size) != size:
            raise UserError(
                f"The vocabulary in {path} has {size} tokens, and its model {key}={model[key]}; train it anew."
            )
    image = getattr(prepare, "image", None)
    shape = None if image is None else [image.channels, image.height, image.width]
    if shape is not None and model.get("image_shape", shape) != shape:
        raise UserError(
            f"The images in {path} are {shape} (channels, height, width), and its model has "
            f"image_shape={model['image_shape']}; train it anew."
        )
