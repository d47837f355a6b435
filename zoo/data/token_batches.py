"""Batches by the number of tokens: many short sequences, or few long ones, about the same work each.

Vaswani et al., "Attention is all you need", 2017, section 5.1: sequences of about the same length are batched together,
each batch with about as many tokens.

Axes: N samples in a part, B batch
"""

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from zoo.data.base import BatchOrder
from zoo.errors import UserError

STEPS = 8  # lengths from L to L + L/8 count as one


class TokenBatches(BatchOrder):
    """Batches of at most `batch_tokens` places, padding included, an order that is a pure function of (seed, epoch).

    Samples of about one length are shuffled among themselves, and the line of all, from short to long, is cut where a
    batch is full. A cut looks at the longest that there may be, not at the sample that came there, so every epoch has
    the same number of batches with other samples in them; then the batches are shuffled. Each sample comes once.

    A process takes every `world_size`-th sample of a batch, as in `BatchOrder`.

    Args:
        lengths: (N,) int64, of the samples: of the longer one of source and target.
        batch_tokens: B times the longest sequence of a batch is at most that, over all processes.
        shuffle, seed, rank, world_size: see `BatchOrder`; without shuffling the batches go from short to long.

    Raises:
        UserError: a sample is longer than `batch_tokens`.
    """

    def __init__(
        self,
        lengths: Tensor,
        batch_tokens: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(len(lengths), 1, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)
        if len(lengths) and int(lengths.max()) > batch_tokens:
            raise UserError(
                f"data.batch_tokens={batch_tokens} has no room for the longest training pair, of {int(lengths.max())} "
                "tokens; give a larger one, or leave long pairs out with data.max_len."
            )
        self.lengths, self.batch_tokens = lengths, batch_tokens

    @cached_property
    def bands(self) -> list[Tensor]:
        """Indices of the samples of about one length, from short to long."""
        order = self.lengths.argsort(stable=True)  # (N,)
        ends, place, sorted_lengths = [], 0, self.lengths[order].contiguous()
        while place < len(order):
            shortest = int(sorted_lengths[place])
            last = torch.tensor(shortest + shortest // STEPS)
            end = int(torch.searchsorted(sorted_lengths, last, right=True))
            ends.append(end - place)
            place = end
        return list(order.split(ends)) if ends else []

    @cached_property
    def sizes(self) -> list[int]:
        """How many samples each batch has, from short to long; the same in every epoch."""
        sizes, count, room = [], 0, 0
        for band in self.bands:
            longest, left = int(self.lengths[band].max()), len(band)
            room = self.batch_tokens // longest  # samples of a batch that ends in this band
            if count >= room:  # what waits from shorter bands would not fit with one of these
                sizes.append(count)
                count = 0
            while count + left >= room:
                sizes.append(room)
                left -= room - count
                count = 0
            count += left
        if count and sizes and count < room // 2:  # no batch of next to nothing: the last two share theirs
            both = sizes.pop() + count
            sizes.append(both - min(room, both // 2))
            count = min(room, both // 2)
        return [*sizes, count] if count else sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Tensor]:
        bands, places = self.bands, list(range(len(self)))
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            bands = [band[torch.randperm(len(band), generator=generator)] for band in bands]
            places = torch.randperm(len(self), generator=generator).tolist()
        batches = torch.cat(bands).split(self.sizes) if bands else ()
        for place in places[self.first_batch :]:
            yield batches[place][self.rank :: self.world_size]
