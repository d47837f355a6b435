"""The partition function, exact against other ways to sum, estimated against exact."""

import math

import pytest
import torch
from torch import nn

from zoo.layers.boltzmann import RBMLayer
from zoo.metrics.partition import annealed_importance, binary_states, can_be_summed, estimate, log_partition


def machine(num_visible, num_hidden, visible="bernoulli", std=0.5):
    torch.manual_seed(0)
    layer = RBMLayer(num_visible, num_hidden, visible=visible, std=std).double()
    nn.init.normal_(layer.visible_bias)
    nn.init.normal_(layer.hidden_bias)
    return layer.requires_grad_(False)


def test_states_are_all_there_once():
    states = binary_states(3)
    assert states.tolist()[:3] == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert len({tuple(row) for row in states.tolist()}) == 8
    assert binary_states(0).shape == (1, 0)


@pytest.mark.parametrize(("num_visible", "num_hidden"), [(7, 4), (4, 7), (5, 5)])
def test_it_is_the_same_from_either_side_and_in_chunks(num_visible, num_hidden, monkeypatch):
    layer = machine(num_visible, num_hidden)
    from_below = torch.logsumexp(-layer.free_energy(binary_states(num_visible, dtype=torch.float64)), 0)
    from_above = torch.logsumexp(-layer.hidden_free_energy(binary_states(num_hidden, dtype=torch.float64)), 0)
    torch.testing.assert_close(from_below, from_above)
    torch.testing.assert_close(log_partition(layer), from_below)
    monkeypatch.setattr("zoo.metrics.partition.CHUNK", 2)
    torch.testing.assert_close(log_partition(layer), from_below)


def test_of_gaussian_units_it_is_the_integral():
    layer = machine(1, 3, "gaussian")
    grid = torch.linspace(-15, 15, 30001).double()
    integral = torch.trapezoid((-layer.free_energy(grid[:, None])).exp(), grid).log()
    torch.testing.assert_close(log_partition(layer), integral, rtol=0, atol=1e-9)


def test_which_machines_can_be_summed():
    found = {size: can_be_summed(RBMLayer(*size)) for size in ((16, 99), (99, 16), (17, 17))}
    assert found == {(16, 99): True, (99, 16): True, (17, 17): False}
    assert not can_be_summed(RBMLayer(5, 99, visible="gaussian"))
    assert can_be_summed(RBMLayer(99, 5, visible="gaussian"))


@pytest.mark.parametrize("base", [None, torch.linspace(-1, 1, 12)])
@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_annealing_finds_it_within_its_own_interval(visible, base):
    layer = machine(12, 10, visible, std=0.4)
    exact = float(log_partition(layer))
    inside, apart = 0, []
    for seed in range(4):
        found = annealed_importance(layer, runs=60, steps=150, generator=torch.Generator().manual_seed(seed), base=base)
        assert found.low <= found.log_partition <= found.high
        inside += found.low <= exact <= found.high
        apart.append(abs(found.log_partition - exact))
        assert len(found.log_weights) == 60
    assert inside >= 3
    assert max(apart) < 0.3


def test_a_better_base_and_more_steps_make_weights_more_alike():
    layer = machine(12, 10, std=0.3)
    spread = {}
    for name, steps, base in (("few", 20, None), ("many", 200, None), ("near", 20, layer.visible_bias)):
        found = annealed_importance(layer, runs=60, steps=steps, generator=torch.Generator().manual_seed(0), base=base)
        spread[name] = float(found.log_weights.std())
    assert spread["many"] < spread["few"] / 2
    assert spread["near"] < spread["few"]


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_without_weights_and_from_its_own_biases_it_is_exact(visible):
    layer = machine(6, 4, visible)
    layer.weight.zero_()
    generator = torch.Generator().manual_seed(0)
    found = annealed_importance(layer, runs=3, steps=5, generator=generator, base=layer.visible_bias)
    assert found.log_partition == pytest.approx(float(log_partition(layer)), abs=1e-9)
    assert found.high - found.low < 1e-6


def test_the_interval_is_three_deviations_of_the_mean():
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0]).double()
    found = estimate(weights.log() + 700, known=1.0)
    assert found.log_partition == pytest.approx(math.log(2.5) + 701)
    assert found.low == pytest.approx(math.log(2.5 - 3 * float(weights.std()) / 2) + 701)
    assert found.high == pytest.approx(math.log(2.5 + 3 * float(weights.std()) / 2) + 701)
    assert estimate(torch.tensor([0.0, 5.0]).double(), 0.0).low == -math.inf, "nothing is known from below"
    assert estimate(torch.tensor([0.0]).double(), 0.0).high == math.inf, "one run has no spread"
