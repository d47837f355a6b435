"""Measures of generators against brute force, closed forms and distributions that are known."""

import itertools
import math

import pytest
import torch
from torch import nn

from zoo.metrics.generative import (
    SIGMAS,
    best_sigma,
    frechet_distance,
    mixture_quality,
    parzen,
    parzen_log_likelihoods,
    penultimate,
    transport_cost,
)


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_parzen_is_the_mixture_density_written_out():
    samples, points = drawn(7, 3), drawn(1203, 3, seed=1)  # more points than one chunk
    found = parzen_log_likelihoods(samples, points, [0.5, 2.0])
    for row, sigma in zip(found, (0.5, 2.0), strict=True):
        normal = torch.distributions.Normal(samples[None], sigma)
        densities = normal.log_prob(points[:, None]).sum(2).exp().mean(1)  # (M,)
        torch.testing.assert_close(row, densities.log(), rtol=0, atol=1e-10)


def test_many_samples_of_a_known_gaussian_reach_its_likelihood():
    """Its ceiling is the density blurred by the window: in one dimension 4,000 samples come near it."""
    s, points = 1.5, 1.5 * drawn(400, 1, seed=1)
    estimate = parzen(s * drawn(4000, 1), s * drawn(50, 1, seed=2), points, sigmas=(0.3,))
    blurred = torch.distributions.Normal(0.0, math.sqrt(s**2 + 0.3**2)).log_prob(points)
    assert estimate.mean == pytest.approx(float(blurred.mean()), abs=0.02)
    assert estimate.standard_error == pytest.approx(float(blurred.std()) / math.sqrt(400), rel=0.05)


def test_the_width_is_that_under_which_validation_is_likeliest():
    samples, validation = 0.3 * drawn(200, 2), 0.3 * drawn(300, 2, seed=1)
    means = [float(parzen_log_likelihoods(samples, validation, [sigma]).mean()) for sigma in SIGMAS]
    assert best_sigma(samples, validation) == SIGMAS[means.index(max(means))]
    assert len(SIGMAS) == 10
    assert (SIGMAS[0], SIGMAS[-1]) == (0.1, 1.0)
    assert parzen(samples, validation, validation).sigma == best_sigma(samples, validation)


def with_moments(mean, variances, number=400, seed=0):
    """Features whose sample mean and covariance are exactly these."""
    x = drawn(number, len(mean), seed=seed)
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return x * torch.tensor(variances, dtype=torch.float64).sqrt() + torch.tensor(mean, dtype=torch.float64)


def test_frechet_distance_is_the_closed_form_of_two_gaussians():
    first, second = with_moments([0.0, 1.0], [4.0, 1.0]), with_moments([3.0, 1.0], [1.0, 9.0], seed=1)
    assert frechet_distance(first, second) == pytest.approx(9 + (2 - 1) ** 2 + (1 - 3) ** 2, abs=1e-8)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)  # neither covariance is diagonal then
    assert frechet_distance(first @ turn, second @ turn) == pytest.approx(14, abs=1e-8)
    assert frechet_distance(first, first.flip(0)) == pytest.approx(0, abs=1e-6)
    flat = torch.cat([first, torch.zeros(len(first), 1)], 1)  # a feature that never moves
    assert frechet_distance(flat, flat + 2) == pytest.approx(12, abs=1e-6)


def test_covariances_that_do_not_commute_have_the_cross_term_of_the_matrix_root():
    first, second = with_moments([0.0, 0.0], [4.0, 1.0]), with_moments([0.0, 0.0], [9.0, 1.0], seed=1)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    cov = (
        torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))
        @ turn.T
        @ torch.diag(torch.tensor([9.0, 1.0], dtype=torch.float64))
        @ turn
    )
    cross = torch.linalg.eigvals(cov).real.sqrt().sum()
    assert frechet_distance(first, second @ turn) == pytest.approx(float(5 + 10 - 2 * cross), abs=1e-8)


def test_features_are_what_the_last_dense_layer_reads():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Dropout(0.5), nn.Linear(3, 2))
    x = drawn(5, 1, 2, 2, dtype=torch.float32)
    expected = model[2](model[1](x.flatten(1))).detach()
    assert torch.equal(penultimate(model.train(), x, chunk=2), expected)
    with pytest.raises(ValueError, match="no dense layer"):
        penultimate(nn.Conv2d(1, 1, 1), x)


def test_a_mode_counts_where_a_sample_lies_within_three_deviations():
    centers = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    samples = torch.tensor([[0.29, 0.0], [0.0, -0.1], [0.6, 0.0], [1.0, 0.31], [5.0, 5.0], [0.0, 0.8]])
    found = mixture_quality(samples, centers, std=0.1)
    assert (found.modes, found.counts.tolist()) == (2, [2, 0, 1])
    assert found.high_quality == pytest.approx(3 / 6)


def test_transport_is_the_least_cost_of_all_pairings():
    first, second = drawn(6, 2), drawn(6, 2, seed=1)
    least = min(float((first - second[list(order)]).norm(dim=1).mean()) for order in itertools.permutations(range(6)))
    assert transport_cost(first, second) == pytest.approx(least, abs=1e-9)
    assert transport_cost(first, first.flip(0)) == pytest.approx(0, abs=1e-6)
    shift = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert transport_cost(first, first + shift) == pytest.approx(5, abs=1e-9)
