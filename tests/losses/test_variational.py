"""Bounds and densities against torch.distributions and against what they are bounds of."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from zoo.losses.variational import (
    active_units,
    bernoulli_log_likelihood,
    free_bits,
    gaussian_log_likelihood,
    importance_weighted_bound,
    kl_to_standard_normal,
    log_weights,
    reparameterize,
    warmed_up,
)

B, K, Z, SHAPE = 4, 3, 5, (2, 3, 50)  # 300 values: more than one product


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_the_kl_is_that_of_torch(draw):
    mean, log_var = draw(B, Z), draw(B, Z)
    wanted = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(torch.zeros(()).double(), 1))
    torch.testing.assert_close(kl_to_standard_normal(mean, log_var), wanted, rtol=1e-12, atol=1e-12)
    assert (kl_to_standard_normal(mean, log_var) > 0).all()
    assert kl_to_standard_normal(torch.zeros(1, Z), torch.zeros(1, Z)).abs().max() == 0


def test_the_kl_of_a_collapsed_code_is_not_lost_in_16_bits(draw):
    mean, log_var = (0.05 * draw(1000).float()).bfloat16(), (0.05 * draw(1000).float()).bfloat16()
    found, exact = kl_to_standard_normal(mean, log_var), kl_to_standard_normal(mean.double(), log_var.double())
    assert found.min() >= -1e-6
    assert found.mean() == pytest.approx(exact.mean().item(), rel=1e-3)


def test_the_bernoulli_likelihood_is_that_of_torch(draw):
    logits, x = 10 * draw(B, K, *SHAPE), (draw(B, *SHAPE) > 0).double()
    wanted = Bernoulli(logits=logits).log_prob(x[:, None]).flatten(2).sum(-1)
    torch.testing.assert_close(bernoulli_log_likelihood(logits, x), wanted, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("shape", [(1,), (112,), (113,), SHAPE])
def test_of_grey_levels_it_is_the_cross_entropy_forward_and_backward(draw, shape):
    ours = (3 * draw(B, K, *shape)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    x, weight = draw(B, *shape).sigmoid(), draw(B, K)
    found = bernoulli_log_likelihood(ours, x)
    wanted = (
        -torch.nn.functional.binary_cross_entropy_with_logits(theirs, x[:, None].expand_as(theirs), reduction="none")
        .flatten(2)
        .sum(-1)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-10)
    (found * weight).sum().backward()
    (wanted * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_finite_for_any_logits_in_low_precision(dtype):
    logits = torch.tensor([-1e4, -90.0, -20.0, 0.0, 20.0, 90.0, 1e4]).repeat(40).to(dtype)[None, None].requires_grad_()
    found = bernoulli_log_likelihood(logits, torch.zeros(1, 280, dtype=dtype))
    wanted = -40 * (math.log(2) + 20 + 90 + float(torch.tensor(1e4, dtype=dtype)))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(wanted, rel=1e-6)
    found.sum().backward()
    assert logits.grad.isfinite().all()
    assert logits.grad.dtype == dtype


def test_the_gaussian_likelihood_is_that_of_torch(draw):
    mean, x, log_var = draw(B, K, *SHAPE), draw(B, *SHAPE), torch.tensor(0.7).double()
    normal = Independent(Normal(mean, (0.5 * log_var).exp()), len(SHAPE))
    torch.testing.assert_close(gaussian_log_likelihood(mean, x, log_var), normal.log_prob(x[:, None]))


def test_weights_are_the_joint_over_the_posterior(draw):
    mean, log_var, noise, likelihood = draw(B, Z), draw(B, Z), draw(B, K, Z), draw(B, K)
    z = reparameterize(mean, log_var, noise)
    posterior, prior = Normal(mean[:, None], (0.5 * log_var).exp()[:, None]), Normal(torch.zeros(()).double(), 1)
    wanted = likelihood + prior.log_prob(z).sum(-1) - posterior.log_prob(z).sum(-1)
    torch.testing.assert_close(log_weights(likelihood, z, noise, log_var), wanted)
    torch.testing.assert_close((z - mean[:, None]) / (0.5 * log_var).exp()[:, None], noise)


def test_codes_have_the_mean_and_variance_of_the_posterior(draw):
    mean, log_var = draw(1, Z), draw(1, Z)
    z = reparameterize(mean, log_var, draw(1, 200_000, Z))[0]
    torch.testing.assert_close(z.mean(0), mean[0], rtol=0, atol=0.02)
    torch.testing.assert_close(z.var(0), log_var.exp()[0], rtol=0.02, atol=0)


def test_the_importance_weighted_bound_is_the_elbo_for_one_sample_and_grows(draw):
    """Of weights drawn independently, its mean over all subsets of k does not fall with k (Burda et al., theorem 1)."""
    weights = 3 * draw(1, 6)
    assert importance_weighted_bound(weights[:, :1]).item() == weights[0, 0]
    over_subsets = [
        torch.stack([importance_weighted_bound(weights[:, list(s)]) for s in torch.combinations(torch.arange(6), k)])
        for k in range(1, 7)
    ]
    means = [float(values.mean()) for values in over_subsets]
    assert means[0] == pytest.approx(float(weights.mean()))
    assert sorted(means) == means
    assert means[-1] == pytest.approx(float(weights.exp().mean().log()))


def test_what_is_free_costs_nothing_and_moves_nothing():
    kl = torch.tensor([[0.1, 2.0], [0.3, 4.0]], dtype=torch.float64, requires_grad=True)
    cost = free_bits(kl, kl.detach().mean(0), 0.5)
    assert cost.item() == pytest.approx(0.5 + 3.0)
    cost.backward()
    assert kl.grad.tolist() == [[0, 0.5], [0, 0.5]]
    assert free_bits(kl, kl.detach().mean(0), 0.0).item() == pytest.approx(0.2 + 3.0)


def test_the_weight_of_the_kl_grows_in_a_straight_line():
    assert [warmed_up(epochs, 4) for epochs in (0, 1, 3.5, 4, 9)] == [0, 0.25, 0.875, 1, 1]
    assert warmed_up(0, 0) == 1


def test_units_are_active_where_their_means_move():
    means = torch.tensor([[1.0, 0.0, 5.0], [1.0, 0.3, 5.19]], dtype=torch.float64)  # variances 0, 0.0225, 0.009
    assert active_units((means**2).mean(0), means.mean(0)).tolist() == [False, True, False]
