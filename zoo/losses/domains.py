"""How far apart two domains lie in the features of a network: what domain adaptation makes small.

CORAL (Sun and Saenko, "Deep CORAL: correlation alignment for deep domain adaptation", 2016, equation 1):

    1/(4 F^2) |C_s - C_t|^2                  C: the covariance (F, F) of the features of source and target

Adversarial (Ganin et al., "Domain-adversarial training of neural networks", 2016, equations 9 and 13): the cross-
entropy of a classifier that tells the domains apart; the features learn by its gradient reversed (`zoo.models.dann`),
times

    2 / (1 + exp(-10 p)) - 1                 p: the share of training that is done, from 0 to 1; section 5.2.2

Axes: B batch, F features
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


def covariance(features: Tensor) -> Tensor:
    """(B, F) -> (F, F), over B - 1 as in the paper; 0 where there are fewer than two rows."""
    centred = features - features.mean(0)
    return centred.T @ centred / max(1, len(features) - 1)


def coral(source: Tensor, target: Tensor) -> Tensor:
    """Features (B, F) and (B', F) -> ()."""
    return (covariance(source) - covariance(target)).square().sum() / (4 * source.shape[1] ** 2)


def domain_confusion(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B,) and (B',) of being of the target -> cross-entropy and accuracy, means over both domains alike."""
    told = torch.cat([source, target])
    right = torch.cat([torch.zeros_like(source), torch.ones_like(target)])
    hits = ((told.detach() > 0) == (right > 0.5)).to(told.dtype)
    return functional.binary_cross_entropy_with_logits(told, right), hits.mean()


def reversal_strength(progress: float) -> float:
    """From 0 at the beginning of training (progress 0) to nearly 1 at its end (progress 1)."""
    return 2 / (1 + math.exp(-10 * progress)) - 1
