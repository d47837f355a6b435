"""Small images of one or two coloured shapes, each with the sentence that says what is to be seen.

Drawn from the seed: "a red circle at the top left", "a green square above a blue triangle", "a yellow circle left of a
red square". Place, size and noise differ from image to image, so none comes twice; the sentences are the same few
hundred in all parts.

Axes: N images of a part, B batch, C = 3 channels, H = W = 32, T steps of a sentence
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.batches import PairBatch
from zoo.data.base import PARTS, DataModule, InMemory, Loaded
from zoo.data.drawing import SHAPES, outlines
from zoo.data.images import ImagePreprocessing, check_size, fingerprint
from zoo.data.pair_preprocessing import PairWords, decoder_steps, load_tokenizer
from zoo.errors import UserError
from zoo.text import EOS_NUMBER, PAIR_SPECIAL, Tokenizer

KIND = "captions"
SIZE = 32  # H and W
COLOURS = {
    **{"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 230)},
    **{"yellow": (230, 210, 40), "purple": (160, 50, 190), "white": (235, 235, 235)},
}
BACKGROUND = 30  # of 255, in each channel
ALONE = (  # where a single shape can be: what is said, and its centre in (y, x)
    *(("in the middle", (15.5, 15.5)), ("at the top left", (8.0, 8.0)), ("at the top right", (8.0, 23.0))),
    *(("at the bottom left", (23.0, 8.0)), ("at the bottom right", (23.0, 23.0))),
)
BETWEEN = ("above", "left of")  # how the first of two shapes lies to the second
RADIUS = (3.5, 5.5)  # pixels


class Scenes(NamedTuple):
    """What is to be seen in N images, two shapes in each, of which the second may be missing.

    shape, colour: (N, 2) int64.
    centre: (N, 2, 2) float, y and x in pixels.
    radius: (N, 2) float.
    pair: (N,) bool, whether there are two.
    place: (N,) int64 of `ALONE` for one, of `BETWEEN` for two.
    """

    shape: Tensor
    colour: Tensor
    centre: Tensor
    radius: Tensor
    pair: Tensor
    place: Tensor


def draw_scenes(number: int, generator: torch.Generator) -> Scenes:
    """N scenes; two in three have two shapes, a clear gap between them."""

    def choice(*size: int, below: int) -> Tensor:
        return torch.randint(below, size, generator=generator)

    def uniform(*size: int, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(*size, generator=generator)

    pair = choice(number, below=3) > 0  # (N,)
    place = torch.where(pair, choice(number, below=len(BETWEEN)), choice(number, below=len(ALONE)))  # (N,)
    along = torch.stack([uniform(number, low=6, high=10), uniform(number, low=21, high=25)], 1)  # (N, 2)
    across = uniform(number, 1, low=9, high=22) + uniform(number, 2, low=-2.5, high=2.5)  # (N, 2)
    two = torch.stack([along, across], 2)  # (N, 2, 2), y and x of one above the other
    two = torch.where((place == BETWEEN.index("left of"))[:, None, None], two.flip(2), two)
    spots = torch.tensor([centre for _, centre in ALONE])  # (5, 2)
    one = spots[place % len(ALONE)] + uniform(number, 2, low=-2, high=2)  # (N, 2)
    return Scenes(
        shape=choice(number, 2, below=len(SHAPES)),
        colour=choice(number, 2, below=len(COLOURS)),
        centre=torch.where(pair[:, None, None], two, one.unsqueeze(1)),
        radius=uniform(number, 2, low=RADIUS[0], high=RADIUS[1]),
        pair=pair,
        place=place,
    )


def paint(scenes: Scenes, generator: torch.Generator, *, noise: float) -> Tensor:
    """Images (N, C, H, W) uint8; `noise` is its standard deviation in grey levels."""
    colours = torch.tensor(list(COLOURS.values()), dtype=torch.float32)  # (6, C)
    images = torch.full((len(scenes.pair), 3, SIZE, SIZE), float(BACKGROUND))
    for i in (0, 1):
        covered = outlines(scenes.shape[:, i], scenes.centre[:, i], scenes.radius[:, i])  # (N, H, W)
        if i == 1:
            covered &= scenes.pair[:, None, None]
        images = torch.where(covered.unsqueeze(1), colours[scenes.colour[:, i]][:, :, None, None], images)
    images += noise * torch.randn(images.shape, generator=generator)
    return images.round_().clamp_(0, 255).to(torch.uint8)


def sentences(scenes: Scenes) -> list[str]:
    """What is to be said of N scenes."""
    names = list(COLOURS)
    found = []
    for shape, colour, pair, place in zip(
        scenes.shape.tolist(), scenes.colour.tolist(), scenes.pair.tolist(), scenes.place.tolist(), strict=True
    ):
        first, second = (f"a {names[c]} {SHAPES[s]}" for c, s in zip(colour, shape, strict=True))
        found.append(f"{first} {BETWEEN[place]} {second}" if pair else f"{first} {ALONE[place][0]}")
    return found


@dataclass(frozen=True)
class CaptionPreprocessing:
    """How a picture becomes the input of a model, and its answer a sentence; it lies in a checkpoint.

    Args:
        image: how pictures are prepared; `image.open(path)` reads one, `image(...)` normalizes.
        tgt_tokenizer: its vocabulary begins with `PAIR_SPECIAL`.
    """

    image: ImagePreprocessing
    tgt_tokenizer: Tokenizer

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "CaptionPreprocessing":
        """The inverse of `to_dict`. Raises UserError where it is of another kind of data, or not understood."""
        if saved.get("kind") != KIND:
            raise UserError(
                f"This model was trained on data of kind '{saved.get('kind')}'; give it that, not captions."
            )
        try:
            return cls(ImagePreprocessing.from_dict(saved["image"]), load_tokenizer(saved["tgt_tokenizer"]))
        except (KeyError, TypeError) as error:
            raise UserError(f"How the checkpoint prepares captions is not understood ({error}).") from error

    def to_dict(self) -> dict[str, Any]:
        return {"kind": KIND, "image": self.image.to_dict(), "tgt_tokenizer": self.tgt_tokenizer.to_dict()}

    def batch(self, images: Tensor, tgt_out: Tensor, index: Tensor) -> PairBatch:
        """Images (B, C, H, W) uint8 and targets (B, longest of the part), padded with 0, -> a batch without a mask."""
        steps = max([1, *(tgt_out != 0).sum(1).tolist()])  # T, of the longest sentence in the batch
        return PairBatch(self.image(images), None, *decoder_steps(tgt_out[:, :steps]), index)

    def targets(self, texts: list[str]) -> Tensor:
        """N sentences -> (N, T) int64, each ended by `<eos>`, 0 where padded."""
        numbers = [torch.tensor([*self.tgt_tokenizer.encode(text), EOS_NUMBER]) for text in texts]
        return torch.nn.utils.rnn.pad_sequence(numbers, batch_first=True)


class Captions(DataModule):
    """Images with a sentence each. Words are lower-cased, and all stand in the vocabulary.

    Saying the same sentence of every image is the best that can be done without looking; the note and the fact
    `baseline_exact_match` say in which share of the test part it is right.

    Args:
        num_train, num_val, num_test: images of each part. Each part has random numbers of its own, so that none
            depends on the size of another.
        noise: its standard deviation, in grey levels of 255.
        blind: every image is blank, so that a model has its language alone: what it says then, it says without looking.
        batch_size, eval_batch_size, seed, fraction, overfit: see `DataModule`.
    """

    src_tokenizer: None = None

    def __init__(
        self,
        *,
        num_train: int = 10_000,
        num_val: int = 1000,
        num_test: int = 1000,
        noise: float = 8.0,
        blind: bool = False,
        batch_size: int | str = 64,
        eval_batch_size: int = 256,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, fraction=fraction, overfit=overfit
        )
        self.sizes = dict(zip(PARTS, (num_train, num_val, num_test), strict=True))
        for part, size in self.sizes.items():
            check_size(f"num_{part}", size, 1)
        if not 0 <= noise <= 100:
            raise UserError(f"data.noise={noise} must be a number from 0 to 100.")
        self.noise, self.blind = noise, blind
        self.texts: dict[str, list[str]] = {}

    @property
    def tgt_tokenizer(self) -> Tokenizer:
        return CaptionPreprocessing.from_dict(self.prepare().preprocessing).tgt_tokenizer

    def references(self, part: str) -> list[str]:
        """The sentences of a part, in the order that `PairBatch.index` counts."""
        self.part(part)
        return self.texts["train" if self.overfit else part]

    def made(self, part: str) -> tuple[Tensor, list[str]]:
        """The images of a part, and their sentences."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + PARTS.index(part))
        scenes = draw_scenes(self.sizes[part], generator)
        images = paint(scenes, generator, noise=self.noise)
        return (images.fill_(BACKGROUND) if self.blind else images), sentences(scenes)

    def load(self) -> Loaded:
        made = {part: self.made(part) for part in PARTS}
        self.texts = {part: texts for part, (_, texts) in made.items()}
        prepare = (
            CaptionPreprocessing.from_dict(self.earlier)
            if self.earlier is not None
            else CaptionPreprocessing(
                ImagePreprocessing.fit(made["train"][0]), PairWords.fit(self.texts["train"], special=PAIR_SPECIAL)
            )
        )
        prepare.image.check(made["train"][0])
        parts = {
            part: InMemory(prepare.batch, images, prepare.targets(texts), torch.arange(len(texts)))
            for part, (images, texts) in made.items()
        }
        frequent = Counter(self.texts["train"]).most_common(1)[0][0]
        share = self.texts["test"].count(frequent) / len(self.texts["test"])
        digest = hashlib.sha256("\0".join(text for texts in self.texts.values() for text in texts).encode())
        digest.update(fingerprint(images for images, _ in made.values()).encode())
        return Loaded(
            parts=dict(parts),
            facts={
                "kind": KIND,
                "image_shape": [3, SIZE, SIZE],
                "tgt_vocab_size": prepare.tgt_tokenizer.vocab_size,
                "baseline_exact_match": share,
            },
            preprocessing=prepare.to_dict(),
            notes=[
                f"{len(set(self.texts['train'])):,} different sentences are in training",
                f"Without looking at the image, '{frequent}' is right in {share:.1%} of the test part",
            ],
            fingerprint=digest.hexdigest()[:16],
        )
