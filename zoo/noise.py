"""Random numbers of training as a pure function of where they are drawn: the same after a resume, on any number of
processes, and whatever was drawn before.

    noise = Noise(seed=0)
    z = noise.normal((64,), at=(epoch, batch, 1), rows=128, like=images)        (B, 64)

They are drawn for the global batch on the CPU, and each process takes its own rows of them: row r of a process is row
rank + r * world_size of the whole, as in `zoo.data`. So a step has the same noise on one process and on several.

Axes: G rows of the global batch, B rows of this process
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def generator_at(*place: int | str) -> torch.Generator:
    """A generator that starts where the place says, on the CPU; near places have nothing in common."""
    digest = hashlib.blake2b(repr(place).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


class Noise:
    """Draws for one run.

    Args:
        seed: of the run.
        rank, world_size: of this process.
    """

    def __init__(self, seed: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.seed, self.rank, self.world_size = seed, rank, world_size

    def uniform(self, shape: Sequence[int], *, at: Sequence[int | str], rows: int, like: Tensor) -> Tensor:
        """(B, *shape) in [0, 1).

        Args:
            shape: of what belongs to one sample.
            at: what tells this draw from all others, such as (epoch, batch, "z").
            rows: G; draws for another G have other values.
            like: (B, ...), whose number of rows, dtype and device are taken.
        """
        drawn = self.own(torch.rand(rows, *shape, generator=generator_at(self.seed, *at)), like)
        return drawn.clamp_(max=1 - torch.finfo(like.dtype).eps / 2)  # 16 bits round up to 1

    def normal(self, shape: Sequence[int], *, at: Sequence[int | str], rows: int, like: Tensor) -> Tensor:
        """(B, *shape) of the standard normal distribution; arguments as in `uniform`."""
        return self.own(torch.randn(rows, *shape, generator=generator_at(self.seed, *at)), like)

    def own(self, drawn: Tensor, like: Tensor) -> Tensor:
        """The rows of this process, (G, ...) -> (B, ...)."""
        rows = drawn[self.rank :: self.world_size][: len(like)]
        if len(rows) < len(like):
            raise ValueError(f"{len(drawn)} rows on {self.world_size} processes are too few for {len(like)} here")
        return rows.to(device=like.device, dtype=like.dtype)
