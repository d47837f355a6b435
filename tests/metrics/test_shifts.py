import pytest
import torch
from torch import nn

from zoo.metrics.shifts import translation_invariance


def dots(*places: tuple[int, int]) -> torch.Tensor:
    """An 8 x 8 image for each place, black but for one pixel there."""
    images = torch.zeros(len(places), 1, 8, 8)
    for image, (row, column) in zip(images, places, strict=True):
        image[0, row, column] = 1
    return images


@pytest.mark.parametrize(
    ("function", "change", "unchanged"),
    [
        (nn.Identity(), 2**0.5, 0.0),  # the dot is gone here and new there
        (nn.MaxPool2d(2), 2**0.5 / 2, 0.5),  # in two of four directions it stays under its window
        (nn.MaxPool2d(4), 2**0.5 / 4, 0.75),  # the first dot, in a corner of its window, in two; the second in all four
        (nn.AdaptiveMaxPool2d(1), 0.0, 1.0),
        (nn.AdaptiveAvgPool2d(1), 0.0, 1.0),
    ],
)
def test_the_larger_the_pool_the_less_a_shift_changes(function, change, unchanged):
    found = translation_invariance(function, dots((4, 4), (2, 2)))
    assert found.change == pytest.approx(change)
    assert found.unchanged == pytest.approx(unchanged)


def test_a_shift_of_two_leaves_a_pool_of_two_and_what_enters_repeats_the_edge():
    assert translation_invariance(nn.MaxPool2d(2), dots((4, 4)), shift=2).change == pytest.approx(2**0.5)
    assert translation_invariance(nn.Identity(), torch.full((2, 3, 5, 4), -0.7), shift=3) == (0.0, 1.0)


def test_pooling_makes_features_of_a_convolution_less_sensitive_to_a_shift():
    torch.manual_seed(0)
    images, convolution = torch.rand(16, 1, 20, 20), nn.Conv2d(1, 8, 5, padding=2)
    changes = [
        translation_invariance(nn.Sequential(convolution, nn.ReLU(), *pool), images).change
        for pool in ([], [nn.MaxPool2d(2)], [nn.MaxPool2d(4)], [nn.AdaptiveMaxPool2d(1)])
    ]
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] < 0.2 * changes[0]
