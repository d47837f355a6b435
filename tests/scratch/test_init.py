"""Initializations written out draw what torch.nn.init draws, and have the variance that they say."""

import math

import pytest
import torch
from torch import Tensor, nn

from zoo.scratch import init

PAIRS = {
    "zeros": (init.zeros_, nn.init.zeros_),
    "normal": (lambda w: init.normal_(w, 0.3, 0.2), lambda w: nn.init.normal_(w, 0.3, 0.2)),
    "uniform": (lambda w: init.uniform_(w, -0.1, 0.3), lambda w: nn.init.uniform_(w, -0.1, 0.3)),
    "xavier normal": (lambda w: init.xavier_normal_(w, 1.5), lambda w: nn.init.xavier_normal_(w, 1.5)),
    "xavier uniform": (lambda w: init.xavier_uniform_(w, 1.5), lambda w: nn.init.xavier_uniform_(w, 1.5)),
    "he normal": (init.he_normal_, lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")),
    "he normal out": (
        lambda w: init.he_normal_(w, "fan_out"),
        lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"),
    ),
    "he uniform": (init.he_uniform_, lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu")),
    "he uniform leaky": (
        lambda w: init.he_uniform_(w, "fan_out", gain=math.sqrt(2 / (1 + 0.2**2))),
        lambda w: nn.init.kaiming_uniform_(w, a=0.2, mode="fan_out", nonlinearity="leaky_relu"),
    ),
    "orthogonal": (lambda w: init.orthogonal_(w, 1.5), lambda w: nn.init.orthogonal_(w, 1.5)),
}


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 3, 3, 2), (3, 2, 4)])
@pytest.mark.parametrize("name", PAIRS)
def test_values_are_torchs_under_the_same_seed(name, shape):
    found = []
    for fill in PAIRS[name]:
        torch.manual_seed(3)
        weight = nn.Parameter(torch.full(shape, 9.0, dtype=torch.float64))
        assert fill(weight) is weight
        found.append(weight.detach())
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("fill", [init.he_normal_, init.he_uniform_])
def test_hes_variance_is_2_over_the_fan_of_choice(fill, mode):
    torch.manual_seed(0)
    weight = fill(torch.empty(200, 100, 3, 3), mode)
    fan = {"fan_in": 900, "fan_out": 1800, "fan_avg": 1350}[mode]
    assert weight.var().item() * fan == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("fill", [init.xavier_normal_, init.xavier_uniform_])
def test_xaviers_variance_is_2_over_the_sum_of_both_fans(fill):
    torch.manual_seed(0)
    assert fill(torch.empty(300, 500)).var().item() * 800 == pytest.approx(2, rel=0.02)


def count_products(layer: nn.Module, x: Tensor) -> tuple[int, int]:
    """(inputs that reach the output in the middle, outputs that the input in the middle reaches), by derivatives."""
    nn.init.ones_(layer.weight)
    x = x.requires_grad_()
    y = layer(x)
    middle = [size // 2 for size in y.shape]
    (of_one_output,) = torch.autograd.grad(y[tuple(middle)], x, retain_graph=True)
    (of_all_outputs,) = torch.autograd.grad(y.sum(), x)
    return int(of_one_output.sum()), int(of_all_outputs[tuple(size // 2 for size in x.shape)])


@pytest.mark.parametrize(("layer", "shape", "options"), [
    (nn.Linear(5, 3), (1, 5), {}),
    (nn.Conv1d(4, 6, 3), (1, 4, 15), {}),
    (nn.Conv2d(4, 6, (3, 5)), (1, 4, 15, 15), {}),
    (nn.Conv2d(4, 6, 3, groups=2), (1, 4, 15, 15), {"groups": 2}),
    (nn.ConvTranspose2d(4, 6, 3), (1, 4, 9, 9), {"transposed": True}),
    (nn.ConvTranspose2d(4, 6, 3, groups=2), (1, 4, 9, 9), {"transposed": True, "groups": 2}),
])  # fmt: skip
def test_fans_count_what_reaches_a_unit_and_what_it_reaches(layer, shape, options):
    fans = init.fans(layer.weight, **options)
    assert fans == count_products(layer, torch.ones(shape))
    if not options:
        assert fans == nn.init._calculate_fan_in_and_fan_out(layer.weight)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_orthogonal_keeps_lengths_and_turns_evenly(shape):
    torch.manual_seed(0)
    drawn = torch.stack([init.orthogonal_(torch.empty(*shape, dtype=torch.float64)) for _ in range(200)])
    product = drawn @ drawn.mT if shape[0] <= shape[1] else drawn.mT @ drawn
    torch.testing.assert_close(product, torch.eye(min(shape)).double().expand_as(product), rtol=0, atol=1e-12)
    # Each value has mean 0 and variance 1 / max(O, I); without the sign of R the diagonal would lean to one side.
    assert drawn.mean(0).abs().max().item() < 0.15
    torch.testing.assert_close(drawn.var(0), torch.full(shape, 1 / max(shape)).double(), rtol=0.5, atol=0)


def test_a_vector_has_no_fans():
    with pytest.raises(ValueError, match="two axes"):
        init.fans(torch.empty(3))
