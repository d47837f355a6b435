import math

import pytest
import torch

from zoo.losses.quantization import codebook_loss, commitment_loss, perplexity, usage


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_one_loss_moves_the_codebook_and_the_other_the_encoder():
    encoded, entries = randn(3, 4, 2, 2).requires_grad_(), randn(3, 4, 2, 2, seed=1).requires_grad_()
    distance = (encoded - entries).square().flatten(1).sum(1)
    for loss, moved, kept in ((codebook_loss, entries, encoded), (commitment_loss, encoded, entries)):
        encoded.grad = entries.grad = None
        value = loss(encoded, entries)
        torch.testing.assert_close(value, distance)
        value.sum().backward()
        assert kept.grad is None
        torch.testing.assert_close(moved.grad, 2 * (moved - kept).detach())


def test_perplexity_counts_entries_that_are_used_alike():
    assert perplexity(usage(torch.tensor([[2, 2], [2, 2]]), 5)) == pytest.approx(1)
    assert perplexity(usage(torch.arange(8) % 4, 5)) == pytest.approx(4)
    assert perplexity(torch.tensor([3.0, 1.0])) == pytest.approx(math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)))
