"""States of decoders: what a network knows of each text that it writes, picked from and put together.

A state is a tensor with B first, None, or a tuple of such, nested to any depth. A tuple with an attribute `shared`, as
`zoo.layers.attention.Shared` is, has a row for each text that all its beams share; all else has a row for each beam.

Axes: B texts side by side, A rows that are picked, S places of a memory
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

PIECES = 4  # that a batch of sources is encoded in
FULL = 0.9  # share of its places that are real, from which on it is encoded at once


def like(state: Any, parts: Iterable[Any]) -> Any:
    """A tuple of other parts that is as shared as the state was."""
    return type(state)(parts) if getattr(state, "shared", False) else tuple(parts)


def reordered(state: Any, rows: Tensor, before: Any = None, texts: Tensor | None = None) -> Any:
    """A state with other rows, or with the same ones in another order.

    Args:
        state: see above.
        rows: (A,) int64, which of the B rows come; any of them may come several times, or not at all.
        before: the state that a step made this one of. A tensor that it has handed on, the same object, is left as it
            is: right where rows change places only with those that have this part in common with them.
        texts: which rows of a shared part come; None: `rows`.
    """
    if isinstance(state, Tensor):
        return state if state is before else state.index_select(0, rows)
    if isinstance(state, (tuple, list)):
        old = before if isinstance(before, (tuple, list)) and len(before) == len(state) else [None] * len(state)
        picked = texts if texts is not None and getattr(state, "shared", False) else rows
        return like(state, (reordered(part, picked, was, texts) for part, was in zip(state, old, strict=True)))
    return state


def merged(states: Sequence[Any], order: Tensor) -> Any:
    """One state of several of the same network.

    Args:
        states: what differs in size beyond the rows, the places of a memory, is padded with zeros.
        order: (B,) int64, where each row comes to stand, those of all states one after another.
    """
    first = states[0]
    if isinstance(first, Tensor):
        sizes = [max(size) for size in zip(*(part.shape[1:] for part in states), strict=True)]
        whole = first.new_zeros(len(order), *sizes)
        for part, rows in zip(states, order.split([len(part) for part in states]), strict=True):
            whole[(slice(None), *map(slice, part.shape[1:]))].index_copy_(0, rows, part)
        return whole
    if isinstance(first, (tuple, list)):
        return like(first, (merged(parts, order) for parts in zip(*states, strict=True)))
    return first


def begun(model: Any, src: Tensor, src_mask: Tensor | None) -> Any:
    """The state of a model before it writes anything of B sources; see `zoo.decoding.answers`.

    Sources of similar lengths are encoded together: of a batch as it comes, half of the places are padding.
    """
    if src_mask is None or src_mask.float().mean() > FULL:
        return model.start(model.encode(src, src_mask), src_mask)
    places = torch.arange(1, src.shape[1] + 1, device=src.device)
    ends = (src_mask * places).amax(1).clamp(min=1)  # (B,)
    order, states = ends.argsort(), []
    for rows in order.chunk(PIECES):
        some, mask = (part[rows, : ends[rows[-1]]] for part in (src, src_mask))  # (B / PIECES, longest) each
        states.append(model.start(model.encode(some, mask), mask))
    return merged(states, order)
