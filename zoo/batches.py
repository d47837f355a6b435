"""What data hands to tasks: NamedTuples of tensors.

Every batch has `.inputs`, the tuple that a model is called with, and `.targets`, what its answer is compared with.

Axes: B batch, C channels, H height (of an image) or horizon (of a series), W width, F features, K classes or target
columns, T steps, L steps of the past
"""

from typing import NamedTuple

from torch import Tensor


class ImageBatch(NamedTuple):
    """Images with one label each.

    image: (B, C, H, W) float, already normalized.
    label: (B,) int64 class index, or (B, K) float in {0, 1} for several labels an image.
    """

    image: Tensor
    label: Tensor

    @property
    def inputs(self) -> tuple[Tensor]:
        return (self.image,)

    @property
    def targets(self) -> Tensor:
        return self.label


class TableBatch(NamedTuple):
    """Rows of a table.

    x: (B, F) float, already encoded and standardized.
    target: (B,) int64 class index; (B, K) float in {0, 1} for several labels; (B, K) float for regression.
    """

    x: Tensor
    target: Tensor

    @property
    def inputs(self) -> tuple[Tensor]:
        return (self.x,)

    @property
    def targets(self) -> Tensor:
        return self.target


class TextBatch(NamedTuple):
    """Texts with one label each, padded to the longest.

    tokens: (B, T) int64, numbers of the vocabulary.
    mask: (B, T) bool, True where a token is real; padding comes last.
    label: (B,) int64 class index; (B, K) float in {0, 1} for several labels; (B, K) float for regression.
    """

    tokens: Tensor
    mask: Tensor
    label: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        return (self.tokens, self.mask)

    @property
    def targets(self) -> Tensor:
        return self.label


class SequenceBatch(NamedTuple):
    """Sequences of vectors, padded to the longest, with a target for each sequence or for each step.

    x: (B, T, F) float.
    mask: (B, T) bool, True where a step is real; padding comes last.
    target: of a sequence (B,) int64 or (B, K) float; of each step (B, T) int64 or (B, T, K) float.
    """

    x: Tensor
    mask: Tensor
    target: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        return (self.x, self.mask)

    @property
    def targets(self) -> Tensor:
        return self.target


class TokenBatch(NamedTuple):
    """Windows of running text; what is to be predicted at each place is the token after it.

    tokens: (B, T) int64.
    targets: (B, T) int64.
    """

    tokens: Tensor
    targets: Tensor

    @property
    def inputs(self) -> tuple[Tensor]:
        return (self.tokens,)


class SeriesBatch(NamedTuple):
    """Windows of a time series: what is known, and what comes after it.

    past: (B, L, C) float, standardized.
    future: (B, H, C) float, standardized alike.
    """

    past: Tensor
    future: Tensor

    @property
    def inputs(self) -> tuple[Tensor]:
        return (self.past,)

    @property
    def targets(self) -> Tensor:
        return self.future
