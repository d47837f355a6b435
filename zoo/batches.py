"""What data hands to tasks: NamedTuples of tensors.

Every batch has `.inputs`, the tuple that a model is called with, and `.targets`, what its answer is compared with.

Axes: B batch, C channels, H height, W width, F features, K classes or target columns
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
