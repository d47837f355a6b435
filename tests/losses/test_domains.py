import math

import pytest
import torch
from torch.nn import functional

from zoo.losses.domains import coral, covariance, domain_confusion, reversal_strength


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_covariance_is_torchs():
    features = 3 * randn(20, 5) + 1
    torch.testing.assert_close(covariance(features), torch.cov(features.T))
    assert covariance(features[:1]).abs().sum() == 0


def test_coral_is_0_for_what_was_only_moved_and_grows_with_another_spread():
    features = randn(30, 4)
    assert coral(features, features + 5) == pytest.approx(0, abs=1e-20)
    wider = coral(features, 2 * features)
    expected = (3 * torch.cov(features.T)).square().sum() / (4 * 16)
    torch.testing.assert_close(wider, expected)


def test_coral_has_a_gradient_for_both_domains():
    source, target = randn(8, 3).requires_grad_(), randn(6, 3, seed=1).requires_grad_()
    torch.autograd.gradcheck(coral, (source, target))


def test_confusion_is_the_cross_entropy_of_two_classes():
    source, target = randn(6), randn(6, seed=1)
    loss, accuracy = domain_confusion(source, target)
    logits = torch.stack([torch.zeros(12), torch.cat([source, target])], 1)
    right = torch.tensor([0] * 6 + [1] * 6)
    torch.testing.assert_close(loss, functional.cross_entropy(logits.double(), right))
    assert accuracy == (logits.argmax(1) == right).double().mean()
    assert domain_confusion(torch.zeros(3), torch.zeros(3))[0] == pytest.approx(math.log(2)), "what guessing costs"


def test_the_reversal_begins_at_nothing_and_ends_near_1():
    assert reversal_strength(0) == 0
    assert reversal_strength(0.5) == pytest.approx(math.tanh(2.5))
    assert 0.999 < reversal_strength(1) < 1
