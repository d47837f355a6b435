"""What an autoencoder makes of its inputs: what it says of them, and where their codes lie.

Axes: N samples, C channels, H height, W width, K classes or target columns
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from zoo.pictures.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 20  # that are told apart by colour
MOST_COLUMNS = 6  # of a table, drawn side by side


def reconstructions(rows: Mapping[str, Tensor]) -> Figure:
    """{title: images (N, C, H, W)} -> a row for each title and a column for each image.

    Grey levels and colours of all rows are on the scale of the first one, from its least value to its greatest; what
    lies beyond is cut off.
    """
    shown = torch.stack([images.detach().float().cpu() for images in rows.values()])  # (T, N, C, H, W)
    low, high = shown[0].min(), shown[0].max()
    shown = ((shown - low) / (high - low).clamp(min=1e-8)).nan_to_num().clamp(0, 1)
    shown = shown if shown.shape[2] == 3 else shown[:, :, :1].expand(-1, -1, 3, -1, -1)
    height, width = shown.shape[3:]
    gap = max(1, width // 14)
    tiles = functional.pad(shown, (gap, 0, gap, 0), value=1.0)  # (T, N, 3, H + gap, W + gap)
    mosaic = tiles.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)  # (T (H + gap), N (W + gap), 3)
    side, label = 0.62, 1.3  # inches
    wide, high_ = label + side * shown.shape[1], side * len(rows) * (height + gap) / (width + gap)
    figure, axes = new_figure(wide, high_, layout=None)
    figure.subplots_adjust(left=label / wide, right=1, bottom=0, top=1)
    axis = axes[0, 0]
    axis.axis("off")
    axis.imshow(mosaic.numpy(), interpolation="nearest", aspect="auto")
    for i, title in enumerate(rows):
        axis.text(-1, i * (height + gap) + gap + height / 2, title, ha="right", va="center", fontsize=8)
    return figure


def rows_said_again(x: Tensor, said: Tensor) -> Figure:
    """What is said of each value over the value itself, for the first columns of a table; exact is on the diagonal.

    Args:
        x, said: (N, F).
    """
    x, said = (rows.detach().float().cpu() for rows in (x, said))
    number = min(MOST_COLUMNS, x.shape[1])
    across = min(3, number)
    down = math.ceil(number / across)
    figure, axes = new_figure(2.6 * across, 2.6 * down, down, across)
    for column, axis in enumerate(axes.flat):
        if column >= number:
            axis.axis("off")
            continue
        both = torch.stack([x[:, column], said[:, column]]).nan_to_num()
        low, high = float(both.min()), float(both.max())
        margin = 0.05 * max(high - low, 1e-3)
        axis.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), aspect="equal")
        axis.axline((low, low), slope=1, color="gray", linewidth=0.8)
        axis.scatter(x[:, column].numpy(), said[:, column].numpy(), s=8, alpha=0.6)
        axis.set_title(f"column {column + 1}", fontsize=9)
        axis.grid(alpha=0.3)
    figure.supxlabel("value", fontsize=9)
    figure.supylabel("reconstruction", fontsize=9)
    return figure


def code_map(points: Tensor, targets: Tensor, names: Sequence[str], *, title: str) -> Figure:
    """Where samples lie, coloured by what they are.

    Args:
        points: (N, 2).
        targets: (N,) class indices, or (N, K) values, of which the first column is shown.
        names: of the K classes or columns; may be empty.
        title: what the two axes are.
    """
    from matplotlib import colormaps

    points, targets = points.detach().float().cpu(), targets.detach().cpu()
    figure, axes = new_figure(6.2, 4.8)
    axis = axes[0, 0]
    if targets.ndim == 1 and not targets.is_floating_point():
        classes = targets.unique().tolist()
        colours = colormaps["tab10" if len(classes) <= 10 else "tab20"]
        for number, k in enumerate(classes[:MOST_CLASSES]):
            name = names[k] if k < len(names) else str(k)
            label = name if len(name) <= 18 else name[:17] + "…"
            axis.scatter(*points[targets == k].T.numpy(), s=10, color=colours(number), label=label)
        rest = points[torch.isin(targets, torch.tensor(classes[MOST_CLASSES:], dtype=targets.dtype))]
        if len(rest):
            axis.scatter(*rest.T.numpy(), s=10, color="lightgray", label="others")
        legend = figure.legend(loc="outside right upper", fontsize=8)
        for text in legend.get_texts():
            text.set_parse_math(False)
    else:
        values = targets.reshape(len(targets), -1)[:, 0].float()
        drawn = axis.scatter(*points.T.numpy(), s=10, c=values.numpy(), cmap="viridis")
        bar = figure.colorbar(drawn, ax=axis)
        bar.set_label(names[0] if names else "target", parse_math=False)
    axis.set_title(title, fontsize=9)
    axis.grid(alpha=0.3)
    return figure
