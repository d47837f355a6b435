"""Losses of answers at each step: pure functions (logits, targets, mask) -> mean over real steps.

Padding counts for nothing, whatever the network says there: the loss of a batch is the sum over its real steps, divided
by their number.

Axes: B batch, T steps, K classes or notes
"""

from torch import Tensor
from torch.nn import functional as F


def mean_over_steps(values: Tensor, mask: Tensor) -> Tensor:
    """(B, T) values of steps -> their mean () where the mask (B, T) is True; 0 where it never is."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def step_cross_entropy(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """-log softmax(logits)_target, mean over real steps: one of K.

    Args:
        logits: (B, T, K).
        targets: (B, T) int64.
        mask: (B, T), True where a step is real.
    """
    values = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")  # (B T,)
    return mean_over_steps(values.view_as(mask), mask)


def step_binary_cross_entropy(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """-sum_k (y_k log s(a_k) + (1 - y_k) log(1 - s(a_k))) with the sigmoid s, mean over real steps: any of K.

    It is the negative log-likelihood of a step whose K notes are independent given the past, in nats: the sum over
    notes, not their mean (Boulanger-Lewandowski, Bengio and Vincent 2012, arXiv 1206.6392; Bai et al. 2018).

    Args:
        logits, targets: (B, T, K).
        mask: (B, T), True where a step is real.
    """
    values = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")  # (B, T, K)
    return mean_over_steps(values.sum(2), mask)


LOSSES = {"cross_entropy": step_cross_entropy, "binary_cross_entropy": step_binary_cross_entropy}
