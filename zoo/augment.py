"""Augmentation: training samples changed at random, a pure function of (seed, epoch, index of the sample).

No generator is drawn from. Each random number is the hash of its own address (seed, epoch, sample, number of the draw),
so a sample comes out alike in every batch, worker and process, and a resumed run goes on with the same pixels.

The hash is splitmix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014): value i of
the stream that starts at `state` is mix(state + (i + 1) * golden). Streams are nested: a value of the seed's stream
starts the epoch's, and a value of that starts the sample's.

Axes: B batch, C channels, H height, W width, F features
"""

import math

import torch
from torch import Tensor

from zoo.errors import UserError

# Odd constants of splitmix64; int64 holds the same 64 bits with a sign.
GOLDEN, FIRST, SECOND = (c - 2**64 for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
# The number of each draw of a sample: an operation that is turned on leaves the others as they were.
FLIP, DOWN, RIGHT, HOLE_ROW, HOLE_COLUMN = range(5)
NOISE = 16  # the first of the draws of noise, one for each value


def shift_right(bits: Tensor, places: int) -> Tensor:
    """Moves 64 bits down and zeros in from above, which `>>` of a negative number would not."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


def split(state: Tensor, number: Tensor) -> Tensor:
    """Value `number` of the splitmix64 stream that starts at `state`: int64, broadcast, all 64 bits random."""
    bits = state + (number + 1) * GOLDEN
    bits = (bits ^ shift_right(bits, 30)) * FIRST
    bits = (bits ^ shift_right(bits, 27)) * SECOND
    return bits ^ shift_right(bits, 31)


class Draws:
    """The random numbers of the samples of a batch.

    Args:
        indices: (B,) int64, the place of each sample in the training part.
        epoch, seed: whole numbers.
    """

    def __init__(self, indices: Tensor, epoch: int, seed: int) -> None:
        self.device = indices.device
        of_epoch = split(self._tensor(seed), self._tensor(epoch))  # ()
        self.streams = split(of_epoch, indices)  # (B,)

    def _tensor(self, number: int) -> Tensor:
        return torch.tensor(number, device=self.device)

    def uniform(self, number: int) -> Tensor:
        """(B,) float32 in [0, 1), multiples of 2^-24."""
        return shift_right(split(self.streams, self._tensor(number)), 40) * 2.0**-24

    def below(self, limit: int, number: int) -> Tensor:
        """(B,) int64, each of 0 to limit - 1 alike."""
        return shift_right(split(self.streams, self._tensor(number)), 40) * limit >> 24

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """(B, *shape) float32 of mean 0 and deviation 1, by Box and Muller (1958): two uniforms make one of them."""
        numbers = torch.arange(NOISE, NOISE + math.prod(shape), device=self.device)  # (P,)
        bits = split(self.streams.unsqueeze(1), numbers)  # (B, P)
        radius = ((shift_right(bits, 40) + 1) * 2.0**-24).log_().mul_(-2).sqrt_()  # of a uniform in (0, 1]
        angle = ((bits & (2**24 - 1)) * (2 * math.pi * 2.0**-24)).cos_()  # the lowest 24 bits, not the highest
        return (radius * angle).view(-1, *shape)


class ImageAugment:
    """Changes raw images; each operation is off at 0. In order: flip, shift, noise, cutout.

    Args:
        flip: probability that an image is mirrored left to right (Krizhevsky, Sutskever, Hinton 2012, section 4.1).
        shift: most pixels that an image moves, along each axis; what comes in from outside is 0. The same as to pad
            by `shift` and crop at random (Krizhevsky et al. 2012; with 4 pixels, He et al. 2016, section 4.2).
        noise: standard deviation of Gaussian noise on each pixel, on the scale 0 to 255, where it is clipped.
        cutout: side of a square of zeros in pixels; its centre is anywhere in the image, so that it may lie partly
            outside (DeVries, Taylor 2017, arXiv 1708.04552, section 3.2; they fill with the mean of the data).
    """

    suits_what, batch_type = "images", "ImageBatch"

    def __init__(self, *, flip: float = 0.0, shift: int = 0, noise: float = 0.0, cutout: int = 0) -> None:
        if not 0 <= flip <= 1 or min(shift, noise, cutout) < 0:
            raise UserError(
                f"augment.flip={flip} must lie in [0, 1], and augment.shift={shift}, augment.noise={noise} and "
                f"augment.cutout={cutout} must not be negative."
            )
        self.flip, self.shift, self.noise, self.cutout = flip, shift, noise, cutout

    @classmethod
    def suits(cls, batch_type: str, rows: Tensor) -> bool:
        """Whether raw samples `rows` that become a batch of this type can be augmented."""
        return batch_type == cls.batch_type and rows.ndim == 4 and rows.dtype == torch.uint8

    def __call__(self, images: Tensor, indices: Tensor, epoch: int, seed: int) -> Tensor:
        """(B, C, H, W) uint8 and the (B,) places of the samples in the training part -> (B, C, H, W) uint8."""
        draws = Draws(indices, epoch, seed)
        if self.flip:
            mirrored = draws.uniform(FLIP) < self.flip  # (B,)
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
        if self.shift:
            images = self._move(images, draws)
        if self.noise:
            noise = draws.normal(tuple(images.shape[1:])) * self.noise  # (B, C, H, W)
            images = (images + noise).round_().clamp_(0, 255).to(torch.uint8)
        if self.cutout:
            images = images.masked_fill(self._hole(images, draws), 0)
        return images

    def _move(self, images: Tensor, draws: Draws) -> Tensor:
        """Crops each padded image at a place of its own."""
        height, width = images.shape[2:]
        padded = torch.nn.functional.pad(images, (self.shift,) * 4)
        crops = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, places, places, H, W), a view
        top, left = (draws.below(2 * self.shift + 1, number) for number in (DOWN, RIGHT))  # (B,)
        return crops[torch.arange(len(images), device=images.device), :, top, left]  # (B, C, H, W)

    def _hole(self, images: Tensor, draws: Draws) -> Tensor:
        """(B, 1, H, W), True inside each image's square."""
        inside = []
        for size, number in zip(images.shape[2:], (HOLE_ROW, HOLE_COLUMN), strict=True):
            first = draws.below(size, number).unsqueeze(1) - self.cutout // 2  # (B, 1)
            place = torch.arange(size, device=images.device)  # (size,)
            inside.append((place >= first) & (place < first + self.cutout))  # (B, size)
        return (inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1)


class TableAugment:
    """Adds Gaussian noise to every feature of a table, those that encode text included.

    Args:
        noise: standard deviation, in units of the features; a column of numbers has deviation 1.
    """

    suits_what, batch_type = "tables", "TableBatch"

    def __init__(self, *, noise: float = 0.0) -> None:
        if noise < 0:
            raise UserError(f"augment.noise={noise} must not be negative.")
        self.noise = noise

    @classmethod
    def suits(cls, batch_type: str, rows: Tensor) -> bool:
        """Whether raw samples `rows` that become a batch of this type can be augmented."""
        return batch_type == cls.batch_type and rows.ndim == 2 and rows.is_floating_point()

    def __call__(self, rows: Tensor, indices: Tensor, epoch: int, seed: int) -> Tensor:
        """(B, F) floats and the (B,) places of the samples in the training part -> (B, F)."""
        if not self.noise:
            return rows
        return rows + self.noise * Draws(indices, epoch, seed).normal(tuple(rows.shape[1:])).to(rows.dtype)
