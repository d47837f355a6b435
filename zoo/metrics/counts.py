"""Counts over a whole part, summed over processes.

torchmetrics has both. Where torch is to be deterministic, and on Apple's GPUs, it counts by comparing every number with
every bin: for 500 images, ten classes and 51 thresholds 4 GB, and seconds instead of a millisecond. Whole numbers added
up are the same in any order, so nothing here needs that.

Axes: B batch, K classes, T thresholds
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.metrics.overlaps import pixel_confusion


class RankCounts(Metric):
    """How many samples of each class a model finds at each threshold: what precision against recall is drawn from.

    Args:
        num_classes: K.
        thresholds: T, from 0 to 1 in equal steps; a probability is above one that it equals.

    Attributes:
        confmat: (T, K, 2, 2) int64; rows: whether it is of the class, columns: whether it is said to be.
    """

    def __init__(self, num_classes: int, thresholds: int) -> None:
        super().__init__()
        self.add_state("confmat", torch.zeros(thresholds, num_classes, 2, 2, dtype=torch.long), dist_reduce_fx="sum")
        self.register_buffer("thresholds", torch.linspace(0, 1, thresholds), persistent=False)

    def update(self, chances: Tensor, there: Tensor) -> None:
        """Probabilities (B, K), and whether each sample is of each class, (B, K) bool."""
        steps, classes = self.confmat.shape[:2]
        at_least = torch.promote_types(chances.dtype, torch.float32)  # a threshold must not be rounded
        borders = self.thresholds.to(at_least)
        passed = torch.bucketize(chances.to(at_least).contiguous(), borders, right=True)  # (B, K), thresholds reached
        group = 2 * torch.arange(classes, device=chances.device) + there.long()  # (B, K), class and whether it is true
        places = ((steps + 1) * group + passed).flatten()
        histogram = torch.bincount(places, minlength=2 * classes * (steps + 1)).view(classes, 2, steps + 1)
        above = histogram.flip(2).cumsum(2).flip(2)  # (K, 2, T + 1), those that pass this many or more
        said = above[:, :, 1:]
        self.confmat += torch.stack([above[:, :, :1] - said, said], 3).permute(2, 0, 1, 3)

    def compute(self) -> Tensor:
        return self.confmat


class PixelCounts(Metric):
    """The confusion matrix of pixels.

    Args:
        num_classes: K.
        unknown: a true class that is none; such pixels are left out.

    Attributes:
        confmat: (K, K) int64; rows are true, columns are said.
    """

    def __init__(self, num_classes: int, unknown: int) -> None:
        super().__init__()
        self.num_classes, self.unknown = num_classes, unknown
        self.add_state("confmat", torch.zeros(num_classes, num_classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, said: Tensor, true: Tensor) -> None:
        """Classes of one shape, whole numbers."""
        self.confmat += pixel_confusion(said, true, self.num_classes, self.unknown)

    def compute(self) -> Any:
        return self.confmat
