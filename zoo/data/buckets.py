"""Sequences of different lengths: padded when a batch is made, and batched with others of about their length.

Padding comes last and is 0; a mask says what is real. A batch is padded to its longest sequence, so batches of similar
lengths hold little padding.

Axes: N sequences in a part, B batch, T steps of the longest sequence in a batch
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.data.base import BatchOrder

POOL = 20  # batches


class Ragged:
    """N sequences, one after another in a single tensor.

    Args:
        values: (sum of lengths, ...), any dtype.
        lengths: (N,) int64.
    """

    def __init__(self, values: Tensor, lengths: Tensor) -> None:
        self.values, self.lengths = values, lengths
        self.starts = lengths.cumsum(0) - lengths  # (N,)

    @classmethod
    def of(cls, sequences: Sequence[Tensor]) -> "Ragged":
        """From N tensors (T_i, ...); there must be one."""
        return cls(torch.cat(list(sequences)), torch.tensor([len(sequence) for sequence in sequences]))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) -> (B, T, ...), 0 where padded, and the mask (B, T) that says what is real; T is 1 at least."""
        lengths = self.lengths[indices]  # (B,)
        steps = torch.arange(max([1, *lengths.tolist()]))  # (T,)
        mask = steps < lengths.unsqueeze(1)  # (B, T)
        padded = self.values.new_zeros(*mask.shape, *self.values.shape[1:])  # (B, T, ...)
        places = (self.starts[indices].unsqueeze(1) + steps)[mask]  # (real steps,)
        padded[mask] = self.values[places]
        return padded, mask

    def take(self, indices: Tensor) -> "Ragged":
        padded, mask = self[indices]
        return Ragged(padded[mask], self.lengths[indices])


class Padded(Dataset):
    """Sequences in memory with what belongs to each; an index tensor gives a whole padded batch.

    Args:
        make_batch: (padded (B, T, ...), mask (B, T), rows of each other) -> a batch of `zoo.batches`.
        sequences: N tensors (T_i, ...), or a `Ragged`.
        others: each a tensor with N rows, such as labels, or like `sequences` and padded alike, such as targets of the
            steps (its own mask is not handed on).

    Attributes:
        lengths: (N,) int64, for `Bucketed`.
    """

    def __init__(
        self,
        make_batch: Callable[..., Any],
        sequences: Ragged | Sequence[Tensor],
        *others: Tensor | Ragged | Sequence[Tensor],
    ) -> None:
        self.make_batch = make_batch
        self.sequences = sequences if isinstance(sequences, Ragged) else Ragged.of(sequences)
        self.others = [one if isinstance(one, (Tensor, Ragged)) else Ragged.of(one) for one in others]
        self.lengths = self.sequences.lengths

    def __len__(self) -> int:
        return len(self.sequences)

    def rows(self, indices: Tensor) -> tuple[Tensor, ...]:
        """What `make_batch` makes a batch of: the padded sequences first."""
        others = [one[indices][0] if isinstance(one, Ragged) else one[indices] for one in self.others]
        return *self.sequences[indices], *others

    def __getitem__(self, indices: Tensor) -> Any:
        return self.make_batch(*self.rows(indices))

    def take(self, indices: Tensor) -> "Padded":
        others = [one.take(indices) if isinstance(one, Ragged) else one[indices] for one in self.others]
        return type(self)(self.make_batch, self.sequences.take(indices), *others)


class Bucketed(BatchOrder):
    """Batches of similar lengths, in an order that is a pure function of (seed, epoch, position).

    The samples are shuffled and cut into pools of some batches; each pool is sorted by length and cut into batches, and
    the batches are shuffled. So every epoch has other batches, each sample comes once in it, and short and long batches
    take turns; the smaller batch that may be left over can come anywhere. Without shuffling, samples come as they are.

    Args:
        lengths: (N,), of the samples.
        pool: how many batches are sorted at a time; 1 does not sort at all.
        batch_size, shuffle, seed, rank, world_size: see `BatchOrder`.
    """

    def __init__(self, lengths: Tensor, batch_size: int, *, pool: int = POOL, **options: Any) -> None:
        super().__init__(len(lengths), batch_size, **options)
        self.lengths, self.pool = lengths, pool

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shuffle:
            yield from super().__iter__()
            return
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.num_samples, generator=generator)  # (N,)
        batches: list[Tensor] = []
        for some in order.split(self.pool * self.batch_size):
            by_length = some if self.pool == 1 else some[self.lengths[some].argsort(stable=True)]
            batches += by_length.split(self.batch_size)
        places = torch.randperm(len(batches), generator=generator).tolist()
        for place in places[self.first_batch :]:
            yield batches[place][self.rank :: self.world_size]
