"""Adversarial losses against their formulas, their slopes by hand, and the discriminator that each leads to."""

import math

import pytest
import torch

from zoo.losses.adversarial import LOSSES, between, clip, gradient_penalty, r1_penalty, slopes

REAL = torch.tensor([0.3, -1.2, 2.5], dtype=torch.float64)
FAKE = torch.tensor([-0.7, 0.4, 1.6, -2.0], dtype=torch.float64)


def s(a):
    return 1 / (1 + math.exp(-a))


def mean(function, values):
    return sum(function(a) for a in values.tolist()) / len(values)


# name: loss on a real and on a generated sample, that of the generator, and the slope of each.
BY_HAND = {
    "minimax": (
        *(lambda a: -math.log(s(a)), lambda a: -math.log(1 - s(a)), lambda a: math.log(1 - s(a))),
        *(lambda a: s(a) - 1, s, lambda a: -s(a)),
    ),
    "non_saturating": (
        *(lambda a: -math.log(s(a)), lambda a: -math.log(1 - s(a)), lambda a: -math.log(s(a))),
        *(lambda a: s(a) - 1, s, lambda a: s(a) - 1),
    ),
    "least_squares": (
        *(lambda a: (a - 1) ** 2 / 2, lambda a: a**2 / 2, lambda a: (a - 1) ** 2 / 2),
        *(lambda a: a - 1, lambda a: a, lambda a: a - 1),
    ),
    "hinge": (
        *(lambda a: max(0, 1 - a), lambda a: max(0, 1 + a), lambda a: -a),
        *(lambda a: -1.0 * (a < 1), lambda a: 1.0 * (a > -1), lambda a: -1.0),
    ),
    "wasserstein": (*(lambda a: -a, lambda a: a, lambda a: -a), *(lambda a: -1.0, lambda a: 1.0, lambda a: -1.0)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_slopes_are_those_of_the_formulas(name):
    on_real, on_fake, of_generator, *by_hand = BY_HAND[name]
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    loss = LOSSES[name].discriminator(real, fake)
    loss.backward()
    assert loss.item() == pytest.approx(mean(on_real, REAL) + mean(on_fake, FAKE), abs=1e-12)
    assert real.grad.tolist() == pytest.approx([by_hand[0](a) / 3 for a in REAL.tolist()], abs=1e-12)
    assert fake.grad.tolist() == pytest.approx([by_hand[1](a) / 4 for a in FAKE.tolist()], abs=1e-12)
    fake = FAKE.clone().requires_grad_()
    loss = LOSSES[name].generator(fake)
    loss.backward()
    assert loss.item() == pytest.approx(mean(of_generator, FAKE), abs=1e-12)
    assert fake.grad.tolist() == pytest.approx([by_hand[2](a) / 4 for a in FAKE.tolist()], abs=1e-12)


def test_where_the_discriminator_is_sure_only_the_non_saturating_generator_has_a_slope():
    for name, least, most in (("minimax", 0, 1e-8), ("non_saturating", 0.99, 1.01)):
        logit = torch.tensor([-30.0], requires_grad=True)
        LOSSES[name].generator(logit).backward()
        assert least <= abs(float(logit.grad)) <= most
    loss = LOSSES["minimax"].discriminator(torch.tensor([-500.0]), torch.tensor([500.0]))
    assert loss.item() == 1000, "nothing overflows"


@pytest.mark.parametrize(
    ("name", "smoothing"),
    [("minimax", 0), ("non_saturating", 0.1), ("least_squares", 0), ("least_squares", 0.25)],
)
def test_the_best_discriminator_gives_p_over_p_plus_q(name, smoothing):
    """Goodfellow et al. 2014, proposition 1, on four outcomes; smoothed: (1 - smoothing) times that."""
    p, q = torch.tensor([4, 2, 1, 1]), torch.tensor([1, 1, 2, 4])  # eighths
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)  # of a discriminator that is free everywhere
    given = {"smoothing": smoothing} if smoothing else {}
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure():
        optimizer.zero_grad()
        real, fake = logits.repeat_interleave(p), logits.repeat_interleave(q)
        loss = LOSSES[name].discriminator(real, fake, **given)
        loss.backward()
        return loss

    optimizer.step(closure)
    found = LOSSES[name].probability(logits.detach())
    torch.testing.assert_close(found, (1 - smoothing) * p.double() / (p + q), rtol=0, atol=1e-6)


def test_the_penalty_is_zero_at_slope_one_and_pulls_every_other_slope_there():
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(5, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    at = between(real, fake, torch.rand(5, dtype=torch.float64, generator=generator))
    for length in (1.0, 3.0, 0.25):
        w = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3 * length
        w.requires_grad_()
        penalty = gradient_penalty(slopes(lambda x, w=w: x @ w, at))
        penalty.backward()
        assert penalty.item() == pytest.approx((length - 1) ** 2, abs=1e-12)
        by_hand = 2 * (length - 1) * w.detach() / length
        torch.testing.assert_close(w.grad, by_hand, rtol=0, atol=1e-12)


def test_slopes_are_each_samples_own_whatever_its_shape():
    x = torch.randn(4, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = slopes(lambda x: x.square().sum((1, 2, 3)), x)
    torch.testing.assert_close(found, 2 * x.flatten(1).norm(dim=1), rtol=0, atol=1e-12)
    assert r1_penalty(found).item() == pytest.approx(float(2 * x.square().sum() / 4))


def test_points_between_lie_on_the_line_each_at_its_own_share():
    real, fake = torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    found = between(real, fake, torch.tensor([0.25, 1.0]))
    assert torch.equal(found, torch.tensor([0.25, 1.0])[:, None, None, None].expand(2, 1, 2, 2))


def test_clipped_weights_lie_within_the_bound_and_small_ones_stay():
    weights = torch.tensor([-3.0, -0.01, 0.02, 5.0], requires_grad=True)
    clip([weights], 0.1)
    assert torch.equal(weights, torch.tensor([-0.1, -0.01, 0.02, 0.1]))
