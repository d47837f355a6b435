"""Negative sampling is the sum of binary cross-entropies that equation 4 says, and is computed without overflow."""

import torch
from torch.nn import functional as F

from zoo.losses.embeddings import negative_sampling


def test_it_is_the_sum_of_the_cross_entropies_of_one_true_pair_and_the_draws():
    scores = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    truth = torch.tensor([1.0, 0, 0, 0]).expand(6, 4).double()
    each = F.binary_cross_entropy_with_logits(scores, truth, reduction="none")  # (B, 1 + N)
    torch.testing.assert_close(negative_sampling(scores), each.sum(1).mean(), rtol=0, atol=1e-14)
    (gradient,) = torch.autograd.grad(negative_sampling(scores), scores)
    torch.testing.assert_close(gradient, (scores.sigmoid() - truth) / 6, rtol=0, atol=1e-14)


def test_scores_far_from_0_give_numbers():
    scores = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    loss = negative_sampling(scores)
    loss.backward()
    assert loss.item() == 1e4  # (0 + 2e4) / 2
    assert scores.grad.tolist() == [[0, 0], [-0.5, 0.5]]
