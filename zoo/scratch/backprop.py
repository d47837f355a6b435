"""Forward and backward pass of a multilayer perceptron by hand: matrix calculus, no autograd.

Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", 1986. For layers l = 1 ... L:

    forward     a_l = h_(l-1) W_l^T + b_l        h_l = f(a_l), h_0 = x        y = a_L
    backward    delta_L = dE/dy                  delta_(l-1) = (delta_l W_l) * f'(a_(l-1))
                dE/dW_l = delta_l^T h_(l-1)      dE/db_l = sum over B of delta_l        dE/dx = delta_1 W_1

Each line is the chain rule once; each delta is used for three things, so the backward pass costs about twice the
forward one. It computes gradients and changes no weight: that is what an optimizer does with them afterwards.
Equal to autograd in float64 (tests/scratch/test_backprop.py).

Axes: B batch, D width of a layer, K outputs
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# A function, and its derivative as a function of (a, f(a)).
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "Identity": (lambda a: a, lambda a, h: torch.ones_like(a)),
    "Sigmoid": (lambda a: 1 / (1 + torch.exp(-a)), lambda a, h: h * (1 - h)),
    "Tanh": (torch.tanh, lambda a, h: 1 - h**2),
    "ReLU": (lambda a: a * (a > 0), lambda a, h: (a > 0).to(a.dtype)),
}


class Gradients(NamedTuple):
    """Of the loss, by each weight (D_l, D_(l-1)), each bias (D_l,) and the input (B, D_0)."""

    weights: list[Tensor]
    biases: list[Tensor]
    x: Tensor


class Passed(NamedTuple):
    """What the forward pass leaves for the backward one: a_l and h_l, (B, D_l) each; h begins with the input."""

    a: list[Tensor]
    h: list[Tensor]


@torch.no_grad()
def forward(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str = "ReLU") -> Passed:
    """x (B, D_0) through all layers; the outputs y (B, K) are the last of `a`. The last layer has no nonlinearity."""
    f, _ = ACTIVATIONS[activation]
    a, h = [], [x]
    for weight, bias in zip(weights, biases, strict=True):
        a.append(h[-1] @ weight.T + bias)  # (B, D_l)
        h.append(f(a[-1]))
    return Passed(a, h[:-1])


@torch.no_grad()
def backward(passed: Passed, weights: Sequence[Tensor], delta: Tensor, activation: str = "ReLU") -> Gradients:
    """From delta_L = dE/dy (B, K) back to the input. Nothing is changed."""
    _, derivative = ACTIVATIONS[activation]
    of_weights, of_biases = [], []
    for i in reversed(range(len(weights))):
        of_weights.append(delta.T @ passed.h[i])  # (D_l, D_(l-1))
        of_biases.append(delta.sum(0))  # (D_l,)
        delta = delta @ weights[i]  # (B, D_(l-1))
        if i > 0:
            delta = delta * derivative(passed.a[i - 1], passed.h[i])
    return Gradients(of_weights[::-1], of_biases[::-1], delta)


@torch.no_grad()
def delta_of_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """dE/dy of the mean cross-entropy over B: (softmax(y) - one_hot(label)) / B. logits (B, K), labels (B,)."""
    e = torch.exp(logits - logits.amax(1, keepdim=True))
    share = e / e.sum(1, keepdim=True)
    share[torch.arange(len(labels)), labels] -= 1
    return share / len(labels)


@torch.no_grad()
def delta_of_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """dE/dy of the mean of (y - t)^2 over B and K: 2 (y - t) / (B K)."""
    return 2 * (outputs - targets) / outputs.numel()
