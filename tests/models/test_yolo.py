import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.models.yolo import YOLO


def block(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.1)]


class Theirs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *block(2, 3), nn.MaxPool2d(2), *block(3, 4), nn.MaxPool2d(2), *block(4, 8), *block(8, 8), *block(8, 8)
        )
        self.answer = nn.Conv2d(8, 5 * 2 + 3, 1)

    def forward(self, x):
        return self.answer(self.features(x)).sigmoid().movedim(1, 3)


def test_it_is_the_same_layers_in_torch(same_function):
    ours = YOLO(in_channels=2, num_classes=3, channels=[3, 4])
    x = torch.randn(5, 2, 12, 16, generator=torch.Generator().manual_seed(0))
    same_function(nn.Sequential(ours, nn.Flatten()), nn.Sequential(Theirs(), nn.Flatten()), x)


@pytest.mark.parametrize(("size", "cells"), [((48, 48), (6, 6)), ((32, 56), (4, 7)), ((50, 47), (6, 5))])
def test_each_cell_of_eight_pixels_answers_between_0_and_1(size, cells):
    answers = YOLO(in_channels=1, num_classes=4, channels=[2, 2, 2], num_boxes=3)(torch.randn(2, 1, *size))
    assert answers.shape == (2, *cells, 5 * 3 + 4)
    assert 0 < answers.min() < answers.max() < 1


def test_what_cannot_be_is_one_line():
    with pytest.raises(UserError, match=r"model\.channels must name"):
        YOLO(in_channels=1, num_classes=2, channels=[])
    with pytest.raises(UserError, match="smaller than a cell of 8 pixels"):
        YOLO(in_channels=1, num_classes=2)(torch.rand(1, 1, 7, 20))
