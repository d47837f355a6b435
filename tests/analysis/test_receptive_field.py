"""The receptive field is the true one: the inputs whose gradient at a unit is not zero."""

import random
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.analysis.receptive_field import EVERYTHING, UNKNOWN
from zoo.analysis.shapes import shapes
from zoo.layers.convolution import Conv1d, Conv2d
from zoo.models.resnet import ResNet


def positive(model: nn.Module) -> nn.Module:
    """No two paths cancel out."""
    for parameter in model.parameters():
        parameter.data = parameter.data.abs() + 0.1
    return model.double().eval()


def true_field(model: nn.Module, size: tuple[int, ...], unit: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last input that the unit depends on, along each axis."""
    x = torch.rand(1, 1, *size, dtype=torch.float64, requires_grad=True)
    model(x)[(0, slice(None), *unit)].sum().backward()
    places = x.grad[0, 0].nonzero()  # (how many, axes)
    return [(int(axis.min()), int(axis.max())) for axis in places.T]


def told_field(model: nn.Module, size: tuple[int, ...]):
    x = torch.zeros(1, 1, *size, dtype=torch.float64)
    front = nn.Sequential()
    if len(size) == 1:  # a series comes as a row
        x, front = x[:, 0], nn.Unflatten(1, (1, *size))
    return shapes(nn.Sequential(front, model, nn.ReLU()), (x,))[-1].seen


def check(model: nn.Module, size: tuple[int, ...]) -> int:
    """Compares all units in the middle that see no border; returns how many."""
    told, with_torch = told_field(model, size), model(torch.zeros(1, 1, *size, dtype=torch.float64)).shape[2:]
    compared = 0
    for unit in product(*(range(max(0, n // 2 - 2), min(n, n // 2 + 2)) for n in with_torch)):
        expected = [reach.of(i) for reach, i in zip(told, unit, strict=True)]
        if all(first > 0 and last < n - 1 for (first, last), n in zip(expected, size, strict=True)):
            assert true_field(model, size, unit) == expected
            assert all(last - first < reach.size for (first, last), reach in zip(expected, told, strict=True))
            compared += 1
    return compared


def layer(draw: random.Random, axes: int, channels: int) -> nn.Module:
    def each(most: int, least: int = 1):
        return tuple(draw.randint(least, most) for _ in range(axes))

    kind, kernel, stride = draw.randrange(4), each(4), each(2)
    if kind == 0:
        convolution = nn.Conv1d if axes == 1 else nn.Conv2d
        return convolution(channels, 2, kernel, stride, padding=each(2, 0), dilation=each(2))
    if kind == 1:
        kernel, stride = (kernel[0], stride[0]) if axes == 1 else (kernel, stride)
        return (Conv1d if axes == 1 else Conv2d)(channels, 2, kernel, stride=stride, padding="same")
    if kind == 2:
        pool = nn.AvgPool1d if axes == 1 else nn.AvgPool2d
        return pool(kernel, stride, padding=tuple(k // 2 for k in kernel))
    transposed = nn.ConvTranspose1d if axes == 1 else nn.ConvTranspose2d
    kernel = tuple(max(k, s) for k, s in zip(kernel, stride, strict=True))  # every unit sees something
    return transposed(channels, 2, kernel, stride)


@pytest.mark.parametrize("seed", range(40))
def test_is_the_true_one_in_random_stacks(seed):
    draw = random.Random(seed)
    axes = 1 + seed % 2
    layers, channels = [], 1
    for _ in range(draw.randint(1, 4)):
        layers.append(layer(draw, axes, channels))
        channels = 2 if not isinstance(layers[-1], (nn.AvgPool1d, nn.AvgPool2d)) else channels
    assert check(positive(nn.Sequential(*layers)), (150,) if axes == 1 else (70, 64)) > 0


@pytest.mark.parametrize(("size", "into"), [(24, 6), (25, 6), (20, 20)])
def test_is_the_true_one_of_adaptive_pooling(size, into):
    told, model = told_field(nn.AdaptiveAvgPool1d(into), (size,)), nn.AdaptiveAvgPool1d(into)
    for i in range(into):
        assert true_field(model, (size,), (i,)) == [told[0].of(i)]


def test_max_pooling_sees_what_average_pooling_sees():
    kinds = (nn.MaxPool2d, nn.AvgPool2d)
    maximum, average = (told_field(nn.Sequential(kind(3, 2, 1), kind(2)), (20, 20)) for kind in kinds)
    assert maximum == average
    assert [reach.size for reach in maximum] == [5, 5]


class UNet(nn.Module):
    """Down and up again with a connection past both."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.ConvTranspose2d(2, 2, 2, stride=2)
        self.side, self.out = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, x):
        return self.out(torch.cat([self.up(self.down(x)), self.side(x)], dim=1))


class Cut(nn.Module):
    """Skips, cuts off and adds pixels without a layer."""

    def forward(self, x):
        x = F.pad(x, (2, 0, 1, 3))
        return x[..., 1:41:2, 3:-1:3] + x[:, :, 2:42:2, 3:-1:3]


@pytest.mark.parametrize(
    "model", [UNet(), Cut(), nn.Sequential(nn.Conv2d(1, 1, (3, 2), padding=1), Cut(), nn.Conv2d(1, 1, 2))]
)
def test_is_the_true_one_where_paths_meet_and_pixels_are_cut(model):
    assert check(positive(model), (40, 40)) > 0


def test_is_that_of_the_longest_path_in_a_resnet():
    class Stage(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = ResNet(in_channels=1, num_classes=2, depth=20, activation="Identity")

        def forward(self, x):
            return self.net.layer2[0](self.net.layer1(self.net.conv1(x)))

    model = positive(Stage())
    assert [reach.size for reach in told_field(model, (30, 30))] == [21, 21]
    assert check(model, (30, 30)) > 0


def test_resnet_50_has_its_well_known_field_of_427():
    rows = shapes(ResNet(in_channels=3, num_classes=2, depth=50), (torch.zeros(1, 3, 32, 32),))
    assert [reach.size for reach in rows[-2].seen] == [427, 427]


@pytest.mark.parametrize(
    "end",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(36, 2)),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveMaxPool2d(1),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(1, 1, 1)),
    ],
)
def test_a_unit_on_top_of_everything_sees_everything(end):
    assert told_field(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), end).double(), (6, 6)) == EVERYTHING


class Mean(nn.Module):
    def __init__(self, dim) -> None:
        super().__init__()
        self.dim, self.last = dim, nn.ReLU()

    def forward(self, x):
        return self.last(x.mean(self.dim, keepdim=True))


def test_a_mean_over_pixels_sees_everything_and_one_over_channels_nothing_new():
    assert told_field(Mean((2, 3)), (6, 6)) == EVERYTHING
    assert [reach.size for reach in told_field(Mean(1), (6, 6))] == [1, 1]


class Scaled(nn.Module):
    def forward(self, x):
        return F.interpolate(x, scale_factor=2)


class Functional(nn.Module):
    """A convolution that is no layer, of the same size."""

    def forward(self, x):
        return F.conv2d(x, torch.ones(1, 1, 3, 3, dtype=x.dtype), padding=1)


@pytest.mark.parametrize("layer", [nn.Upsample(scale_factor=2), Scaled(), Functional()])
def test_what_it_does_not_know_it_does_not_guess(layer):
    told = told_field(layer, (6, 6))
    assert told == UNKNOWN
