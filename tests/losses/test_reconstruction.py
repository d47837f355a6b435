"""Errors, what is asked of codes, and noise: each against the formula it is named after."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.losses.reconstruction import (
    NOISE,
    contraction,
    contraction_of_sigmoids,
    cross_entropies,
    kl_sparsity,
    l1_sparsity,
    squared_errors,
)
from zoo.models.autoencoder import Autoencoder
from zoo.models.conv_autoencoder import ConvAutoencoder
from zoo.noise import Noise


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_errors_of_a_sample_are_sums_over_its_values():
    x, said = drawn(4, 1, 3, 2), drawn(4, 1, 3, 2, seed=1)
    squares = [sum((a - b) ** 2 for a, b in zip(p.flatten().tolist(), q.flatten().tolist(), strict=True))
               for p, q in zip(said, x, strict=True)]  # fmt: skip
    assert squared_errors(said, x).tolist() == pytest.approx(squares)
    p = said.sigmoid()
    by_hand = -(x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1)
    torch.testing.assert_close(cross_entropies(said, x), by_hand)


def test_kl_is_0_at_the_target_and_that_of_two_coins_elsewhere():
    assert kl_sparsity(torch.full((5,), 0.05), 0.05).item() == pytest.approx(0, abs=1e-6)
    activity = torch.tensor([0.2, 0.7], dtype=torch.float64)
    coins = [torch.distributions.Bernoulli(torch.tensor(p, dtype=torch.float64)) for p in (0.05, 0.2, 0.7)]
    expected = sum(torch.distributions.kl_divergence(coins[0], coin) for coin in coins[1:])
    torch.testing.assert_close(kl_sparsity(activity, 0.05), expected)
    assert math.isfinite(kl_sparsity(torch.tensor([0.0, 1.0]), 0.05)), "of units that never or always fire, too"


def test_units_that_always_fire_are_dear_and_not_infinite_in_16_bits():
    activity = torch.full((3,), 0.999, dtype=torch.bfloat16, requires_grad=True)  # which it takes for 1
    found = kl_sparsity(activity, 0.05)
    found.backward()
    assert 3 * 5 < found < 3 * 20
    assert activity.grad.isfinite().all()


def test_l1_is_a_sum_over_codes():
    torch.testing.assert_close(l1_sparsity(torch.tensor([[1.0, -2.0], [0.0, 0.5]])), torch.tensor([3.0, 0.5]))


def test_contraction_in_closed_form_and_by_gradients_are_one_with_one_gradient():
    torch.manual_seed(0)
    model = Autoencoder(in_features=6, hidden_features=[], latent_size=4, code_activation="Sigmoid").double()
    x, weights = drawn(5, 6), drawn(5)
    found = []
    for values in (lambda: contraction(model.encode, x),
                   lambda: contraction_of_sigmoids(model.encode(x), model.one_sigmoid_layer)):  # fmt: skip
        model.zero_grad()
        (values() * weights).sum().backward()
        found.append([values().detach(), *(p.grad.clone() for p in model.encoder.parameters())])
    for ours, closed in zip(*found, strict=True):
        assert closed.abs().sum() > 0
        torch.testing.assert_close(ours, closed, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2**24])
def test_contraction_is_the_norm_of_each_sample_s_jacobian(chunk, monkeypatch):
    monkeypatch.setattr("zoo.losses.reconstruction.LARGEST", chunk)
    torch.manual_seed(0)
    model = ConvAutoencoder(image_shape=(1, 5, 4), channels=[3], latent_size=4, activation="Tanh").double()
    x = drawn(3, 1, 5, 4)
    norms = [torch.autograd.functional.jacobian(model.encode, sample[None]).square().sum() for sample in x]
    torch.testing.assert_close(contraction(model.encode, x), torch.stack(norms))
    assert contraction(model.encode, x[:0]).shape == (0,)


def test_noise_spoils_as_often_and_as_far_as_it_says():
    x = torch.full((400, 5, 10), 0.5, dtype=torch.float64)
    spoilt = {}
    for name, (kind, spoil) in NOISE.items():
        amounts = getattr(Noise(3), kind)(x.shape[1:], at=(name,), rows=400, like=x)
        spoilt[name] = spoil(x, amounts, 0.3)
        assert torch.equal(spoil(x, amounts, 0.0), x)
        assert (x == 0.5).all()
    added = spoilt["gaussian"] - x
    assert (added.mean().abs().item(), added.std().item()) == pytest.approx((0, 0.3), abs=0.01)
    masked, seasoned = spoilt["masking"], spoilt["salt_and_pepper"]
    assert set(masked.unique().tolist()) == {0.0, 0.5}
    assert (masked == 0).double().mean().item() == pytest.approx(0.3, abs=0.01)
    assert set(seasoned.unique().tolist()) == {0.0, 0.5, 1.0}
    shares = [(seasoned == value).double().mean().item() for value in (0, 1)]
    assert shares == pytest.approx([0.15, 0.15], abs=0.01)
    assert NOISE["masking"][1](x, drawn(400, 5, 10), 1.0).abs().sum() == 0


def test_a_linear_encoder_has_its_weights_as_jacobian():
    layer = nn.Linear(6, 3).double()
    norms = contraction(lambda x: F.linear(x, layer.weight, layer.bias), drawn(4, 6))
    torch.testing.assert_close(norms, layer.weight.square().sum().expand(4))
