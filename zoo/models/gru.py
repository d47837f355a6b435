"""Gated recurrent unit: one gate between the old state and a new one, one on what the new one sees of the old.

Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014 (arXiv 1406.1078), in the form that
torch.nn.GRU computes:

    r = sigmoid(W_r x + U_r h + b_r)               reset gate: how much of the state the candidate sees
    z = sigmoid(W_z x + U_z h + b_z)               update gate: how much of the state is kept
    n = tanh(W_n x + b_n + r * (U_n h + b'_n))     candidate
    h <- (1 - z) * n + z * h

Departures from the paper
1. The reset gate is applied after the recurrent product and its bias; in the paper, before: U_n (r * h). The three
   conventions that are in use stand side by side in zoo.scratch.recurrent.

Axes: B batch, T steps, H hidden size, K outputs (and see zoo.layers.recurrent)
Trained by: every task with a head for sequences    Data: texts, series, music, images row by row
Equal to: zoo.scratch.recurrent (tests)
"""

from typing import Any

from torch import nn

from zoo.layers.recurrent import RecurrentNetwork, start_gate, start_memory


class GRU(RecurrentNetwork):
    """GRU layers over a sequence, and a head.

    Args:
        update_bias: where the update gates' bias starts; 1 lets a state be kept from the first step on, as a forget
            gate's bias does in an LSTM.
        longest_memory: in place of `update_bias`, in steps: units start to keep their states for times from one step to
            this one (chrono initialization, Tallec and Ollivier 2018).
        network: see `RecurrentNetwork`.
    """

    def __init__(self, *, update_bias: float = 0.0, longest_memory: int | None = None, **network: Any) -> None:
        self.update_bias, self.longest_memory = update_bias, longest_memory
        super().__init__(**network)

    def make_layers(self, **sizes: Any) -> nn.GRU:
        return nn.GRU(**sizes)

    def reset_parameters(self, recurrent_init: str) -> None:
        super().reset_parameters(recurrent_init)
        if self.longest_memory is not None:
            start_memory(self.layers, {1: 1}, self.longest_memory)  # of the gates r, z, n
        elif self.update_bias:
            start_gate(self.layers, 1, self.update_bias)
