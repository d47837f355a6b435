"""How far two regions agree: intersection over union, and Dice.

    IoU   |A and B| / |A or B|            Dice   2 |A and B| / (|A| + |B|)

Both follow from a confusion matrix of pixels, whose row is the true class and whose column is what was said. They are
counted over the whole set, as is usual (PASCAL VOC), not image by image.

Axes: K classes
"""

import torch
from torch import Tensor


def iou(confusion: Tensor) -> Tensor:
    """(K, K) counts -> (K,) float64; nan for a class that is neither there nor said to be."""
    both = confusion.diagonal().double()
    return both / (confusion.sum(0) + confusion.sum(1) - both)


def dice(confusion: Tensor) -> Tensor:
    """(K, K) counts -> (K,) float64; nan for a class that is neither there nor said to be."""
    return 2 * confusion.diagonal().double() / (confusion.sum(0) + confusion.sum(1))


def pixel_confusion(said: Tensor, true: Tensor, num_classes: int, unknown: int = 255) -> Tensor:
    """Classes of one shape -> (K, K) int64: rows are true, columns are said; pixels that are `unknown` are left out."""
    known = true != unknown
    pairs = num_classes * true[known].long() + said[known].long()
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def overlap_metrics(confusion: Tensor) -> dict[str, float]:
    """mean_iou and dice, each a mean over the classes that are there, and pixel_accuracy."""
    right = confusion.diagonal().sum().double() / confusion.sum()
    means = {"mean_iou": iou(confusion).nanmean(), "dice": dice(confusion).nanmean(), "pixel_accuracy": right}
    return {name: float(value) for name, value in means.items()}
