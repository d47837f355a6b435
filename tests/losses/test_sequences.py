import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.losses.sequences import (
    mean_over_steps,
    step_binary_cross_entropy,
    step_cross_entropy,
    token_cross_entropy,
)

LENGTHS = [5, 1, 3]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask_of(lengths: list[int]) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)


def example(loss, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and targets of three padded sequences, and their mask."""
    mask = mask_of(LENGTHS)
    logits = randn(*mask.shape, 4, seed=seed)
    answers = randn(*mask.shape, 4, seed=seed + 1)
    return logits, answers.argmax(2) if loss is step_cross_entropy else (answers > 0).double(), mask


def sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a))


def test_binary_cross_entropy_is_the_likelihood_of_each_note_written_out():
    logits, targets, mask = example(step_binary_cross_entropy)
    total, count = 0.0, 0
    for b, length in enumerate(LENGTHS):
        for t in range(length):
            for a, y in zip(logits[b, t].tolist(), targets[b, t].tolist(), strict=True):
                total -= math.log(sigmoid(a) if y else 1 - sigmoid(a))
            count += 1
    assert step_binary_cross_entropy(logits, targets, mask).item() == pytest.approx(total / count, rel=1e-12)


def test_cross_entropy_is_the_likelihood_of_each_class_written_out():
    logits, targets, mask = example(step_cross_entropy)
    total = 0.0
    for b, length in enumerate(LENGTHS):
        for t in range(length):
            weights = [math.exp(a) for a in logits[b, t].tolist()]
            total -= math.log(weights[targets[b, t]] / sum(weights))
    assert step_cross_entropy(logits, targets, mask).item() == pytest.approx(total / sum(LENGTHS), rel=1e-12)


@pytest.mark.parametrize("loss", [step_binary_cross_entropy, step_cross_entropy])
@pytest.mark.parametrize("garbage", [1e3, float("inf"), float("nan")])
def test_what_is_said_at_padding_changes_neither_loss_nor_gradient(loss, garbage):
    logits, targets, mask = example(loss)
    other = logits.clone()
    other[~mask] = garbage
    assert loss(other, targets, mask) == loss(logits, targets, mask)
    if math.isfinite(garbage):
        other.requires_grad_()
        loss(other, targets, mask).backward()
        assert (other.grad[~mask] == 0).all()
        assert (other.grad[mask] != 0).all()


def test_a_sequence_weighs_as_much_as_it_has_steps():
    values = torch.tensor([[1.0, 1.0, 1.0], [9.0, 0.0, 0.0]])
    assert mean_over_steps(values, mask_of([3, 1])).item() == 3.0  # not the 5 of a mean over sequences


def test_a_batch_without_a_real_step_has_no_loss():
    assert mean_over_steps(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)).item() == 0.0


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_smoothed_tokens_are_torchs_cross_entropy_and_plain_ones_come_beside(label_smoothing):
    mask = mask_of(LENGTHS)
    targets = torch.randint(1, 6, mask.shape, generator=torch.Generator().manual_seed(0)).masked_fill(~mask, 0)
    logits, same = (randn(*mask.shape, 6).requires_grad_() for _ in range(2))
    loss, nll = token_cross_entropy(logits, targets, label_smoothing=label_smoothing)
    options = {"ignore_index": 0, "label_smoothing": label_smoothing}
    theirs = F.cross_entropy(same.flatten(0, 1), targets.flatten(), **options)
    torch.testing.assert_close(loss, theirs)
    torch.testing.assert_close(nll, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=0))
    loss.backward()
    theirs.backward()
    torch.testing.assert_close(logits.grad, same.grad)
    assert not logits.grad[~mask].any()


def test_targets_that_are_all_padding_have_no_loss():
    loss, nll = token_cross_entropy(randn(2, 3, 4), torch.zeros(2, 3).long(), label_smoothing=0.1)
    assert loss == nll == 0
