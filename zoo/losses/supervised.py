"""Losses of classification and regression: pure functions (outputs, targets) -> mean over the batch.

Axes: B batch, K classes or target columns
"""

from torch import Tensor
from torch.nn import functional as F


def half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """1/2 sum_k (y_hat_k - y_k)^2, mean over B; class indices become one-hot vectors.

    Args:
        outputs: (B, K).
        targets: (B,) int64 class index (for K = 1: 0 or 1), or (B, K).
    """
    if targets.dim() == 1:
        targets = targets.unsqueeze(1) if outputs.shape[1] == 1 else F.one_hot(targets, outputs.shape[1])  # (B, K)
    return 0.5 * (outputs - targets.to(outputs.dtype)).square().sum(1).mean()


def cross_entropy(
    logits: Tensor, targets: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """-log softmax(logits)[target], mean over B, weighted where classes have weights. logits (B, K), targets (B,)."""
    return F.cross_entropy(logits, targets, weight=class_weights, label_smoothing=label_smoothing)


def binary_cross_entropy(logits: Tensor, targets: Tensor, *, class_weights: Tensor | None = None) -> Tensor:
    """-y log s(a) - (1 - y) log(1 - s(a)) with the sigmoid s, mean over B and labels.

    Args:
        logits: (B, 1) for two classes, (B, K) for several labels.
        targets: (B,) of 0 and 1, or (B, K).
        class_weights: weights of class 0 and class 1 (two classes), or None.
    """
    y = targets.reshape(logits.shape).to(logits.dtype)
    if class_weights is None:
        return F.binary_cross_entropy_with_logits(logits, y)
    weights = class_weights[1] * y + class_weights[0] * (1 - y)
    return (F.binary_cross_entropy_with_logits(logits, y, reduction="none") * weights).sum() / weights.sum()


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """(y_hat - y)^2, mean over B and K."""
    return F.mse_loss(outputs, targets)


def mean_absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """|y_hat - y|, mean over B and K."""
    return F.l1_loss(outputs, targets)


def huber(outputs: Tensor, targets: Tensor, *, delta: float = 1.0) -> Tensor:
    """Squared within delta of the target, linear beyond it (Huber 1964), mean over B and K."""
    return F.huber_loss(outputs, targets, delta=delta)
