"""Each layer written out is equal to torch's, forward and backward, in float64."""

import copy
import json

import pytest
import torch
from torch import nn

from zoo.models.lenet5 import LeNet5
from zoo.run import configure, run
from zoo.scratch.layers import TWINS, from_scratch

CASES = [
    (nn.Linear(5, 3), (4, 5)),
    (nn.Linear(5, 3, bias=False), (2, 7, 5)),
    (nn.Conv2d(3, 4, 3), (2, 3, 8, 9)),
    (nn.Conv2d(1, 6, 5, padding=2, stride=2), (2, 1, 11, 11)),
    (nn.Conv2d(2, 3, (1, 3), padding=(0, 2), dilation=2, bias=False), (2, 2, 7, 7)),
    (nn.MaxPool2d(2), (2, 3, 7, 6)),
    (nn.MaxPool2d(3, stride=2), (2, 3, 9, 9)),
    (nn.AvgPool2d(2), (2, 3, 7, 6)),
    (nn.AvgPool2d(3, stride=1), (2, 3, 5, 5)),
    (nn.Sigmoid(), (40,)),
    (nn.Tanh(), (40,)),
    (nn.ReLU(), (40,)),
    (nn.Dropout(0.3), (400,)),
]


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=lambda value: str(value)[:60])
def test_a_twin_is_equal_to_torch_forward_and_backward(layer, shape):
    layer = layer.double()
    twin = copy.deepcopy(layer)
    assert from_scratch(twin)[0] == [type(layer).__name__]
    assert type(twin).forward is not type(layer).forward
    x = (3 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).requires_grad_()
    outputs, gradients = [], []
    for module in (layer, twin):
        torch.manual_seed(1)
        y = module(x)
        weight = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y)
        gradients.append(torch.autograd.grad((y * weight).sum(), [x, *module.parameters()]))
        outputs.append(y)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_every_twin_is_tested():
    assert {type(layer) for layer, _ in CASES} == set(TWINS)


def test_saturated_activations_stay_finite_with_finite_gradients():
    x = torch.tensor([-800.0, 0.0, 800.0], dtype=torch.float64, requires_grad=True)
    for layer, ends in ((nn.Tanh(), (-1, 1)), (nn.Sigmoid(), (0, 1))):
        from_scratch(layer)
        y = layer(x)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert torch.allclose(y[[0, 2]], torch.tensor(ends, dtype=torch.float64))
        assert torch.isfinite(gradient).all()


def test_a_setting_that_a_twin_does_not_cover_keeps_torchs_layer():
    for layer in (nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(1, 1, 3, padding="same"), nn.MaxPool2d(2, ceil_mode=True)):
        assert from_scratch(layer) == ([], [type(layer).__name__])


def test_a_model_keeps_its_weights_and_their_names():
    model = LeNet5(in_channels=1, image_size=28, num_classes=10, activation="ReLU", pooling="MaxPool2d").double()
    twin = copy.deepcopy(model)
    assert from_scratch(twin) == (["Conv2d", "Linear", "MaxPool2d", "ReLU"], [])
    x = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    assert list(twin.state_dict()) == list(model.state_dict())
    torch.testing.assert_close(twin(x), model(x), rtol=1e-12, atol=1e-12)


def test_a_run_from_scratch_follows_the_curve_of_torchs_layers(tmp_path):
    common = ["trainer.max_epochs=2", "model.activation=Tanh", "model.dropout=0.2", "logger=none"]
    for scratch in ("true", "false"):
        run(configure(*common, f"scratch={scratch}", run_dir=tmp_path / scratch))
    ours, theirs = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("true", "false"))
    assert ours["train/loss"] == pytest.approx(theirs["train/loss"], abs=1e-5)
    assert ours["test/loss"] == pytest.approx(theirs["test/loss"], abs=1e-5)
