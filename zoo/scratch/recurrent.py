"""Recurrent cells and layers written out: what a step does to the state, and how steps, layers and directions follow.

Elman, "Finding structure in time", 1990; Hochreiter and Schmidhuber, "Long short-term memory", 1997, with the forget
gate of Gers, Schmidhuber and Cummins, 2000; Cho et al., "Learning phrase representations using RNN encoder-decoder",
2014. All gates are sigmoids: shares in (0, 1), and no switches.

A recurrent network is one cell used at every step, so it is a feed-forward network of T layers that share their
weights (`unrolled`); the gradient of a weight is the sum over its T copies.

`RNN`, `LSTM`, `GRU` and their cells are twins of torch.nn's: same parameters, their own forward. Equal to torch's
forward, backward and in the final state (tests/scratch/test_recurrent.py).

Axes: B batch (B_t of it still going at step t), T steps, D input size, H hidden size, K outputs, G values of all gates,
N steps of all sequences together, L layers times directions
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from zoo.scratch.layers import Dropout

Function: TypeAlias = Callable[[Tensor], Tensor]
State: TypeAlias = Tensor | tuple[Tensor, Tensor]  # h, or (h, c) of an LSTM


def affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """W x + b of every row."""
    y = x @ weight.T
    return y if bias is None else y + bias


# The equations of torch's cells. Of a step they get x = W x_t + b and u = U h_(t-1) + b', (B, G) each, with the gates
# side by side, and the state before it. They return the state after it and then what led to it, (B, H) each.


class ElmanStep(NamedTuple):
    hidden: Tensor


class LSTMStep(NamedTuple):
    hidden: Tensor
    cell: Tensor
    input: Tensor
    forget: Tensor
    candidate: Tensor
    output: Tensor


class GRUStep(NamedTuple):
    hidden: Tensor
    reset: Tensor
    update: Tensor
    candidate: Tensor


Step: TypeAlias = ElmanStep | LSTMStep | GRUStep


def elman_tanh(x: Tensor, u: Tensor, h: Tensor) -> ElmanStep:
    """h <- tanh(W x + b + U h + b')."""
    return ElmanStep(torch.tanh(x + u))


def elman_relu(x: Tensor, u: Tensor, h: Tensor) -> ElmanStep:
    """h <- relu(W x + b + U h + b')."""
    return ElmanStep(torch.relu(x + u))


def lstm(x: Tensor, u: Tensor, h: Tensor, c: Tensor) -> LSTMStep:
    """i, f, o = sigmoid(W x + U h + b) each, g = tanh(the same): c <- f * c + i * g, h <- o * tanh(c)."""
    i, f, g, o = (x + u).chunk(4, 1)  # (B, H) each
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c + i * g
    return LSTMStep(o * torch.tanh(c), c, i, f, g, o)


def gru(x: Tensor, u: Tensor, h: Tensor) -> GRUStep:
    """r, z = sigmoid(W x + U h + b) each, n = tanh(W x + b + r * (U h + b')): h <- (1 - z) * n + z * h."""
    (x_r, x_z, x_n), (u_r, u_z, u_n) = x.chunk(3, 1), u.chunk(3, 1)  # (B, H) each
    r, z = torch.sigmoid(x_r + u_r), torch.sigmoid(x_z + u_z)
    n = torch.tanh(x_n + r * u_n)
    return GRUStep((1 - z) * n + z * h, r, z, n)


STEPS: dict[str, Callable[..., Step]] = {"RNN_TANH": elman_tanh, "RNN_RELU": elman_relu, "LSTM": lstm, "GRU": gru}


# One step at a time: cell(x (B, D), state) -> state.


class ElmanCell(nn.Module):
    """h_t = f(U h_(t-1) + W x_t + b) and y_t = g(V h_t + c), with one bias each.

    Args:
        f: of the state; any function of a tensor that keeps its shape.
        g: of the output; None for the values as they are.
    """

    def __init__(
        self,
        *,
        input_size: int,
        hidden_size: int,
        output_size: int,
        f: Function = torch.tanh,
        g: Function | None = None,
    ) -> None:
        super().__init__()
        self.f, self.g = f, g
        self.W = nn.Parameter(torch.empty(hidden_size, input_size))
        self.U = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.b = nn.Parameter(torch.empty(hidden_size))
        self.V = nn.Parameter(torch.empty(output_size, hidden_size))
        self.c = nn.Parameter(torch.empty(output_size))
        init_uniform(self, hidden_size)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """(B, D), (B, H) -> (B, H)."""
        h = x.new_zeros(len(x), len(self.U)) if h is None else h
        return self.f(h @ self.U.T + x @ self.W.T + self.b)  # (B, H)

    def output(self, h: Tensor) -> Tensor:
        """(..., H) -> (..., K)."""
        y = h @ self.V.T + self.c
        return y if self.g is None else self.g(y)


class CommonGRUCell(nn.Module):
    """GRU as most write-ups print it: z lets the new state in.

        z = sigmoid(W_z [h, x])    r = sigmoid(W_r [h, x])    h~ = tanh(W [r * h, x])    h <- (1 - z) * h + z * h~

    Some of them swap the letters r and z. Since sigmoid(-a) = 1 - sigmoid(a), it is `ChoGRUCell` with -W_z.
    """

    def __init__(self, *, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.W_z = nn.Parameter(torch.empty(hidden_size, hidden_size + input_size))
        self.W_r = nn.Parameter(torch.empty(hidden_size, hidden_size + input_size))
        self.W = nn.Parameter(torch.empty(hidden_size, hidden_size + input_size))
        init_uniform(self, hidden_size)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """(B, D), (B, H) -> (B, H)."""
        h = x.new_zeros(len(x), len(self.W)) if h is None else h
        both = torch.cat([h, x], 1)  # (B, H + D)
        z, r = torch.sigmoid(both @ self.W_z.T), torch.sigmoid(both @ self.W_r.T)  # (B, H) each
        new = torch.tanh(torch.cat([r * h, x], 1) @ self.W.T)  # (B, H)
        return (1 - z) * h + z * new


class ChoGRUCell(nn.Module):
    """GRU as it was published (Cho et al. 2014, equations 5 to 8): z keeps the old state.

        r = sigmoid(W_r x + U_r h)    z = sigmoid(W_z x + U_z h)    h~ = tanh(W x + U (r * h))
        h <- z * h + (1 - z) * h~

    Args:
        reset_after: h~ = tanh(W x + r * (U h)), which needs one product with the state and not two; then it is
            torch.nn.GRUCell without biases.
    """

    def __init__(self, *, input_size: int, hidden_size: int, reset_after: bool = False) -> None:
        super().__init__()
        self.reset_after = reset_after
        self.W_r, self.W_z, self.W = (nn.Parameter(torch.empty(hidden_size, input_size)) for _ in range(3))
        self.U_r, self.U_z, self.U = (nn.Parameter(torch.empty(hidden_size, hidden_size)) for _ in range(3))
        init_uniform(self, hidden_size)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """(B, D), (B, H) -> (B, H)."""
        h = x.new_zeros(len(x), len(self.U)) if h is None else h
        r = torch.sigmoid(x @ self.W_r.T + h @ self.U_r.T)  # (B, H)
        z = torch.sigmoid(x @ self.W_z.T + h @ self.U_z.T)  # (B, H)
        of_state = r * (h @ self.U.T) if self.reset_after else (r * h) @ self.U.T  # (B, H)
        new = torch.tanh(x @ self.W.T + of_state)
        return z * h + (1 - z) * new


def init_uniform(cell: nn.Module, hidden_size: int) -> None:
    """As torch's cells begin: uniform within 1 / sqrt(H)."""
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -1 / math.sqrt(hidden_size), 1 / math.sqrt(hidden_size))


class RNNCell(nn.RNNCell):
    """One step of `RNN`."""

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Tensor:
        (hidden,) = one_step(elman_tanh if self.nonlinearity == "tanh" else elman_relu, self, x, hx, 1)
        return hidden


class LSTMCell(nn.LSTMCell):
    """One step of `LSTM`; the state is (h, c)."""

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        hidden, cell = one_step(lstm, self, x, hx, 2)
        return hidden, cell


class GRUCell(nn.GRUCell):
    """One step of `GRU`."""

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Tensor:
        (hidden,) = one_step(gru, self, x, hx, 1)
        return hidden


def one_step(
    step: Callable[..., Step], cell: nn.RNNCellBase, x: Tensor, hx: State | None, parts: int
) -> tuple[Tensor, ...]:
    """The state after a step of a batch (B, D), or of one sample (D,); `parts` tensors."""
    if x.ndim == 1:
        one = one_step(step, cell, x[None], changed(lambda part: part[None], hx), parts)
        return tuple(part[0] for part in one)
    state = as_parts(hx) or (x.new_zeros(len(x), cell.hidden_size),) * parts
    if x.ndim != 2 or any(part.shape != (len(x), cell.hidden_size) for part in state):
        shapes = [tuple(part.shape) for part in (x, *state)]
        raise ValueError(f"a step is (B, {cell.input_size}) and its state (B, {cell.hidden_size}), not {shapes}")
    x, u = affine(x, cell.weight_ih, cell.bias_ih), affine(state[0], cell.weight_hh, cell.bias_hh)  # (B, G) each
    return step(x, u, *state)[:parts]


# Through time.


def through_time(cells: Sequence[nn.Module], xs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """(B, T, D) through one cell a step: states (B, T, H), and the last one.

    `[cell] * T` is the recurrent network: the same cell at every step. `unrolled(cell, T)` is the feed-forward one.
    """
    hidden = []
    for cell, x in zip(cells, xs.unbind(1), strict=True):  # unbind: the gradient of xs[:, t] would fill all T, T times
        state = cell(x, state)
        hidden.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(hidden, 1), state  # (B, T, H)


def unrolled(cell: nn.Module, num_steps: int) -> nn.ModuleList:
    """A feed-forward network of T layers with the weights of the cell, each with a copy of its own."""
    return nn.ModuleList(copy.deepcopy(cell) for _ in range(num_steps))


class Passed(NamedTuple):
    """What several layers made of their input: outputs (N, directions H); each part of the final state (L, B, H); every
    step's values, by layer times directions plus direction."""

    outputs: Tensor
    state: tuple[Tensor, ...]
    steps: list[list[Step]]


def through_layers(layers: nn.RNNBase, x: Tensor, sizes: Sequence[int], state: tuple[Tensor, ...], p: float) -> Passed:
    """All layers and directions of torch.nn.RNN, LSTM or GRU, from their equations.

    Args:
        x: (N, D), step by step, and within a step the sequences that are still going, longest first: `data` of a
            PackedSequence, whose `batch_sizes` are `sizes`.
        state: (L, B, H) each: h, and c of an LSTM.
        p: dropout between layers.
    """
    if layers.proj_size:
        raise ValueError(f"{layers} has projections, which are not written out")
    directions = 2 if layers.bidirectional else 1
    before = list(zip(*(part.unbind(0) for part in state), strict=True))  # L times the parts, (B, H) each
    final: list[tuple[Tensor, ...]] = []
    steps: list[list[Step]] = []
    for layer in range(layers.num_layers):
        x = Dropout(p)(x) if layer > 0 else x
        for backwards in range(directions):
            made, last = through_layer(layers, layer, bool(backwards), x, sizes, before[len(steps)])
            final.append(last)
            steps.append(made)
        hidden = [torch.cat([step.hidden for step in made]) for made in steps[-directions:]]  # (N, H) each
        x = torch.cat(hidden, 1)  # (N, directions H)
    return Passed(x, tuple(torch.stack(part) for part in zip(*final, strict=True)), steps)


def through_layer(
    layers: nn.RNNBase, layer: int, backwards: bool, x: Tensor, sizes: Sequence[int], state: tuple[Tensor, ...]
) -> tuple[list[Step], tuple[Tensor, ...]]:
    """One layer in one direction: every step's values in the order of time, and the state after the last one read."""
    suffix = f"_l{layer}" + ("_reverse" if backwards else "")
    w_x, w_h = getattr(layers, "weight_ih" + suffix), getattr(layers, "weight_hh" + suffix)
    b_x, b_h = (getattr(layers, name + suffix, None) for name in ("bias_ih", "bias_hh"))
    inputs = affine(x, w_x, b_x).split(list(sizes))  # T times (B_t, G): what needs no state is done at once
    steps: list[Step] = []
    for now in reversed(inputs) if backwards else inputs:
        going = state if len(now) == len(state[0]) else tuple(part[: len(now)] for part in state)
        step = STEPS[layers.mode](now, affine(going[0], w_h, b_h), *going)
        # A sequence that has ended keeps its state, and one that has not begun (backwards) the state it starts from.
        pairs = zip(step[: len(state)], state, strict=True)
        state = tuple(new if len(new) == len(old) else torch.cat([new, old[len(new) :]]) for new, old in pairs)
        steps.append(step)
    return steps[::-1] if backwards else steps, state


class Recurrent(nn.RNNBase):
    """What the three twins share: any input that torch's take, and an answer of the same form."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        """(T, B, D), (B, T, D) if `batch_first`, (T, D) of one sequence, or packed -> the same with H; final state."""
        if isinstance(x, PackedSequence):
            rows, sizes, order, back = x
            outputs, state = self.read(rows, sizes, hx if order is None else changed(lambda part: part[:, order], hx))
            answer = PackedSequence(outputs, sizes, order, back)
            return answer, state if back is None else changed(lambda part: part[:, back], state)
        if x.ndim == 2:
            batch_axis = 0 if self.batch_first else 1
            outputs, state = self(x.unsqueeze(batch_axis), changed(lambda part: part.unsqueeze(1), hx))
            return outputs.squeeze(batch_axis), changed(lambda part: part.squeeze(1), state)
        x = x.transpose(0, 1) if self.batch_first else x  # (T, B, D)
        num_steps, batch_size, _ = x.shape
        outputs, state = self.read(x.flatten(0, 1), torch.full((num_steps,), batch_size), hx)  # (N, directions H)
        outputs = outputs.unflatten(0, (num_steps, batch_size))  # (T, B, directions H)
        return outputs.transpose(0, 1) if self.batch_first else outputs, state

    def read(self, rows: Tensor, sizes: Tensor, hx: State | None) -> tuple[Tensor, State]:
        """Rows (N, D) in the order of a PackedSequence; the state in that order, too."""
        hx = no_state(self, rows, int(sizes[0])) if hx is None else hx
        self.check_forward_args(rows, hx, sizes)  # type: ignore[arg-type]
        passed = through_layers(self, rows, sizes.tolist(), as_parts(hx), self.dropout if self.training else 0.0)
        return passed.outputs, hx_of(passed.state)


class RNN(Recurrent, nn.RNN):
    """Elman layers: h <- f(W x + b + U h + b') with f = tanh or relu."""


class LSTM(Recurrent, nn.LSTM):
    """LSTM layers; see `lstm`. Without projections (`proj_size`)."""


class GRU(Recurrent, nn.GRU):
    """GRU layers in torch's convention; see `gru`."""


def as_parts(hx: State | None) -> tuple[Tensor, ...]:
    """h -> (h,), (h, c) -> (h, c), None -> ()."""
    return () if hx is None else tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)


def hx_of(parts: tuple[Tensor, ...]) -> State:
    """(h,) -> h, (h, c) -> (h, c)."""
    return parts[0] if len(parts) == 1 else (parts[0], parts[1])


def changed(change: Function, hx: State | None) -> State | None:
    """Every part of a state, changed alike."""
    return None if hx is None else hx_of(tuple(change(part) for part in as_parts(hx)))


def no_state(layers: nn.RNNBase, x: Tensor, batch_size: int) -> State:
    """Zeros, the state before the first step."""
    zeros = x.new_zeros(layers.num_layers * (2 if layers.bidirectional else 1), batch_size, layers.hidden_size)
    return (zeros, zeros) if layers.mode == "LSTM" else zeros


@torch.no_grad()
def gates(
    layers: nn.RNNBase, steps: Tensor, state: State | None = None, *, layer: int = -1, backwards: bool = False
) -> dict[str, Tensor]:
    """What goes on inside one layer at each step. Nothing is changed; dropout is off.

    Args:
        layers: torch.nn.LSTM, GRU or RNN, or a twin of them.
        steps: (B, T, D), whatever `batch_first` says; no padding.
        state: before the first step, as torch's layers take it.
        layer: which one; -1 is the last.
        backwards: of two directions the one from the end.

    Returns:
        (B, T, H) each. LSTM: hidden, cell, input, forget, candidate, output. GRU: hidden, reset, update, candidate.
        RNN: hidden. Gates are in (0, 1), candidates in (-1, 1).

    Raises:
        ValueError: there is no such layer or direction, or the layers have projections.
    """
    if not -layers.num_layers <= layer < layers.num_layers or (backwards and not layers.bidirectional):
        raise ValueError(f"no layer {layer}{' backwards' if backwards else ''} in {layers}")
    batch_size, num_steps, _ = steps.shape
    parts = as_parts(no_state(layers, steps, batch_size) if state is None else state)
    rows = steps.transpose(0, 1).flatten(0, 1)  # (N, D)
    passed = through_layers(layers, rows, [batch_size] * num_steps, parts, 0.0)
    place = layer % layers.num_layers * (2 if layers.bidirectional else 1) + backwards
    made = passed.steps[place]
    return {name: torch.stack([getattr(step, name) for step in made], 1) for name in made[0]._fields}
