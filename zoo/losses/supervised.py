"""Losses of classification and regression: pure functions (outputs, targets) -> mean over the batch.

`LOSSES` names those that `task.loss=` can choose, with what each takes and knows.

Axes: B batch, K classes, labels or target columns
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def as_values(outputs: Tensor, targets: Tensor) -> Tensor:
    """Targets of the outputs' shape (B, K): class indices (B,) as one-hot vectors, or as 0 and 1 where K is 1."""
    if targets.dim() == 1:
        targets = targets.unsqueeze(1) if outputs.shape[1] == 1 else F.one_hot(targets, outputs.shape[1])  # (B, K)
    return targets.to(outputs.dtype)


def smoothed(distribution: Tensor, share: float) -> Tensor:
    """(B, K) rows that sum to 1, `share` of each spread evenly over the K classes (Szegedy et al. 2016, section 7)."""
    return (1 - share) * distribution + share / distribution.shape[1]


def half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """1/2 sum_k (y_hat_k - y_k)^2, mean over B; class indices become one-hot vectors.

    Args:
        outputs: (B, K).
        targets: (B,) int64 class index (for K = 1: 0 or 1), or (B, K).
    """
    return 0.5 * (outputs - as_values(outputs, targets)).square().sum(1).mean()


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """(y_hat - y)^2, mean over B and K; targets as in `half_squared_error`."""
    return F.mse_loss(outputs, as_values(outputs, targets))


def mean_absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """|y_hat - y|, mean over B and K; targets as in `half_squared_error`."""
    return F.l1_loss(outputs, as_values(outputs, targets))


def huber(outputs: Tensor, targets: Tensor, *, delta: float = 1.0) -> Tensor:
    """Squared within delta of the target, linear beyond it (Huber 1964), mean over B and K.

    Targets as in `half_squared_error`.
    """
    return F.huber_loss(outputs, as_values(outputs, targets), delta=delta)


