import random

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from zoo.analysis.shapes import flops, shapes, table
from zoo.layers.convolution import Conv2d
from zoo.layers.window import Window, windows
from zoo.models.cnn import CNN
from zoo.models.lenet5 import LeNet5
from zoo.models.resnet import ResNet

CONVOLUTIONS = [nn.Conv1d, nn.Conv2d, nn.Conv3d]
TRANSPOSED = [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
POOLING = [nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d]


def drawn(kind: type[nn.Module], draw: random.Random) -> nn.Module:
    """A layer of that kind with settings of chance, different ones for each axis."""
    axes = int(kind.__name__[-2])

    def each(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw.randint(least, most) for _ in range(axes))

    kernel, stride, dilation = each(1, 6), each(1, 4), each(1, 3)
    if kind in CONVOLUTIONS:
        return kind(1, 1, kernel, stride, each(0, 4), dilation)
    if kind in TRANSPOSED:
        added = tuple(draw.randrange(max(pair)) for pair in zip(stride, dilation, strict=True))
        return kind(1, 1, kernel, stride, each(0, 1), added, dilation=dilation)
    options = {"stride": stride, "padding": tuple(draw.randint(0, k // 2) for k in kernel)}
    options["ceil_mode"] = draw.random() < 0.5
    if "Max" in kind.__name__:
        options["dilation"] = dilation
    if axes == 1:
        options = {name: value[0] if isinstance(value, tuple) else value for name, value in options.items()}
        kernel = kernel[0]
    return kind(kernel, **options)


@pytest.mark.parametrize("kind", CONVOLUTIONS + TRANSPOSED + POOLING)
def test_the_formula_gives_torchs_sizes_for_a_hundred_settings_of_chance(kind):
    draw, tried = random.Random(0), 0
    while tried < 100:
        layer = drawn(kind, draw)
        least = 6 if kind is nn.AvgPool3d else 1  # it wants inputs as large as its window, padding not counted
        size = tuple(draw.randint(least, 20) for _ in windows(layer))
        expected = tuple(window.size(n) for window, n in zip(windows(layer), size, strict=True))
        if min(expected) < 1:
            with pytest.raises(RuntimeError):
                layer(torch.zeros(1, 1, *size))
            continue
        assert tuple(layer(torch.zeros(1, 1, *size)).shape[2:]) == expected, (layer, size)
        tried += 1


@pytest.mark.parametrize(("stride", "size"), [(1, 28), (3, 10)])
def test_28_pixels_with_kernel_3_and_padding_1(stride, size):
    window = Window(3, stride, padding=1)
    assert window.size(28) == size
    assert window.formula(28) == f"floor((28 + 2*1 - 1*(3 - 1) - 1) / {stride}) + 1 = {size}"


@pytest.mark.parametrize(
    "window", [Window(4, 3, "same"), Window(3, 2, 1), Window(2, 2, "valid", 3), Window(4, 2, 1, 1, True, 1)]
)
def test_a_formula_that_is_printed_is_true(window):
    text, _, answer = window.formula(17).rpartition(" = ")
    names = {"floor": lambda x: int(x // 1), "ceil": lambda x: int(-(-x // 1))}
    assert eval(text, names) == int(answer) == window.size(17)


def test_a_layer_is_told_by_shapes_window_parameters_and_flops():
    layer = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), groups=2)
    (row,) = shapes(layer, (torch.zeros(5, 4, 11, 9),))
    assert (row.name, row.kind, row.input, row.output) == ("model", "Conv2d", (4, 11, 9), (6, 6, 9))
    assert row.windows == [Window(3, 2, 1, 1), Window(2, 1, 1, 2)]
    assert row.parameters == 6 * 2 * 3 * 2 + 6
    assert row.flops == 2 * (2 * 3 * 2) * (6 * 6 * 9)


MODELS = [
    (LeNet5(in_channels=1, image_size=28, num_classes=10), (1, 28, 28)),
    (
        CNN(in_channels=3, image_size=17, num_classes=4, stride=[2, 3], hidden_features=[7], batch_norm="before"),
        (3, 17, 17),
    ),
    (ResNet(in_channels=3, num_classes=10, depth=20), (3, 32, 32)),
    (
        nn.Sequential(nn.Unflatten(1, (8, 7, 7)), nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.Flatten(), nn.Linear(784, 2)),
        (392,),
    ),
]


@pytest.mark.parametrize(("model", "shape"), MODELS)
def test_parameters_and_flops_are_those_that_torch_counts(model, shape):
    x = torch.zeros(1, *shape)
    rows = shapes(model, (x,))
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(x)
    assert sum(row.flops for row in rows) == counter.get_total_flops()


def test_flops_and_shapes_are_of_one_sample():
    model, shape = MODELS[1]
    one, many = (shapes(model, (torch.zeros(n, *shape),)) for n in (1, 5))
    assert one == many


def test_looking_changes_nothing():
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.Dropout()).train()
    model[1].eval()  # frozen
    x, before = torch.randn(2, 1, 5, 5), {name: value.clone() for name, value in model.state_dict().items()}
    shapes(model, (x,))
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert not hasattr(x, "_zoo_field")


def test_a_layer_that_is_called_twice_has_two_rows_and_its_parameters_once():
    shared = nn.Linear(4, 4)
    rows = shapes(nn.Sequential(shared, nn.ReLU(), shared), (torch.zeros(1, 4),))
    assert [(row.kind, row.parameters) for row in rows] == [("Linear", 20), ("ReLU", 0), ("Linear", 0)]


def test_a_layer_that_does_not_keep_to_its_formula_is_a_bug_and_said_so():
    class Wrong(nn.Conv2d):
        def forward(self, x):
            return super().forward(x)[..., :-1]

    with pytest.raises(AssertionError, match="model: the formula gives"):
        shapes(Wrong(1, 1, 3), (torch.zeros(1, 1, 8, 8),))


def test_the_table_is_aligned_and_has_totals():
    model, shape = MODELS[0]
    lines = table(shapes(model, (torch.zeros(1, *shape),)), model).splitlines()
    header, rule, first = lines[:3]
    assert header.split()[:4] == ["layer", "kind", "input", "output"]
    assert set(rule) == {"-"}
    for name, value in (("kernel", "5"), ("stride", "1"), ("padding", "2")):
        assert first[header.index(name)] == value
    for name, value in (("parameters", "156"), ("FLOPs", "235,200"), ("receptive field", "5")):
        end = header.index(name) + len(name)
        assert first[:end].endswith(value)
    total = next(line for line in lines if line.startswith("total"))
    assert total.split() == ["total", "61,706", "833,040"]
    assert any("a multiply-add counts as 2" in line for line in lines)
    assert max(map(len, lines[:2])) <= 120


def test_what_is_not_counted_is_said():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return self.weight * x

    model = Scale()
    rows = shapes(model, (torch.zeros(2, 7, 3),))
    text = table(rows, model)
    assert "FLOPs of Scale are not counted." in text
    assert "receptive field" not in text


def test_parameters_of_layers_that_are_never_called_are_said():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(2, 2), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x)

    text = table(shapes(Idle(), (torch.zeros(1, 2),)), Idle())
    assert "12 parameters belong to layers that were not called by themselves." in text
    assert "18" in next(line for line in text.splitlines() if line.startswith("total"))


def test_same_padding_and_dilation_are_written_as_they_were_said():
    model = nn.Sequential(Conv2d(1, 1, 4, stride=2, padding="same"), nn.Conv2d(1, 1, (3, 1), dilation=2))
    text = table(shapes(model, (torch.zeros(1, 1, 20, 20),)), model)
    assert "same" in text
    assert "3x1 (dilation 2)" in text


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("lstm", 4), ("gru", 3)])
def test_a_recurrent_layer_uses_each_matrix_once_a_step(cell, gates):
    layer = torch.nn.RNN if cell == "rnn" else getattr(torch.nn, cell.upper())
    x = torch.zeros(2, 7, 3)
    made = layer(3, 5, batch_first=True)
    assert flops(made, x, made(x)[0]) == 7 * 2 * gates * 5 * (3 + 5)
