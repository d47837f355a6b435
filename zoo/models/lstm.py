"""Long short-term memory: a cell whose gates decide what it forgets, takes in and shows.

Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997; the forget gate is that of Gers,
Schmidhuber and Cummins, "Learning to forget", 2000:

    i = sigmoid(W_i x + U_i h + b_i)      input gate: how much of the candidate is written
    f = sigmoid(W_f x + U_f h + b_f)      forget gate: how much of the cell is kept
    o = sigmoid(W_o x + U_o h + b_o)      output gate: how much of the cell is shown
    g = tanh(W_g x + U_g h + b_g)         candidate
    c <- f * c + i * g                    cell: where f is near 1, a gradient goes back through time undiminished
    h <- o * tanh(c)                      state

Departures from the paper
1. No peepholes, and the whole gradient through time, as is usual today.
2. Two biases a gate, whose sum is what counts, as in torch.nn.LSTM.

Axes: B batch, T steps, H hidden size, K outputs (and see zoo.layers.recurrent)
Trained by: every task with a head for sequences    Data: texts, series, music, images row by row
Equal to: zoo.scratch.recurrent (tests)
"""

from typing import Any

from torch import nn

from zoo.layers.recurrent import RecurrentNetwork, start_gate, start_memory


class LSTM(RecurrentNetwork):
    """LSTM layers over a sequence, and a head.

    Args:
        forget_bias: where the forget gates' bias starts; 1 lets a cell remember from the first step on (Jozefowicz,
            Zaremba, Sutskever 2015, section 5).
        longest_memory: in place of `forget_bias`, in steps: cells start to remember for times from one step to this
            one, and take in as much less (chrono initialization, Tallec and Ollivier 2018).
        network: see `RecurrentNetwork`.
    """

    def __init__(self, *, forget_bias: float = 1.0, longest_memory: int | None = None, **network: Any) -> None:
        self.forget_bias, self.longest_memory = forget_bias, longest_memory
        super().__init__(**network)

    def make_layers(self, **sizes: Any) -> nn.LSTM:
        return nn.LSTM(**sizes)

    def reset_parameters(self, recurrent_init: str) -> None:
        super().reset_parameters(recurrent_init)
        if self.longest_memory is not None:
            start_memory(self.layers, {0: -1, 1: 1}, self.longest_memory)  # of the gates i, f, g, o
        else:
            start_gate(self.layers, 1, self.forget_bias)
