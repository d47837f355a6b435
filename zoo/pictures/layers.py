"""What the layers of a network hold and do, from the input to the output.

Axes: N kernels or units, C channels, H height, W width, h x w size of a kernel, L layers
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from zoo.pictures.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAME = 0.25  # dark grey, which no weight has


def layer_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One row a layer, with keys of the first row as header -> a table in markdown."""
    header = list(rows[0])
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(row[key]) for key in header) + " |" for row in rows])


def over_depth(
    layers: Sequence[str], lines: Mapping[str, Sequence[float]], *, ylabel: str, title: str = "",
    starts: Sequence[int] = (),
) -> Figure:  # fmt: skip
    """A value of each layer, from the input to the output, on a logarithmic axis.

    Args:
        layers: names of the L layers.
        lines: {when: L values from 0 on}, drawn from dark to light in their order. A value of exactly 0 is a triangle
            at the lower edge, one that is no number is left out.
        starts: layers, counted from 0, with which another network begins; no line leads there.
    """
    from matplotlib import colormaps

    # Powers of ten on a plain axis and margins of our own: drawn in a third of the time of what matplotlib offers.
    values = {when: torch.tensor(line, dtype=torch.float64) for when, line in lines.items()}
    logs = {when: v.where(v > 0, torch.nan).log10().where(v.isfinite(), torch.nan) for when, v in values.items()}
    seen = torch.cat([line[line.isfinite()] for line in logs.values()])
    low, high = (math.floor(float(seen.min())), math.ceil(float(seen.max()))) if len(seen) else (-1, 0)
    low, high = (low, high) if low < high else (low - 1, high + 1)
    step = -(-(high - low) // 8)
    shown = range(0, len(layers), -(-len(layers) // 30))
    names = [layers[i] if len(layers[i]) <= 30 else "…" + layers[i][-29:] for i in shown]
    below, height = 0.45 + 0.066 * max(map(len, names)), 3.3  # inches for the names, and for all above them
    figure, axes = new_figure(7.2, height + below, layout=None)
    figure.subplots_adjust(left=0.12, right=0.79, bottom=below / (height + below), top=1 - 0.35 / (height + below))
    axis = axes[0, 0]
    for number, (when, line) in enumerate(logs.items()):
        color = colormaps["viridis"](0.9 * number / max(1, len(logs) - 1))
        x = torch.arange(1, len(line) + 1)
        for first, end in pairwise([0, *starts, len(line)]):
            style = {"marker": "o", "markersize": 3, "linewidth": 1.5, "label": "" if first else when}
            axis.plot(x[first:end].numpy(), line[first:end].numpy(), color=color, **style)
        zeros = x[values[when] == 0].numpy()
        axis.plot(zeros, [low - 0.25 * step] * len(zeros), color=color, marker="v", markersize=5, linestyle="none")
    if any(0 in line for line in values.values()):
        axis.plot([], [], color="gray", label="exactly 0", marker="v", markersize=5, linestyle="none")
    for start in starts:
        axis.axvline(start + 0.5, color="gray", linewidth=0.8, linestyle="--")
    marks = [k for k in range(low, high + 1) if k % step == 0]
    axis.set_yticks(marks, [f"{10.0**k:g}" if -4 < k < 5 else f"1e{k}" for k in marks])
    axis.set_xticks([i + 1 for i in shown], names, rotation=90, fontsize=8, parse_math=False)
    axis.set(xlabel="layer, input to output" + (", of each network" if starts else ""), ylabel=ylabel, title=title)
    axis.set(xlim=(0.5, len(layers) + 0.5), ylim=(low - 0.5 * step, high + 0.2 * step))
    axis.grid(alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
    return figure


def rates(plans: Mapping[str, Mapping[str, Sequence[float]]], *, xlabel: str = "iteration", title: str = "") -> Figure:
    """{plan: {block: its learning rate at each of T steps}} -> a map for each plan, in columns on one scale.

    Blocks are given from the input to the output, which is drawn on top; a rate of 0 (it does not learn) stays grey.
    """
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    values = {plan: torch.tensor(list(rows.values()), dtype=torch.float64) for plan, rows in plans.items()}  # (L, T)
    learning = torch.cat([table[table > 0] for table in values.values()])
    low, high = (float(learning.min()), float(learning.max())) if len(learning) else (1e-3, 1e-3)
    scale = LogNorm(low, high) if low < high else LogNorm(low / 10, high)
    colours = colormaps["viridis"].with_extremes(bad="0.85")
    most = max(map(len, values.values()))
    figure, axes = new_figure(1.6 + 2.3 * len(plans), 1.3 + 0.24 * most, columns=len(plans))
    for axis, (plan, table) in zip(axes[0], values.items(), strict=True):
        size, steps = table.shape
        place = {"origin": "lower", "aspect": "auto", "interpolation": "nearest", "extent": (0, steps, 0, size)}
        drawn = axis.imshow(table.where(table > 0, torch.nan).numpy(), cmap=colours, norm=scale, **place)
        names = [name if len(name) <= 18 else "…" + name[-17:] for name in plans[plan]]
        shown = range(0, size, -(-size // 30))
        axis.set_yticks([i + 0.5 for i in shown], [names[i] for i in shown], fontsize=8, parse_math=False)
        if axis is not axes[0, 0] and list(plans[plan]) == list(next(iter(plans.values()))):
            axis.tick_params(labelleft=False)
        axis.set_xlabel(xlabel)
        axis.set_title(plan, fontsize=9)
    bar = figure.colorbar(drawn, ax=list(axes[0]), pad=0.02)
    bar.set_label("learning rate (grey: none)", fontsize=8)
    figure.suptitle(title)
    return figure


def kernels(weights: Tensor, *, most: int = 64, side: int = 640) -> Tensor:
    """Kernels (N, C, h, w) -> one image (3, H, W) in [0, 1] of about `side` pixels, in the order of the units.

    With three channels each is its own colour and grey means 0; else every channel is an image of its own, in which red
    is positive, white 0 and blue negative. One scale for all of them, at which 1 of 100 weights is cut off.
    """
    weights = weights.detach().float().cpu()
    weights = weights.where(weights.isfinite(), 0.0)
    size = weights.abs().flatten()
    scale = size.sort().values[max(0, math.ceil(0.99 * len(size)) - 1)].clamp(min=1e-12)
    w = (weights / scale).clamp(-1, 1)
    if w.shape[1] == 3:
        shown = (w + 1) / 2  # (N, 3, h, w)
    else:
        w = w.flatten(0, 1)  # (N * C, h, w)
        shown = torch.stack([1 + w.clamp(max=0), 1 - w.abs(), 1 - w.clamp(min=0)], dim=1)  # (N * C, 3, h, w)
    shown = shown[:most]
    number, _, height, width = shown.shape
    columns = math.ceil(math.sqrt(number * height / width))
    zoom = max(1, side // (columns * (width + 1)))
    shown = shown.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)  # (N, 3, zoom * h, zoom * w)
    gap = max(3, zoom // 2)
    rows = -(-number // columns)
    tiles = torch.full((rows * columns, 3, zoom * height + gap, zoom * width + gap), FRAME)
    tiles[:number, :, gap:, gap:] = shown
    image = tiles.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return functional.pad(image, (0, gap, 0, gap), value=FRAME)


def feature_maps(image: Tensor, maps: Mapping[str, Tensor], *, most_layers: int = 8, most_maps: int = 12) -> Figure:
    """What each convolution makes of one image: a row for a layer, from the input down, with its first maps.

    Args:
        image: (C, H, W).
        maps: {layer: (C, H, W)}. Black is a map's least value and white its greatest; one that is the same everywhere
            is drawn red.
    """
    names = list(maps)
    few = min(most_layers, len(names))
    names = [names[round(i * (len(names) - 1) / max(1, few - 1))] for i in range(few)]
    tile, gap, label = 48, 4, 130  # pixels
    rows = [image[None] if len(image) == 3 else image[:1, None], *(maps[name][:most_maps, None] for name in names)]
    mosaic = torch.ones(len(rows) * (tile + gap), max(map(len, rows)) * (tile + gap), 3)
    for i, row in enumerate(rows):  # (maps, 1 or 3, H, W)
        row = row.detach().float().cpu()
        low, high = row.amin((1, 2, 3), keepdim=True), row.amax((1, 2, 3), keepdim=True)
        shades = ((row - low) / (high - low).clamp(min=1e-12)).expand(-1, 3, -1, -1).clone()
        shades[(high == low).flatten()] = torch.tensor([0.81, 0.13, 0.18])[:, None, None]  # nothing to be seen in it
        tiles = functional.interpolate(shades, size=(tile, tile), mode="nearest").permute(0, 2, 3, 1)
        for j, picture in enumerate(tiles):
            mosaic[i * (tile + gap) :, j * (tile + gap) :][:tile, :tile] = picture
    height, width, _ = mosaic.shape
    figure, axes = new_figure((width + label) / 100, height / 100, layout=None)
    figure.subplots_adjust(left=label / (width + label), right=1, bottom=0, top=1)
    axis = axes[0, 0]
    axis.axis("off")
    axis.imshow(mosaic.numpy(), interpolation="nearest", aspect="auto")
    for i, name in enumerate(["input", *names]):
        text = name if len(name) <= 18 else "…" + name[-17:]
        place = {"ha": "right", "va": "center", "fontsize": 8, "parse_math": False}
        axis.text(-8, i * (tile + gap) + tile / 2, text, **place)
    return figure