def cross_entropy(
    logits: Tensor, targets: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """-sum_k y_k log softmax(logits)_k, mean over B: sparse categorical and categorical cross-entropy in one.

    Args:
        logits: (B, K).
        targets: (B,) int64 class index, or (B, K) distributions, which one-hot vectors are, too.
        class_weights: (K,); the mean is then weighted by the weight of each sample's target.
        label_smoothing: share of the target that is spread over all classes.
    """
    if targets.dim() == 1 and class_weights is None:
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    return weighted_cross_entropy(F.log_softmax(logits, 1), targets, class_weights, label_smoothing)


def weighted_cross_entropy(
    log_probabilities: Tensor, targets: Tensor, class_weights: Tensor | None, label_smoothing: float
) -> Tensor:
    """-sum_k w_k y_k log p_k over all samples, divided by sum_k w_k y_k over all samples (without weights: by B).

    torch divides by B where targets are distributions and by the weights where they are class indices; here one-hot
    vectors and class indices give the same.
    """
    y = as_values(log_probabilities, targets)  # (B, K)
    found = smoothed(y, label_smoothing) * log_probabilities  # (B, K)
    if class_weights is None:
        return -found.sum() / len(y)
    weights = class_weights.to(y.dtype)  # (K,)
    return -(weights * found).sum() / at_least_something(weight_of(y, weights))


def at_least_something(weight: Tensor) -> Tensor:
    """A sum of weights to divide by; where all are 0, so is what is divided."""
    return weight.clamp(min=torch.finfo(weight.dtype).tiny)


def weight_of(targets: Tensor, class_weights: Tensor, *, yes_or_no: bool = False) -> Tensor:
    """Sum of the weights of all targets: what a weighted mean is over, and what a batch weighs among others.

    Args:
        targets: (B,) int64 class index, or (B, K) distributions.
        class_weights: (K,).
        yes_or_no: targets (B,) or (B, K) are from 0 to 1, each by itself, and two weights are those of no and yes.
    """
    if yes_or_no:
        no, yes = class_weights.unbind()
        return (yes * targets + no * (1 - targets)).sum()
    return class_weights[targets].sum() if targets.dim() == 1 else (class_weights * targets).sum()


def kl_divergence(logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """KL(y || softmax(logits)) = sum_k y_k (log y_k - log p_k), mean over B, with 0 log 0 = 0.

    That is the cross-entropy less the entropy of the target, which no weight changes: the gradient is the same, and the
    loss is 0 where the model is right about the whole distribution. Logits and targets as in `cross_entropy`.
    """
    y = smoothed(as_values(logits, targets), label_smoothing)  # (B, K)
    return F.kl_div(F.log_softmax(logits, 1), y, reduction="batchmean")


def binary_cross_entropy(
    logits: Tensor, targets: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """-y log s(a) - (1 - y) log(1 - s(a)) with the sigmoid s, mean over B and labels.

    Args:
        logits: (B, 1) for two classes, (B, K) for several labels.
        targets: (B,) of 0 and 1, or (B, K) from 0 to 1.
        class_weights: weights of class 0 and class 1 (two classes), or None.
        label_smoothing: share of each target that is spread over yes and no.
    """
    y = targets.reshape(logits.shape).to(logits.dtype)
    if class_weights is None:
        return F.binary_cross_entropy_with_logits(logits, y + label_smoothing * (0.5 - y))
    return weighted_binary_cross_entropy(F.logsigmoid(logits), F.logsigmoid(-logits), y, class_weights, label_smoothing)


def weighted_binary_cross_entropy(
    log_yes: Tensor, log_no: Tensor, y: Tensor, class_weights: Tensor | None, label_smoothing: float
) -> Tensor:
    """Cross-entropy of y (B, K) with log p and log(1 - p), each (B, K); a weighted mean where classes have weights."""
    no, yes = (1.0, 1.0) if class_weights is None else class_weights.unbind()
    soft = y + label_smoothing * (0.5 - y)  # (B, K)
    weight = y.new_tensor(y.numel()) if class_weights is None else weight_of(y, class_weights, yes_or_no=True)
    return -(yes * soft * log_yes + no * (1 - soft) * log_no).sum() / at_least_something(weight)


def log_clamped(probabilities: Tensor) -> Tensor:
    """log p with p raised to the smallest normal number of its type, so that 0 gives -87.3 (float32), not -inf.

    Below it the gradient is 0: a softmax or sigmoid that has rounded to 0 learns nothing more from its mistake. A loss
    that takes logits has no such limit.
    """
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()


def cross_entropy_of_probabilities(
    probabilities: Tensor, targets: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Negative log-likelihood -sum_k y_k log p_k, mean over B, of probabilities (B, K) whose rows sum to 1.

    For models that end in a softmax; else as `cross_entropy`. The logarithm is clamped (`log_clamped`).
    """
    return weighted_cross_entropy(log_clamped(probabilities), targets, class_weights, label_smoothing)


def binary_cross_entropy_of_probabilities(
    probabilities: Tensor, targets: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """-y log p - (1 - y) log(1 - p), mean over B and labels, of probabilities (B, K) from 0 to 1.

    For models that end in a sigmoid; else as `binary_cross_entropy`. Both logarithms are clamped (`log_clamped`).
    """
    y = targets.reshape(probabilities.shape).to(probabilities.dtype)
    log_yes, log_no = log_clamped(probabilities), log_clamped(1 - probabilities)
    return weighted_binary_cross_entropy(log_yes, log_no, y, class_weights, label_smoothing)


def hinge(outputs: Tensor, targets: Tensor, *, class_weights: Tensor | None = None) -> Tensor:
    """max(0, 1 - margin), mean over B: of a support vector machine, whose outputs are distances and no logits.

    Several classes (Weston and Watkins 1999): 1/K sum_(k != y) max(0, 1 - a_y + a_k).
    One output, or several labels: max(0, 1 - t a) with t = -1 for no and 1 for yes, mean over labels, too.

    Args:
        outputs: (B, K); K = 1 for two classes.
        targets: (B,) int64 class index, or (B, K) of 0 and 1 for several labels.
        class_weights: (K,), or two for K = 1; the mean over samples is then weighted.
    """
    if targets.dim() == 1 and outputs.shape[1] > 1:
        values = F.multi_margin_loss(outputs, targets, reduction="none")  # (B,)
    else:
        sign = 2 * targets.reshape(outputs.shape).to(outputs.dtype) - 1  # (B, K)
        values = torch.relu(1 - sign * outputs)  # (B, K)
    if class_weights is None:
        return values.mean()
    weights = class_weights.to(values.dtype)[targets.reshape(values.shape).long()]  # as values
    return (weights * values).sum() / at_least_something(weights.sum())


@dataclass(frozen=True)
class Loss:
    """A loss that a configuration can choose.

    Args:
        function: (outputs, targets, **options) -> mean over the batch.
        takes: "logits", of which softmax or sigmoid make probabilities; "probabilities", of a model that ends in one of
            these; "margins", of which only sign and order mean something; "values", which are compared with the target
            as they are, be they probabilities or not.
        kinds: what it is for: "multiclass", "binary", "multilabel", "regression".
        options: what it knows besides.
    """

    function: Callable[..., Tensor]
    takes: str
    kinds: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def border(self) -> float:
        """The output above which the answer is yes, where yes or no is asked."""
        return 0.0 if self.takes in ("logits", "margins") else 0.5


SOFT = ("class_weights", "label_smoothing")
ONE_OF_K, YES_OR_NO = ("multiclass",), ("binary", "multilabel")
CLASSES, ALL = (*ONE_OF_K, *YES_OR_NO), (*ONE_OF_K, *YES_OR_NO, "regression")
LOSSES = {
    "cross_entropy": Loss(cross_entropy, "logits", ONE_OF_K, SOFT),
    "kl_divergence": Loss(kl_divergence, "logits", ONE_OF_K, ("label_smoothing",)),
    "cross_entropy_of_probabilities": Loss(cross_entropy_of_probabilities, "probabilities", ONE_OF_K, SOFT),
    "binary_cross_entropy": Loss(binary_cross_entropy, "logits", YES_OR_NO, SOFT),
    "binary_cross_entropy_of_probabilities": Loss(
        binary_cross_entropy_of_probabilities, "probabilities", YES_OR_NO, SOFT
    ),
    "hinge": Loss(hinge, "margins", CLASSES, ("class_weights",)),
    "half_squared_error": Loss(half_squared_error, "values", CLASSES),
    "mean_squared_error": Loss(mean_squared_error, "values", ALL),
    "mean_absolute_error": Loss(mean_absolute_error, "values", ALL),
    "huber": Loss(huber, "values", ALL, ("delta",)),
}
