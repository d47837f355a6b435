import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo import optim
from zoo.scratch.clip import clip_by_norm, clip_by_value, max_norm, soft_threshold


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def parameters() -> list[nn.Parameter]:
    found = [nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(2))]
    for i, p in enumerate(found[:2]):
        p.data = p.data.double()
        p.grad = randn(*p.shape, seed=i)
    return found  # the last has no gradient


@pytest.mark.parametrize("norm_type", [2.0, 1.0, torch.inf])
@pytest.mark.parametrize("limit", [0.1, 1.0, 1e6])
def test_clipping_by_norm_is_torchs(limit, norm_type):
    ours, theirs = parameters(), parameters()
    norm = clip_by_norm(ours, limit, norm_type)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(theirs, limit, norm_type), rtol=1e-13, atol=0)
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-13, atol=0)


def test_clipping_by_norm_keeps_the_direction_of_all_gradients_together():
    before, after = parameters(), parameters()
    norm = clip_by_norm(after, 0.5)
    for a, b in zip(before[:2], after[:2], strict=True):
        torch.testing.assert_close(b.grad, a.grad * 0.5 / norm, rtol=1e-5, atol=0)


@pytest.mark.parametrize("limit", [0.1, 1.0])
def test_clipping_by_value_is_torchs(limit):
    ours, theirs = parameters(), parameters()
    clip_by_value(ours, limit)
    nn.utils.clip_grad_value_(theirs, limit)
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("amount", [0.0, 0.3, 5.0])
def test_soft_threshold_is_torchs_softshrink_and_the_zoos(amount):
    weight = randn(4, 5)
    assert torch.equal(soft_threshold(weight, amount), F.softshrink(weight, amount))
    torch.testing.assert_close(soft_threshold(weight, amount), optim.soft_threshold(weight, amount), rtol=0, atol=1e-15)


@pytest.mark.parametrize("amount", [0.2, 1.0])
def test_soft_threshold_is_the_proximal_step_of_the_absolute_value(amount):
    grid = torch.linspace(-4, 4, 80_001, dtype=torch.float64)
    for w in (-2.0, -0.1, 0.0, 0.15, 1.7):
        best = grid[(0.5 * (grid - w) ** 2 + amount * grid.abs()).argmin()]
        assert soft_threshold(torch.tensor(w), amount).item() == pytest.approx(best.item(), abs=2e-4)


def test_soft_threshold_makes_exact_zeros_and_a_subgradient_step_does_not():
    weight = randn(1000) / 10
    proximal, subgradient = weight.clone(), weight.clone()
    for _ in range(100):
        proximal = soft_threshold(proximal, 0.003)
        subgradient = subgradient - 0.003 * subgradient.sign()
    assert (proximal == 0).double().mean().item() > 0.9
    assert (subgradient == 0).sum().item() == 0


@pytest.mark.parametrize("shape", [(6, 4), (6, 2, 3, 3)])
def test_max_norm_is_torchs_renorm_and_the_zoos(shape):
    weight = randn(*shape)
    limit = weight.flatten(1).norm(dim=1).median().item()
    found = max_norm(weight, limit)
    torch.testing.assert_close(found, torch.renorm(weight, 2, 0, limit), rtol=1e-6, atol=0)  # adds 1e-7 to the norm
    theirs = weight.clone().unsqueeze(0)
    optim.limit_norms(theirs, limit)
    torch.testing.assert_close(found, theirs[0], rtol=1e-14, atol=0)


@pytest.mark.parametrize("limit", [0.5, 2.0])
def test_max_norm_shortens_long_units_and_leaves_short_ones(limit):
    weight = randn(50, 3)
    before, after = weight.norm(dim=1), max_norm(weight, limit).norm(dim=1)
    torch.testing.assert_close(after, before.clamp(max=limit))
    assert torch.equal(max_norm(weight, limit)[before < limit], weight[before < limit])
    assert max_norm(torch.zeros(2, 3), limit).isfinite().all()
