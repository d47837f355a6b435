"""Contrastive divergence and pseudo-likelihood against machines that are small enough to be summed up."""

import pytest
import torch
from torch import nn

from zoo.layers.boltzmann import RBMLayer
from zoo.losses.boltzmann import (
    contrast,
    gibbs,
    handed_over,
    one_bit_pseudo_likelihood,
    pseudo_likelihood,
    reconstruction_loss,
)
from zoo.metrics.partition import binary_states, log_partition

V, H, CHAINS = 4, 3, 40_000
STATES = binary_states(V, dtype=torch.float64)  # (16, V)


@pytest.fixture
def layer():
    torch.manual_seed(1)
    made = RBMLayer(V, H, std=2.5).double()
    nn.init.normal_(made.visible_bias, std=0.5)
    nn.init.normal_(made.hidden_bias, std=0.5)
    return made


@pytest.fixture
def data():
    return STATES[[3, 3, 5, 9, 14, 14, 14, 0]]


def noise_from(seed, rows):
    generator = torch.Generator().manual_seed(seed)
    return lambda name, size: torch.rand(rows, size, generator=generator).double()


def transition(layer):
    """P(next v | v) of one Gibbs step, (16, 16), through all hidden states."""
    hidden = binary_states(H, dtype=torch.float64)

    def chances(means, states):
        return (means[:, None] * states + (1 - means[:, None]) * (1 - states)).prod(2)

    return chances(layer(STATES), hidden) @ chances(layer.visible_means(hidden), STATES)


def gradients_of(layer, data, model_chances):
    """The expected contrast, every state with its chance."""
    v, h = data, layer(data)
    means = [v.T @ h / len(v), v.mean(0), h.mean(0)]
    w, g = model_chances[:, None] * STATES, layer(STATES)
    return [a - b for a, b in zip([w.T @ g, w.sum(0), model_chances @ g], means, strict=True)]


def close(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0.012)  # four deviations of a mean over the chains


@pytest.mark.parametrize("k", [1, 2])
@torch.no_grad()
def test_contrastive_divergence_is_that_of_all_chains_on_average(layer, data, k):
    start = data.repeat(CHAINS // len(data), 1)
    samples = gibbs(layer, start, k, noise_from(0, len(start)))
    first = torch.full((len(STATES),), 0.0).double()
    first.scatter_add_(0, torch.tensor([3, 3, 5, 9, 14, 14, 14, 0]), torch.full((8,), 1 / 8).double())
    wanted = gradients_of(layer, data, first @ transition(layer).matrix_power(k))
    close(contrast(data, layer(data), samples, layer(samples)), wanted)
    other = gradients_of(layer, data, first @ transition(layer).matrix_power(k + 1))
    assert (other[0] - wanted[0]).abs().max() > 0.02, "one step more is another gradient"


def test_after_many_steps_it_is_the_gradient_of_the_likelihood(layer, data):
    """The exact one, by backpropagation through the log-likelihood with its partition function."""
    likelihood = (-layer.free_energy(data)).mean() - (-layer.free_energy(STATES)).logsumexp(0)
    exact = torch.autograd.grad(-likelihood, [layer.weight, layer.visible_bias, layer.hidden_bias])
    with torch.no_grad():
        chances = (-layer.free_energy(STATES)).softmax(0)
        torch.testing.assert_close(gradients_of(layer, data, chances), list(exact))
        samples = gibbs(layer, data.repeat(CHAINS // len(data), 1), 25, noise_from(0, CHAINS))
        close(contrast(data, layer(data), samples, layer(samples)), exact)


def test_gradients_are_handed_over_and_scaled_like_any_others():
    first, second = (nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(3)))
    given = {first: torch.arange(6.0).view(2, 3), second: torch.ones(3)}
    value = torch.tensor(5.0)
    loss = handed_over(value, given)
    assert loss.item() == 5
    (0.25 * loss).backward()
    assert torch.equal(first.grad, 0.25 * given[first])
    assert torch.equal(second.grad, 0.25 * given[second])
    assert not value.requires_grad


@torch.no_grad()
def test_pseudo_likelihood_is_that_of_all_conditional_chances(layer, monkeypatch):
    log_p = -layer.free_energy(STATES) - log_partition(layer)
    index = torch.arange(16)
    wanted = torch.zeros(16).double()
    for unit in range(V):
        other = index ^ (1 << (V - 1 - unit))
        wanted += log_p - torch.logaddexp(log_p, log_p[other])
    monkeypatch.setattr("zoo.losses.boltzmann.MOST_NUMBERS", 5 * V * H)  # in chunks of five
    torch.testing.assert_close(pseudo_likelihood(layer, STATES), wanted)
    every = [one_bit_pseudo_likelihood(layer, STATES, torch.full((16,), (i + 0.5) / V).double()) for i in range(V)]
    torch.testing.assert_close(torch.stack(every).mean(0), wanted)
    assert pseudo_likelihood(layer, STATES[:0]).shape == (0,)


@torch.no_grad()
def test_reconstruction_is_judged_by_the_density_of_its_units(layer):
    logits, v = torch.randn(6, V).double(), torch.rand(6, V).double()
    p = logits.sigmoid()
    wanted = -(v * p.log() + (1 - v) * (1 - p).log()).sum(1).mean()
    torch.testing.assert_close(reconstruction_loss(logits, v, True), wanted)
    torch.testing.assert_close(reconstruction_loss(logits, v, False), 0.5 * (v - logits).square().sum(1).mean())
