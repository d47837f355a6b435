"""Losses written out from their equations: twins of torch.nn.functional's, under the names of zoo.losses.supervised.

Cross-entropies take logits a and put the softmax (or the sigmoid) into the logarithm, since the logarithm of a share
that has rounded to 0 is no number:

    log softmax(a)_k = a_k - log sum_j e^(a_j)        log sigmoid(a) = a - log(e^0 + e^a)

and the sum of exponentials is taken with the largest of them as e^0, so that none overflows. `scratch=true` trains with
these losses; they are equal to torch's forward and backward (tests/scratch/test_losses.py). Losses of zoo.losses that
are missing here call none of torch's.

Axes: B batch, K classes, labels or target columns
"""

import torch
from torch import Tensor


def log_sum_exp(logits: Tensor) -> Tensor:
    """log sum_k e^(a_k) over the last axis, which becomes 1."""
    largest = logits.detach().amax(-1, keepdim=True)
    return largest + torch.log(torch.exp(logits - largest).sum(-1, keepdim=True))


def shares(targets: Tensor, outputs: Tensor) -> Tensor:
    """Targets (B, K) as they are; class indices (B,) as one-hot vectors, or as 0 and 1 where K is 1."""
    if targets.ndim == 2:
        return targets.to(outputs.dtype)
    if outputs.shape[1] == 1:
        return targets.to(outputs.dtype).unsqueeze(1)
    return torch.zeros_like(outputs).scatter(1, targets.unsqueeze(1), 1.0)


def categorical_cross_entropy(
    logits: Tensor, targets: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """-sum_k w_k t_k log softmax(a)_k, mean over B, each sample counting sum_k w_k t_k times where there are weights.

    Args:
        logits: a, (B, K).
        targets: t, (B, K): one-hot, mixed or a teacher's. Smoothing e makes it (1 - e) t + e / K.
        class_weights: w, (K,), or None.
    """
    soft = (1 - label_smoothing) * targets + label_smoothing / logits.shape[1]  # (B, K)
    losses = -soft * (logits - log_sum_exp(logits))  # (B, K)
    if class_weights is None:
        return losses.sum() / len(logits)
    return (class_weights * losses).sum() / (class_weights * targets).sum()


def sparse_cross_entropy(
    logits: Tensor, targets: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """The same of class indices (B,): without weights and smoothing it is -log softmax(a)_y, mean over B."""
    return categorical_cross_entropy(
        logits, shares(targets, logits), class_weights=class_weights, label_smoothing=label_smoothing
    )


def cross_entropy(
    logits: Tensor, targets: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Sparse or categorical, as the targets are."""
    function = sparse_cross_entropy if targets.ndim == 1 else categorical_cross_entropy
    return function(logits, targets, class_weights=class_weights, label_smoothing=label_smoothing)


def kl_divergence(logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """KL(t || softmax(a)) = sum_k t_k (log t_k - log softmax(a)_k), mean over B, with 0 log 0 = 0; targets as above."""
    soft = (1 - label_smoothing) * shares(targets, logits) + label_smoothing / logits.shape[1]  # (B, K)
    log_soft = torch.log(torch.where(soft > 0, soft, 1.0))  # where it is 0, what is multiplied with it is of no matter
    return (soft * (log_soft - logits + log_sum_exp(logits))).sum() / len(logits)


def binary_cross_entropy(
    logits: Tensor, targets: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """-y log s(a) - (1 - y) log(1 - s(a)) with the sigmoid s, mean over B and labels: a softmax over (0, a).

    Args:
        logits: a, (B, 1) for two classes, (B, K) for several labels.
        targets: y, (B,) of 0 and 1, or (B, K). Smoothing e makes it (1 - e) y + e / 2.
        class_weights: weights of class 0 and class 1, or None.
    """
    y = targets.reshape(logits.shape).to(logits.dtype)
    soft = (1 - label_smoothing) * y + label_smoothing / 2  # (B, K)
    log_sum = log_sum_exp(torch.stack([torch.zeros_like(logits), logits], -1)).squeeze(-1)  # (B, K)
    no, yes = (1.0, 1.0) if class_weights is None else class_weights.unbind()
    losses = yes * soft * (log_sum - logits) + no * (1 - soft) * log_sum  # (B, K)
    return losses.sum() / (yes * y + no * (1 - y)).sum()


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """(y_hat - y)^2, mean over B and K."""
    return (outputs - shares(targets, outputs)).square().mean()


def mean_absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """|y_hat - y|, mean over B and K; its derivative is taken as 0 where they are equal."""
    return (outputs - shares(targets, outputs)).abs().mean()


def huber(outputs: Tensor, targets: Tensor, *, delta: float = 1.0) -> Tensor:
    """e^2 / 2 within delta of the target, delta (|e| - delta / 2) beyond it (Huber 1964); mean over B and K."""
    error = (outputs - shares(targets, outputs)).abs()
    return torch.where(error <= delta, 0.5 * error.square(), delta * (error - 0.5 * delta)).mean()


def hinge(outputs: Tensor, targets: Tensor, *, class_weights: Tensor | None = None) -> Tensor:
    """max(0, 1 - margin), mean over B, each sample counting as often as its class weighs.

    Class indices (B,) of K classes: 1/K sum_(k != y) max(0, 1 - a_y + a_k) (Weston and Watkins 1999; torch divides by
    K). One output, or labels (B, K): max(0, 1 - t a) with t = -1 for no and 1 for yes, mean over labels, too.
    """
    if targets.ndim == 1 and outputs.shape[1] > 1:
        right = shares(targets, outputs).bool()  # (B, K)
        short = torch.where(right, 0.0, 1 - outputs[right].unsqueeze(1) + outputs)  # (B, K)
        losses, labels = torch.where(short > 0, short, 0.0).mean(1), targets  # (B,), (B,)
    else:
        labels = targets.reshape(outputs.shape)  # (B, K)
        short = 1 - (2 * labels.to(outputs.dtype) - 1) * outputs  # (B, K)
        losses = torch.where(short > 0, short, 0.0)  # (B, K)
    weights = torch.ones_like(losses) if class_weights is None else class_weights.to(losses.dtype)[labels.long()]
    return (weights * losses).sum() / weights.sum()


def crammer_singer(scores: Tensor, targets: Tensor) -> Tensor:
    """max(0, 1 - a_y + max_(k != y) a_k), mean over B: of the other classes the nearest counts (Crammer, Singer 2001).

    Of two classes it is twice `hinge`, which takes 1/K of the sum. scores (B, K), targets (B,) class index.
    """
    right = shares(targets, scores).bool()  # (B, K)
    short = 1 - scores[right] + torch.where(right, -torch.inf, scores).amax(1)  # (B,)
    return torch.where(short > 0, short, 0.0).mean()
