"""What activations do at their kinks and far out, and what they are for."""

import copy

import pytest
import torch
from torch import nn

from zoo.scratch.activations import heaviside
from zoo.scratch.swap import from_scratch


def twin(layer: nn.Module) -> nn.Module:
    layer = copy.deepcopy(layer)
    assert from_scratch(layer)[0]
    return layer


def slope(function, *points: float) -> list[float]:
    x = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(x).sum(), x)
    return gradient.tolist()


@pytest.mark.parametrize(("layer", "kinks", "slopes"), [
    (nn.ReLU(), [0.0], [0.0]), (nn.Hardtanh(), [-1.0, 1.0], [0.0, 0.0]), (nn.ReLU6(), [0.0, 6.0], [0.0, 0.0]),
    (nn.LeakyReLU(0.2), [0.0], [0.2]), (nn.ELU(0.7), [0.0], [0.7]),
])  # fmt: skip
def test_the_derivative_at_a_kink_is_torchs_choice(layer, kinks, slopes):
    assert slope(twin(layer), *kinks) == pytest.approx(slopes, abs=0)
    assert slope(layer, *kinks) == pytest.approx(slopes, abs=0)


@pytest.mark.parametrize(
    ("layer", "expected"), [(nn.Sigmoid(), 0.25), (nn.Tanh(), 1.0), (nn.SiLU(), 0.5), (nn.GELU(), 0.5)]
)
def test_the_derivative_at_0_of_a_smooth_function_is_exact(layer, expected):
    assert slope(twin(layer), 0.0) == pytest.approx([expected], abs=1e-15)


@pytest.mark.parametrize("layer", [
    nn.Sigmoid(), nn.ReLU(), nn.LeakyReLU(), nn.Tanh(), nn.Hardtanh(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.ELU(),
    nn.Softmax(1), nn.LogSoftmax(1),
], ids=str)  # fmt: skip
def test_derivatives_away_from_kinks_are_those_of_finite_differences(layer):
    x = torch.tensor([[-3.0, -1.3, -0.4, 0.2], [0.7, 0.9, 1.2, 4.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(twin(layer), x)


@pytest.mark.parametrize("layer", [
    nn.Sigmoid(), nn.Tanh(), nn.SiLU(), nn.ELU(), nn.GELU(), nn.Softmax(0), nn.LogSoftmax(0)
], ids=str)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_out_values_and_gradients_are_finite_and_torchs(layer, dtype):
    x = torch.tensor([-800.0, -90.0, 0.0, 90.0, 800.0], dtype=dtype, requires_grad=True)
    found = []
    for module in (layer, twin(layer)):
        y = module(x)
        (gradient,) = torch.autograd.grad((y * torch.arange(1, 6)).sum(), x)
        found.append((y, gradient))
    for own, theirs in zip(found[1], found[0], strict=True):
        assert own.isfinite().all()
        torch.testing.assert_close(own, theirs, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    "layer", [nn.Sigmoid(), nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(), nn.Tanh(), nn.Hardtanh(), nn.ELU()]
)
def test_what_is_not_a_number_stays_so(layer):
    assert twin(layer)(torch.tensor([torch.nan])).isnan().all()


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_softmax_sums_to_1_over_its_axis_alone(dim):
    x = 3 * torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    y = twin(nn.Softmax(dim))(x)
    torch.testing.assert_close(y.sum(dim), torch.ones_like(y.sum(dim)))
    assert (y > 0).all()
    assert not torch.allclose(y.sum((dim + 1) % 3), torch.ones(1))


def test_softmax_of_two_classes_is_a_sigmoid_of_their_difference():
    a, b = torch.randn(2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    share = twin(nn.Softmax(0))(torch.stack([a, b]))[0]
    torch.testing.assert_close(share, twin(nn.Sigmoid())(a - b), rtol=1e-14, atol=1e-15)


def test_the_step_function_has_no_slope_to_learn_by():
    x = torch.linspace(-2, 2, 50, dtype=torch.float64)  # 0 is not among them
    assert torch.equal(heaviside(x), (x > 0).double())
    assert heaviside(torch.zeros(1)).item() == 0
    assert slope(heaviside, *x.tolist()) == [0.0] * 50
    assert torch.equal(heaviside(x + 1e-6), heaviside(x - 1e-6))
