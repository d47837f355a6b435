"""What each layer of a network makes of its input: sizes, parameters, operations, receptive field.

Every size is computed from the formulas of `zoo.layers.window` and held against what the layer really gives. FLOPs are
those of convolutions and dense layers for one sample; a multiply-add counts as 2, other layers as nothing. How far a
unit sees comes from `zoo.analysis.receptive_field`.

Axes: B batch, C channels, H height, W width, F features
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.analysis.receptive_field import Field, Following, Reach, seen_by, set_field, tensors
from zoo.layers.weights import RECURRENT
from zoo.layers.window import CONVOLUTIONS, TRANSPOSED, Window, windows

# Layers with weights of which each is used about once: next to a convolution that is nothing.
UNCOUNTED = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.Embedding, nn.PReLU)


def flops(layer: nn.Module, x: Tensor, y: Tensor) -> int | None:
    """For one sample; None where there are weights of which nobody has said how often they are used."""
    if isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED)):
        stamped = x if isinstance(layer, TRANSPOSED) else y  # each weight is used once at each place of it
        return 2 * layer.weight.numel() * stamped[0, 0].numel()
    if isinstance(layer, nn.Linear):
        return 2 * layer.weight.numel() * y[0, ..., 0].numel()
    if isinstance(layer, RECURRENT):  # each matrix once a step; what the gates do to single numbers is not counted
        return 2 * sum(p.numel() for p in layer.parameters() if p.ndim == 2) * (y.shape[1] if y.ndim == 3 else 1)
    return 0 if isinstance(layer, UNCOUNTED) or not any(True for _ in layer.parameters(recurse=False)) else None


@dataclass
class Row:
    """One call of one layer; shapes without the batch.

    Args:
        windows: one for each axis of a convolution or pooling layer.
        parameters: its own, in the first of its calls.
        flops: see `flops`.
        seen: what its units see; None where the input is neither images nor rows.
    """

    name: str
    kind: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    windows: list[Window]
    parameters: int
    flops: int | None
    seen: Field | None


def shapes(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Row]:
    """One row for each call of a layer, in order.

    Args:
        inputs: a batch of (B, C, H, W) images, (B, F) rows or anything else. The model is called with it once, in
            evaluation mode, without gradients.
    """
    rows: list[Row] = []
    counted: set[nn.Module] = set()

    def note(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: Any, kwargs: Any, outputs: Any) -> None:
            x, y = (next(tensors(values), None) for values in ((args, kwargs), outputs))
            if x is None or y is None:
                return
            sliding = windows(layer)
            expected = tuple(map(Window.size, sliding, x.shape[2:])) or tuple(y.shape[2:])
            assert expected == tuple(y.shape[2:]), (
                f"{name}: the formula gives {expected}, the layer {tuple(y.shape[2:])}"
            )
            seen = seen_by(layer, x, y)
            if seen is not None:
                set_field(y, seen)
            own = 0 if layer in counted else sum(p.numel() for p in layer.parameters(recurse=False))
            counted.add(layer)
            kind, flat = type(layer).__name__, (tuple(x.shape[1:]), tuple(y.shape[1:]))
            rows.append(Row(name, kind, *flat, sliding, own, flops(layer, x, y), seen))

        return hook

    layers = [(name or "model", m) for name, m in model.named_modules() if is_layer(m)]
    handles = [layer.register_forward_hook(note(name), with_kwargs=True) for name, layer in layers]
    modes = [(module, module.training) for module in model.modules()]
    fields = {4: (Reach(), Reach()), 2: (Reach(),)}
    inputs = tuple(None if x is None else x.detach() for x in inputs)  # objects of our own, to carry a field
    for x in inputs:
        if x is not None and x.is_floating_point() and x.ndim in fields:
            set_field(x, fields[x.ndim])
    try:
        with torch.no_grad(), Following():
            model.eval()(*inputs)
    finally:
        for module, mode in modes:
            module.training = mode
        for handle in handles:
            handle.remove()
    return rows


def is_layer(module: nn.Module) -> bool:
    """Whether it does something itself, and is no mere box of others."""
    has_own = any(True for _ in module.parameters(recurse=False))
    return has_own or (not list(module.children()) and not isinstance(module, (nn.Identity, nn.Sequential)))


HEADER = ("layer", "kind", "input", "output", "kernel", "stride", "padding", "parameters", "FLOPs", "receptive field")


def table(rows: Sequence[Row], model: nn.Module) -> str:
    """The rows in aligned columns, with the totals below."""
    total = sum(p.numel() for p in model.parameters())
    cells = [HEADER, *map(cells_of, rows)]
    cells.append(("total", *[""] * 6, f"{total:,}", f"{sum(row.flops or 0 for row in rows):,}", ""))
    shown = [i for i, name in enumerate(HEADER) if name in ("layer", "parameters") or any(row[i] for row in cells[1:])]
    widths = [max(len(row[i]) for row in cells) for i in shown]
    lines = []
    for row in cells:
        aligned = (
            row[i].rjust(width) if i > 6 else row[i].ljust(width) for i, width in zip(shown, widths, strict=True)
        )
        lines.append("  ".join(aligned).rstrip())
    rule = "-" * max(map(len, lines))
    notes = ["FLOPs: of one sample; a multiply-add counts as 2; convolutions, dense and recurrent layers alone."]
    if any(row.seen is not None for row in rows):
        notes.append("Receptive field: input values along each axis that a unit may depend on, over the longest path.")
    left = total - sum(row.parameters for row in rows)
    notes += [f"{left:,} parameters belong to layers that were not called by themselves."] if left else []
    uncounted = sorted({row.kind for row in rows if row.flops is None})
    notes += [f"FLOPs of {', '.join(uncounted)} are not counted."] if uncounted else []
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], "", *notes])


def cells_of(row: Row) -> tuple[str, ...]:
    kernel = alike(window.kernel_size for window in row.windows)
    dilation = alike(window.dilation for window in row.windows)
    added = alike(window.output_padding for window in row.windows)
    seen = row.seen if isinstance(row.seen, str) else alike(reach.size for reach in row.seen or ())
    return (
        row.name,
        row.kind,
        by_x(row.input),
        by_x(row.output),
        kernel if dilation in ("", "1") else f"{kernel} (dilation {dilation})",
        alike(window.stride for window in row.windows),
        alike(window.padding for window in row.windows) + ("" if added in ("", "0") else f" (output {added})"),
        f"{row.parameters:,}" if row.parameters else "",
        "?" if row.flops is None else f"{row.flops:,}" if row.flops else "",
        seen,
    )


def by_x(sizes: Iterable[object]) -> str:
    return "x".join(map(str, sizes))


def alike(values: Iterable[object]) -> str:
    """One value where all axes have the same."""
    found = list(values)
    return by_x(found[:1] if len(set(found)) == 1 else found)
