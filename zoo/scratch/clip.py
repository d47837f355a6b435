"""What bounds gradients and weights, written out from the equations.

Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", 2013, algorithm 1 (clipping by
norm); Tibshirani, "Regression shrinkage and selection via the lasso", 1996, equation 3 (soft threshold); Srivastava et
al., "Dropout", 2014, section 5.1 (max-norm).

Axes: O units, I their incoming weights
"""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def clip_by_norm(parameters: Iterable[Tensor], max_norm: float, norm_type: float = 2.0) -> Tensor:
    """Shortens the gradients, all by one factor, to a common norm of at most `max_norm`; returns the norm before.

    Equal to `torch.nn.utils.clip_grad_norm_`, with its 1e-6 in the denominator. The direction stays.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]), norm_type)
    factor = min(1.0, max_norm / (norm.item() + 1e-6))
    for gradient in gradients:
        gradient *= factor
    return norm


@torch.no_grad()
def clip_by_value(parameters: Iterable[Tensor], limit: float) -> None:
    """Each value of a gradient between -limit and limit, as `torch.nn.utils.clip_grad_value_`; it may turn it."""
    for p in parameters:
        if p.grad is not None:
            p.grad.copy_(p.grad.clamp(-limit, limit))


def soft_threshold(weight: Tensor, amount: float) -> Tensor:
    """sign(w) max(|w| - amount, 0): the proximal step of amount * |w|, after a gradient step of the rest of the loss.

    It is the w' with the least (w' - w)^2 / 2 + amount |w'|. Weights within `amount` of 0 become exactly 0, which a
    step along the subgradient sign(w) would overshoot.
    """
    return torch.sign(weight) * (weight.abs() - amount).clamp(min=0)


def max_norm(weight: Tensor, limit: float) -> Tensor:
    """Weights (O, I) or (O, I, *k), each unit's shortened to a norm of at most `limit`: a projection, no penalty."""
    norms = weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.ndim - 1))  # (O, 1, ...)
    return torch.where(norms > limit, weight * (limit / norms), weight)
