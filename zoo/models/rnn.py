"""Elman network: a layer whose state is its own input at the next step.

Elman, "Finding structure in time", Cognitive Science 14(2), 1990:

    h_t = f(W x_t + U h_(t-1) + b)      state; f is tanh or ReLU
    y_t = V h_t + c                     output, of which the head makes what the task asks for

Going back one step multiplies the gradient by U^T and by the slope of f: over many steps it vanishes or explodes.
With f = ReLU and U = identity (model.recurrent_init=identity) a state without input stays as it is, and so does its
gradient
(Le, Jaitly, Hinton, "A simple way to initialize recurrent networks of rectified linear units", 2015, arXiv 1504.00941).

Departures from the paper
1. The whole gradient through time; Elman's own copies the state and goes back a single step.
2. Two biases, whose sum is what counts, as in torch.nn.RNN.

Axes: B batch, T steps, H hidden size, K outputs (and see zoo.layers.recurrent)
Trained by: every task with a head for sequences    Data: texts, series, music, images row by row
Equal to: zoo.scratch.recurrent (tests)
"""

from typing import Any

from torch import nn

from zoo.errors import UserError
from zoo.layers.recurrent import RecurrentNetwork


class RNN(RecurrentNetwork):
    """Elman layers over a sequence, and a head.

    Args:
        nonlinearity: f, "tanh" or "relu".
        network: see `RecurrentNetwork`.
    """

    def __init__(self, *, nonlinearity: str = "tanh", **network: Any) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise UserError(f"There is no model.nonlinearity={nonlinearity}; choose tanh or relu.")
        self.nonlinearity = nonlinearity
        super().__init__(**network)

    def make_layers(self, **sizes: Any) -> nn.RNN:
        return nn.RNN(nonlinearity=self.nonlinearity, **sizes)
