import math

import pytest
import torch
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

from zoo.metrics.overlaps import dice, iou, overlap_metrics, pixel_confusion


def squares() -> tuple[torch.Tensor, torch.Tensor]:
    """Two squares of 2 x 2 pixels, of which the second lies one to the right of and one below the first."""
    said, true = torch.zeros(2, 4, 4, dtype=torch.int64)
    said[:2, :2] = true[1:3, 1:3] = 1
    return said, true


def test_squares_that_share_a_quarter_have_an_iou_of_a_seventh_and_a_dice_of_a_quarter():
    confusion = pixel_confusion(*squares(), num_classes=2)
    assert confusion.tolist() == [[9, 3], [3, 1]]
    assert iou(confusion)[1].item() == pytest.approx(1 / 7)
    assert dice(confusion)[1].item() == pytest.approx(1 / 4)
    found = overlap_metrics(confusion)
    assert found["mean_iou"] == pytest.approx((1 / 7 + 9 / 15) / 2)
    assert found["dice"] == pytest.approx((1 / 4 + 18 / 24) / 2)
    assert found["pixel_accuracy"] == pytest.approx(10 / 16)


def test_they_are_those_of_torchmetrics_over_the_whole_set():
    generator = torch.Generator().manual_seed(0)
    said, true = torch.randint(4, (2, 6, 9, 8), generator=generator)
    true[:, 0] = 255
    confusion = pixel_confusion(said, true, 4)
    options = {"average": "none", "ignore_index": 255}
    assert iou(confusion).tolist() == pytest.approx(MulticlassJaccardIndex(4, **options)(said, true).tolist())
    assert dice(confusion).tolist() == pytest.approx(MulticlassF1Score(4, **options)(said, true).tolist())
    assert int(confusion.sum()) == int((true != 255).sum())


def test_a_class_that_is_nowhere_is_not_in_the_mean():
    said, true = squares()
    three = overlap_metrics(pixel_confusion(said, true, 3))
    assert three == overlap_metrics(pixel_confusion(said, true, 2))
    assert math.isnan(iou(pixel_confusion(said, true, 3))[2])
