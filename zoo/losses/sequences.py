"""Losses of answers at each step: pure functions (logits, targets, mask) -> mean over real steps.

Padding counts for nothing, whatever the network says there: the loss of a batch is the sum over its real steps, divided
by their number.

Axes: B batch, T steps, K classes or notes, V vocabulary
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


def token_cross_entropy(
    logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, padding: int = 0
) -> tuple[Tensor, Tensor]:
    """-sum_v q_v log softmax(logits)_v and -log softmax(logits)_target, each a mean () over the real steps.

    q is 1 - e at the target and e / V more at each of the V tokens, the target and padding among them: label smoothing
    (Szegedy et al. 2016, arXiv 1512.00567, section 7), as torch.nn.functional.cross_entropy has it with ignore_index.
    That gives no number where nothing is real; here it is 0. Who spreads e over the V - 1 other tokens alone, as some
    do, has what e V / (V - 1) is here.

    Args:
        logits: (B, T, V).
        targets: (B, T) int64, `padding` where a step is not real.
        label_smoothing: e, in [0, 1).
    """
    mask = targets != padding
    log_p = F.log_softmax(logits, 2)  # (B, T, V)
    nll = -log_p.gather(2, targets.unsqueeze(2)).squeeze(2)  # (B, T)
    plain = mean_over_steps(nll, mask)
    if label_smoothing == 0:
        return plain, plain
    spread = mean_over_steps(-log_p.mean(2), mask)
    return (1 - label_smoothing) * plain + label_smoothing * spread, plain


LOSSES = {"cross_entropy": step_cross_entropy, "binary_cross_entropy": step_binary_cross_entropy}
