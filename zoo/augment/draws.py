"""Random numbers of samples: a pure function of (seed, epoch, index of the sample, number of the draw).

No generator is drawn from. Each random number is the hash of its own address, so a sample comes out alike in every
batch, worker and process, a resumed run goes on with the same pixels, and an operation that is turned on leaves what
the others draw as it was.

The hash is splitmix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014): value i of
the stream that starts at `state` is mix(state + (i + 1) * golden). Streams are nested: a value of the seed's stream
starts the epoch's, and a value of that starts the sample's.

Axes: B batch, N draws, P values of a sample
"""

import copy
import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

# Odd constants of splitmix64; int64 holds the same 64 bits with a sign.
GOLDEN, FIRST, SECOND = (c - 2**64 for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
NOISE = 16  # the first of the draws of noise; four values are made of each


def shift_right(bits: Tensor, places: int) -> Tensor:
    """Moves 64 bits down and zeros in from above, which `>>` of a negative number would not."""
    return (bits >> places).bitwise_and_((1 << (64 - places)) - 1)


def split(state: Tensor, number: Tensor) -> Tensor:
    """Value `number` of the splitmix64 stream that starts at `state`: int64, broadcast, all 64 bits random."""
    bits = state + (number + 1) * GOLDEN
    bits = (bits ^ shift_right(bits, 30)).mul_(FIRST)
    bits = (bits ^ shift_right(bits, 27)).mul_(SECOND)
    return bits ^ shift_right(bits, 31)


@lru_cache(maxsize=8)
def of_epoch(epoch: int, seed: int) -> int:
    """Where the streams of an epoch's samples come from; kept, since each batch asks for it."""
    return int(split(torch.tensor(seed), torch.tensor(epoch)))


@lru_cache(maxsize=1)
def normal_medians() -> Tensor:
    """(65536,) float32: the standard normal distribution in parts of equal probability, the median of each."""
    return torch.special.ndtri((torch.arange(2**16, dtype=torch.float64) + 0.5) * 2.0**-16).float()


class Draws:
    """The random numbers of the samples of a batch.

    Args:
        indices: (B,) int64, the place of each sample in the training part.
        epoch, seed: whole numbers.
    """

    def __init__(self, indices: Tensor, epoch: int, seed: int) -> None:
        self.device = indices.device
        self.streams = split(self._tensor(of_epoch(epoch, seed)), indices)  # (B,)

    def _tensor(self, numbers: int | Sequence[int]) -> Tensor:
        return torch.tensor(numbers, device=self.device)

    def __getitem__(self, part: slice) -> "Draws":
        """Those of some of the samples."""
        some = copy.copy(self)
        some.streams = self.streams[part]
        return some

    def bits(self, number: int | Sequence[int]) -> Tensor:
        """24 random bits each, int64: (B,) for one draw or (N, B) for several, which cost no more."""
        return shift_right(split(self.streams, self._tensor(number).unsqueeze(-1)), 40)

    def uniform(self, number: int | Sequence[int]) -> Tensor:
        """(B,) float32 in [0, 1), multiples of 2^-24; (N, B) for several draws."""
        return self.bits(number) * 2.0**-24

    def below(self, limit: int, number: int | Sequence[int]) -> Tensor:
        """(B,) int64, each of 0 to limit - 1 alike; (N, B) for several draws."""
        return self.bits(number) * limit >> 24

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """(B, *shape) float32 of mean 0 and deviation 1, none beyond 4.33: the median that 16 random bits point at."""
        size = math.prod(shape)  # P
        numbers = torch.arange(NOISE, NOISE + -(-size // 4), device=self.device)  # (P / 4,)
        bits = split(self.streams.unsqueeze(1), numbers).view(torch.uint16)[:, :size]  # (B, P)
        return normal_medians().to(self.device).index_select(0, bits.int().flatten()).view(-1, *shape)
