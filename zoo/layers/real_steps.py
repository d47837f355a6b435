"""Recurrent layers over sequences of different lengths, padding left out, without packing them where that is slow.

`torch.nn.utils.rnn.pack_padded_sequence` tells torch's layers which steps are real. On a CPU they then go step by step
through rows of ever fewer sequences, and their backward pass makes a gradient of the size of all steps for each single
one: its time grows with the square of the length (and oneDNN's LSTM is not used at all). Here the sequences are sorted
by length and read in spans between the places where one of them ends, each span by torch's layers as if it were alone,
from the states that the span before has left. On other devices, and where a hook looks at the layers, they are packed.

Axes: B batch, T steps, D width of a step, H hidden size
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from zoo.onednn import where_it_can

State = tuple[Tensor, ...]  # h of an RNN or a GRU, h and c of an LSTM


# torch.compile leaves torch's recurrent layers as they are. What stands around them here, whose sizes change with the
# lengths of each batch, it would compile again and again.
@torch.compiler.disable
def over_all_steps(layers: nn.RNNBase, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """What `layers` say of x (B, T, D) without padding: (B, T, directions H), and the state after the last step."""
    with where_it_can(layers):
        return layers(x, state)


@torch.compiler.disable
def over_real_steps(layers: nn.RNNBase, x: Tensor, lengths: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """What `layers` say of packed sequences: (B, T, directions H), 0 at padding, and the state after each last step.

    Args:
        layers: torch.nn.RNN, LSTM or GRU, batch first, without projections.
        x: (B, T, D), padded at the end.
        lengths: (B,) of real steps, each from 1 to T.
        state: to begin from, as the layers take it.
    """
    with where_it_can(layers):
        return read(layers, x, lengths.cpu(), state)


def read(layers: nn.RNNBase, x: Tensor, lengths: Tensor, state: Any) -> tuple[Tensor, Any]:
    watched = bool(layers._forward_hooks or layers._forward_pre_hooks)  # a hook sees one call, of all steps
    if x.device.type != "cpu" or watched or type(layers) not in (nn.RNN, nn.LSTM, nn.GRU):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        outputs, state = layers(packed, state)
        return pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])[0], state
    order = lengths.argsort(descending=True, stable=True)
    spans = list(pairwise([0, *sorted(set(lengths.tolist()))]))
    reading = [int((lengths > begin).sum()) for begin, _ in spans]  # rows that are still read in each span
    begun = None if state is None else tuple(p[:, order] for p in (state if isinstance(state, tuple) else (state,)))
    if layers.bidirectional:
        outputs, ended = in_both_directions(layers, x[order], begun, lengths[order], spans, reading)
    else:
        outputs, ended = by_spans(layers, x[order], begun, spans, reading)
    back = order.argsort()
    outputs = F.pad(outputs, (0, 0, 0, x.shape[1] - outputs.shape[1]))[back]
    ended = tuple(part[:, back] for part in ended)
    return outputs, ended if isinstance(layers, nn.LSTM) else ended[0]


def by_spans(
    layer: Any, x: Tensor, state: State | None, spans: list[tuple[int, int]], reading: list[int]
) -> tuple[Tensor, State]:
    """One direction of sequences sorted by length: outputs (B, longest, H) and last states (layers, B, H)."""
    outputs: list[Tensor] = []
    ended: list[State] = []
    widths = [end - begin for begin, end in spans]
    for piece, rows, still in zip(x[:, : spans[-1][1]].split(widths, 1), reading, [*reading[1:], 0], strict=True):
        given = state if state is None or len(state) > 1 else state[0]
        answer, left = layer(piece[:rows], given)  # (rows, span, H)
        outputs.append(F.pad(answer, (0, 0, 0, 0, 0, len(x) - rows)))
        state = left if isinstance(left, tuple) else (left,)
        ended.append(tuple(part[:, still:] for part in state))
        state = tuple(part[:, :still].contiguous() for part in state)
    return torch.cat(outputs, 1), tuple(torch.cat(parts, 1) for parts in zip(*reversed(ended), strict=True))


def in_both_directions(
    layers: nn.RNNBase,
    x: Tensor,
    state: State | None,
    lengths: Tensor,
    spans: list[tuple[int, int]],
    reading: list[int],
) -> tuple[Tensor, State]:
    """Layer by layer, since each reads both directions of the one below; the second direction reads them turned."""
    place = torch.arange(spans[-1][1]).expand(len(x), -1)  # (B, longest)
    turned = torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place).unsqueeze(2)  # (B, longest, 1)
    x, ends = x[:, : spans[-1][1]], []
    for n in range(layers.num_layers):
        if n:
            x = F.dropout(x, layers.dropout, layers.training)
        begun = [None if state is None else tuple(part[[2 * n + way]] for part in state) for way in (0, 1)]
        ahead, end = by_spans(one_direction(layers, n, ""), x, begun[0], spans, reading)
        turned_x = x.gather(1, turned.expand_as(x))
        backwards, other_end = by_spans(one_direction(layers, n, "_reverse"), turned_x, begun[1], spans, reading)
        ends += [end, other_end]
        x = torch.cat([ahead, backwards.gather(1, turned.expand_as(backwards))], 2)  # (B, longest, 2 H)
    return x, tuple(torch.cat(parts) for parts in zip(*ends, strict=True))


def one_direction(layers: nn.RNNBase, n: int, suffix: str) -> Any:
    """One direction of one layer as a function of steps and state, with that layer's own weights."""
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if layers.bias else [])]
    weights = [getattr(layers, f"{name}_l{n}{suffix}") for name in names]
    kind = f"rnn_{layers.nonlinearity}" if isinstance(layers, nn.RNN) else type(layers).__name__.lower()
    function, parts = getattr(torch, kind), 2 if isinstance(layers, nn.LSTM) else 1

    def read(x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        if state is None:
            zero = x.new_zeros(1, len(x), layers.hidden_size)
            state = (zero,) * parts if parts > 1 else zero
        answer, *left = function(x, state, weights, layers.bias, 1, 0.0, layers.training, False, True)
        return answer, tuple(left) if parts > 1 else left[0]

    return read
