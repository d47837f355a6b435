"""Windows of running text, and two orders to read them in.

    stream     the text lies in B rows, each a stretch of it; batch k has the k-th window of every row, so row r of a
               batch goes on where row r of the batch before ended, and a recurrent state can be carried along
    windows    windows of one length from all over the text, shuffled, for models that start anew with each

Which text a batch has is a pure function of seed, epoch and its place in the epoch. A process takes every
`world_size`-th row, and a row stays in its process.

Axes: N tokens of a part, B rows, T tokens of a window, L tokens of a row
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.batches import TokenBatch
from zoo.data.base import BatchOrder

BATCHINGS = ("stream", "windows")


class Span(NamedTuple):
    """Where the rows of a batch lie.

    starts: (B,) place of each row's first token.
    length: T, of every row.
    continues: whether each row goes on where the same row of the batch before ended.
    """

    starts: Tensor
    length: int
    continues: bool = False


class ContinuedBatch(TokenBatch):
    """Windows that go on where those of the batch before ended."""

    continues = True


class Windows(Dataset):
    """A text of N tokens; what is to be predicted is the token after each, so it has N - 1 targets.

    Args:
        tokens: (N,) numbers of the vocabulary, N > 1.
        length: T. Seen as a data set, the text is N - 1 over T windows, rounded up; the last one is moved to be whole.
    """

    def __init__(self, tokens: Tensor, length: int) -> None:
        self.tokens, self.length = tokens, length

    @property
    def num_targets(self) -> int:
        return max(0, len(self.tokens) - 1)

    def __len__(self) -> int:
        return -(-self.num_targets // self.length)

    def __getitem__(self, place: Tensor | Span) -> TokenBatch:
        """The batch of a span, or of window numbers (B,)."""
        if not isinstance(place, Span):
            length = min(self.length, self.num_targets)
            place = Span((place * self.length).clamp(max=self.num_targets - length), length)
        rows = self.tokens.unfold(0, place.length + 1, 1)[place.starts].long()  # (B, T + 1)
        kind = ContinuedBatch if place.continues else TokenBatch
        return kind(rows[:, :-1], rows[:, 1:])

    def prefix(self, num_targets: int) -> "Windows":
        """The beginning of the text."""
        return Windows(self.tokens[: num_targets + 1], self.length)


class StreamOrder(BatchOrder):
    """Row r of a batch goes on where row r of the batch before ended.

    The N - 1 targets are cut into B rows of equal length; what is left, fewer than B, comes last in one row of its own.
    Training leaves that rest out: a step on so little would be mostly noise.

    Args:
        num_targets: N - 1.
        batch_size: B over all processes.
        window: T; the last window of a row may be shorter.
        shuffle: whether it is for training; the order itself is always that of the text.
        options: see `BatchOrder`.
    """

    def __init__(self, num_targets: int, batch_size: int, *, window: int, shuffle: bool, **options: int) -> None:
        super().__init__(num_targets, batch_size, shuffle=shuffle, **options)
        self.window, self.row_length = window, num_targets // batch_size
        self.rest = 0 if shuffle else num_targets % batch_size

    def __len__(self) -> int:
        return -(-self.row_length // self.window) - (-self.rest // self.window)

    def __iter__(self) -> Iterator[Span]:  # type: ignore[override]
        in_rows = -(-self.row_length // self.window)
        for step in range(self.first_batch, len(self)):
            is_rest = step >= in_rows
            begin = (step - in_rows * is_rest) * self.window  # within the row
            first_row, num_rows = (self.batch_size, 1) if is_rest else (0, self.batch_size)
            rows = torch.arange(first_row, first_row + num_rows)[self.rank :: self.world_size]  # (B,)
            length = min(self.window, (self.rest if is_rest else self.row_length) - begin)
            yield Span(rows * self.row_length + begin, length, continues=begin > 0)


class WindowOrder(BatchOrder):
    """Windows that do not overlap; in training an epoch begins at a random place and shuffles them.

    Without shuffling, the last window may be shorter; it is a batch of its own, and each target comes once. An epoch of
    training has up to two windows less, so that there is a choice of beginnings.

    Args:
        num_targets, batch_size, window, options: see `StreamOrder`; a batch has `batch_size` windows.
        shuffle: whether it is for training.
    """

    def __init__(self, num_targets: int, batch_size: int, *, window: int, shuffle: bool, **options: int) -> None:
        super().__init__(num_targets, batch_size, shuffle=shuffle, **options)
        self.window = window
        whole = num_targets // window
        self.num_windows = max(1, whole - 1) if shuffle else whole
        self.rest = 0 if shuffle else num_targets % window

    def __len__(self) -> int:
        return -(-self.num_windows // self.batch_size) + (self.rest > 0)

    def __iter__(self) -> Iterator[Span]:  # type: ignore[override]
        starts = torch.arange(self.num_windows) * self.window  # (W,)
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            spare = self.num_samples - self.num_windows * self.window
            starts = starts + torch.randint(spare + 1, (1,), generator=generator)
            starts = starts[torch.randperm(self.num_windows, generator=generator)]
        for step in range(self.first_batch, len(self)):
            batch = starts[step * self.batch_size : (step + 1) * self.batch_size]  # (B,)
            length = self.window
            if len(batch) == 0:
                batch, length = torch.tensor([self.num_windows * self.window]), self.rest  # (1,)
            yield Span(batch[self.rank :: self.world_size], length)
