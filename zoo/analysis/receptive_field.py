"""How far the units of a network see: the input values that each may depend on, followed through a forward pass.

Along each axis a unit sees from a first to a last input value. A layer with a window turns both ends over (`Reach`);
where paths meet, a unit sees from the first to the last of all of them: in a ResNet what the longest path sees. Values
beyond the border count as if they were there, and the statistics of batch norm not at all.

Araujo, Norris, Sim, "Computing receptive fields of convolutional neural networks", Distill, 2019, has the recurrences
for layers with one stride; here transposed convolutions are followed, too.

Axes: B batch, C channels, H height, W width, L length, F features
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo.layers.window import ADAPTIVE, Window, windows


class Reach(NamedTuple):
    """Input values that a unit depends on, along one axis.

    Unit i sees first[i mod P] + (i div P) jump to last[i mod P] + (i div P) jump. P is 1 until a transposed convolution
    makes neighbours see differently much. Both ends grow with i.
    """

    first: tuple[int, ...] = (0,)
    last: tuple[int, ...] = (0,)
    jump: int = 1

    def of(self, i: int) -> tuple[int, int]:
        rounds, phase = divmod(i, len(self.first))
        return self.first[phase] + rounds * self.jump, self.last[phase] + rounds * self.jump

    @property
    def size(self) -> int:
        return max(last - first for first, last in zip(self.first, self.last, strict=True)) + 1

    def seen_by(self, first: Callable[[int], int], last: Callable[[int], int], period: int) -> "Reach":
        """The reach of a layer whose unit i sees the units first(i) to last(i), in steps that repeat after `period`."""
        ends = [(self.of(first(i))[0], self.of(last(i))[1]) for i in range(period + 1)]
        starts, stops = zip(*ends, strict=True)
        return Reach(starts[:-1], stops[:-1], starts[-1] - starts[0])

    def through(self, window: Window, n: int) -> "Reach":
        """The reach of a layer on top that has this window, over n units."""
        s, span, (p, _) = window.stride, window.span, window.padding_of(n)
        if window.transposed:
            return self.seen_by(lambda i: -((span - i - p) // s), lambda i: (i + p) // s, s * len(self.first))
        period = len(self.first) // math.gcd(len(self.first), s)
        return self.seen_by(lambda i: i * s - p, lambda i: i * s - p + span, period)

    def shrunk(self, n: int, size: int) -> "Reach":
        """The reach of an adaptive pooling layer on top, that turns n values into `size`."""
        return self.seen_by(lambda i: i * n // size, lambda i: -(-(i + 1) * n // size) - 1, size * len(self.first))


EVERYTHING, UNKNOWN = "all", "?"  # the whole input; behind a layer or function that this file does not know
Field = tuple[Reach, ...] | str


def union(fields: Iterable[Field]) -> Field:
    """What a unit sees that depends on several units."""
    found = list(dict.fromkeys(fields))
    for answer in (UNKNOWN, EVERYTHING):
        if answer in found:
            return answer
    if len(found) == 1:
        return found[0]
    several = cast(list[tuple[Reach, ...]], found)
    along = [widest(axis) for axis in zip(*several, strict=True)] if len(set(map(len, several))) == 1 else [None]
    return UNKNOWN if None in along else tuple(reach for reach in along if reach is not None)


def widest(axis: Sequence[Reach]) -> Reach | None:
    """Along one axis, from the first to the last value that any path sees; None for paths that move apart."""
    period = math.lcm(*(len(reach.first) for reach in axis))
    jumps = {reach.jump * period // len(reach.first) for reach in axis}
    if len(jumps) > 1:
        return None
    ends = [[reach.of(i) for reach in axis] for i in range(period)]
    firsts = tuple(min(first for first, _ in paths) for paths in ends)
    return Reach(firsts, tuple(max(last for _, last in paths) for paths in ends), jumps.pop())


class Following(TorchFunctionMode):
    """While it is on, what a function returns carries the union of the fields of what it was given."""

    REDUCE = frozenset({"mean", "sum", "amax", "amin", "max", "min", "std", "var", "prod", "norm", "logsumexp"})
    MIX = frozenset(
        {"linear", "matmul", "__matmul__", "mm", "bmm", "einsum", "lstm", "gru", "rnn_tanh", "rnn_relu", "unfold"}
        | {"scaled_dot_product_attention", "multi_head_attention_forward"}
        | {f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in (1, 2, 3)}
        | {f"{kind}_pool{axes}d" for kind in ("max", "avg", "adaptive_max", "adaptive_avg") for axes in (1, 2, 3)}
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [x for x in tensors((args, kwargs)) if field_of(x) is not None]
        if given:
            seen = union(cast(Field, field_of(x)) for x in given)
            for y in tensors(result):
                set_field(y, self.field(func.__name__, args, kwargs or {}, given[0], y, seen))
        return result

    def field(self, name: str, args: Any, kwargs: Any, x: Tensor, y: Tensor, seen: Field) -> Field:
        """The field of y, which the function made of x and perhaps of others; `seen` is the union of theirs."""
        if isinstance(seen, str):
            return seen
        axes = len(seen)
        if name == "__getitem__" and x.ndim >= axes + 1:
            return sliced(seen, args[1], x)
        if name == "pad":
            before = list(kwargs.get("pad", args[1] if len(args) > 1 else ()))[::2] + [0] * axes  # the last axis first
            return tuple(
                reach.through(Window(1, padding=int(p)), n)
                for reach, p, n in zip(seen, reversed(before[:axes]), x.shape[-axes:], strict=True)
            )
        if name in self.MIX:
            return EVERYTHING if name == "linear" and x.ndim == 2 else UNKNOWN
        if x.shape[-axes:] == y.shape[-axes:]:
            return seen
        if name in self.REDUCE:
            return EVERYTHING
        return UNKNOWN if x.ndim == y.ndim else seen


def sliced(seen: tuple[Reach, ...], index: Any, x: Tensor) -> Field:
    """The field of x[index]."""
    parts = list(index) if isinstance(index, tuple) else [index]
    for place in [i for i, part in enumerate(parts) if part is Ellipsis]:
        parts[place : place + 1] = [slice(None)] * (x.ndim - len(parts) + 1)
    parts += [slice(None)] * (x.ndim - len(parts))
    along = parts[-len(seen) :]
    if len(parts) != x.ndim or not all(isinstance(part, slice) for part in along):
        return UNKNOWN
    starts = [part.indices(n) for part, n in zip(along, x.shape[-len(seen) :], strict=True)]
    return tuple(
        reach.through(Window(1, stride=step, padding=-start), n)
        for reach, (start, _, step), n in zip(seen, starts, x.shape[-len(seen) :], strict=True)
    )


def tensors(values: Any) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from tensors(value)
    elif isinstance(values, dict):
        yield from tensors(list(values.values()))


def field_of(x: Tensor) -> Field | None:
    """None where nothing of the input is in x."""
    return getattr(x, "_zoo_field", None)


def set_field(x: Tensor, seen: Field) -> None:
    x._zoo_field = seen  # type: ignore[attr-defined]


def seen_by(layer: nn.Module, x: Tensor, y: Tensor) -> Field | None:
    """The field of a layer that made y of x."""
    before = field_of(x)
    if before is None or isinstance(before, str):
        return field_of(y)
    sliding = windows(layer)
    axes = len(sliding) or (x.ndim - 2 if isinstance(layer, ADAPTIVE) else 0)
    if axes and axes != len(before):
        return UNKNOWN
    if sliding:
        return tuple(map(Reach.through, before, sliding, x.shape[2:]))
    if isinstance(layer, nn.Linear):
        return EVERYTHING if x.ndim == 2 else UNKNOWN
    if isinstance(layer, ADAPTIVE):
        return tuple(map(Reach.shrunk, before, x.shape[2:], y.shape[2:])) if y[0, 0].numel() > 1 else EVERYTHING
    return field_of(y)
