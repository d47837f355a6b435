"""Perceptron: threshold units that learn only from their mistakes.

Rosenblatt, "The perceptron: a probabilistic model for information storage and organization in the brain", 1958;
the rule as in Minsky and Papert, "Perceptrons", 1969.

    y_hat = H(W x + b)        H: the Heaviside step, 1 above 0 and else 0
    w += lr (y - y_hat) x     b += lr (y - y_hat)

The step has no useful derivative. We let gradients pass it unchanged (straight-through); then the gradient of the loss
1/2 sum (y_hat - y)^2 is (y_hat - y) x, and one step of plain gradient descent *is* the perceptron rule.

Departures from the paper
1. The fixed random association layer in front is left out: units see the input itself.
2. K classes are K units, each trained to fire for its own class alone; the largest net input names the class.

Axes: B batch, F input features, K classes (1 unit for two classes)
Trained by: classification, binary    Data: digits, xor, fashion_mnist    Equal to: scikit-learn's Perceptron (tests)
"""

import torch
from torch import Tensor, nn


class Heaviside(torch.autograd.Function):
    """1 where the input is above 0, else 0; its gradient is passed on unchanged."""

    @staticmethod
    def forward(ctx: object, net_input: Tensor) -> Tensor:
        return (net_input > 0).to(net_input.dtype)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


class Perceptron(nn.Module):
    """One layer of threshold units with bias.

    Args:
        in_features: F, the size of one flattened input.
        num_classes: K, the number of units.
    """

    learns_by_perceptron_rule = True

    def __init__(self, *, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.units = nn.Linear(in_features, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # From zero, the learning rate only scales the weights and changes no decision: it need not be tuned.
        nn.init.zeros_(self.units.weight)
        nn.init.zeros_(self.units.bias)

    def scores(self, x: Tensor) -> Tensor:
        """(B, ...) -> net inputs (B, K): how far each unit is above its threshold."""
        return self.units(x.flatten(1))  # (B, K)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) with F values in all but the first axis -> which units fire, (B, K) of 0 and 1."""
        return Heaviside.apply(self.scores(x))  # (B, K)
