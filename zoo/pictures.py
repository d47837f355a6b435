"""Tensors -> matplotlib figures. Pure: nothing is written, nothing is shown; the caller closes the figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIGHT, WRONG = "#1a7f37", "#cf222e"


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure of width x height inches and its axes (rows, columns), without a window or a global registry."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def confusion_matrix(counts: Tensor, names: Sequence[str]) -> Figure:
    """counts (K, K), row = true class, column = predicted class -> a heat map of shares with the counts written in."""
    counts = counts.cpu()
    size = len(names)
    side = min(12.0, 3.0 + 0.45 * size)
    figure, axes = new_figure(side, side)
    axis = axes[0, 0]
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)  # (K, K), rows sum to 1
    axis.imshow(share.numpy(), vmin=0, vmax=1, cmap="Blues")
    if size <= 20:
        for row in range(size):
            for column in range(size):
                if counts[row, column] > 0:
                    dark = share[row, column] > 0.5
                    axis.text(
                        column, row, int(counts[row, column]), ha="center", va="center", fontsize=8,
                        color="white" if dark else "black",
                    )  # fmt: skip
    short = [name if len(name) <= 14 else name[:13] + "…" for name in names]
    step = max(1, size // 25)
    rotation = 90 if max(map(len, short)) > 2 else 0
    axis.set_xticks(range(0, size, step), short[::step], rotation=rotation, parse_math=False)
    axis.set_yticks(range(0, size, step), short[::step], parse_math=False)
    accuracy = counts.diagonal().sum() / counts.sum().clamp(min=1)
    axis.set(xlabel="predicted", ylabel="true", title=f"{int(counts.sum())} samples, accuracy {accuracy:.3f}")
    return figure


def in_lines(caption: str, width: int = 22) -> str:
    """A caption that stays above its own image: what is in brackets on a line of its own, and long lines cut."""
    lines = [caption] if len(caption) <= width else caption.replace(" (", "\n(", 1).split("\n")
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in lines)


def captioned_images(images: Tensor, captions: Sequence[str], right: Tensor, *, most: int = 24) -> Figure:
    """images (N, C, H, W) of any range -> a grid, each with its caption, green where `right` (N,) and else red."""
    images, captions = images[:most].detach().float().cpu(), captions[:most]
    low = images.amin(dim=(1, 2, 3), keepdim=True)
    scale = (images.amax(dim=(1, 2, 3), keepdim=True) - low).clamp(min=1e-8)
    shown = ((images - low) / scale).permute(0, 2, 3, 1)  # (N, H, W, C) in [0, 1]
    if shown.shape[-1] != 3:
        shown = shown[..., :1].expand(-1, -1, -1, 3)  # (N, H, W, 3)
    number, height, width, _ = shown.shape
    columns = min(6, number)
    rows = -(-number // columns)
    above, between = max(2, round(0.28 * height)), max(1, round(0.08 * width))
    # One picture with gaps is drawn ten times faster than an axis for each image.
    mosaic = torch.ones(rows * (height + above), columns * (width + between), 3)
    figure, axes = new_figure(1.45 * columns, 1.7 * rows)
    axis = axes[0, 0]
    axis.axis("off")
    for i, (caption, ok) in enumerate(zip(captions, right.tolist(), strict=False)):
        top, left = (i // columns) * (height + above) + above, (i % columns) * (width + between)
        mosaic[top : top + height, left : left + width] = shown[i]
        color = RIGHT if ok else WRONG
        place = {"ha": "center", "va": "bottom", "fontsize": 8, "color": color}
        place["parse_math"] = False  # a name with a dollar sign is no formula
        axis.text(left + width / 2 - 0.5, top - 0.5 - 0.04 * height, in_lines(caption), **place)
    axis.imshow(mosaic.numpy(), interpolation="nearest")
    return figure


def predicted_and_true(predicted: Tensor, true: Tensor) -> Figure:
    """Both (N,) -> a scatter plot with the diagonal on which a perfect model would lie."""
    figure, axes = new_figure(4.5, 4.5)
    axis = axes[0, 0]
    predicted, true = predicted.detach().float().cpu(), true.float().cpu()
    axis.scatter(true.numpy(), predicted.numpy(), s=8, alpha=0.6)
    ends = [float(torch.minimum(true.min(), predicted.min())), float(torch.maximum(true.max(), predicted.max()))]
    axis.plot(ends, ends, color="gray", linewidth=1)
    axis.set(xlabel="true", ylabel="predicted", title=f"{len(true)} samples")
    return figure


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, xlabel: str, ylabel: str, title: str = "",
    logarithmic: bool = False,
) -> Figure:  # fmt: skip
    """{name: (x values, y values)} -> lines in one chart."""
    figure, axes = new_figure(6.5, 4)
    axis = axes[0, 0]
    for name, (x, y) in series.items():
        few = len(x) <= 12  # so few points are seen as points; one alone would be no line
        axis.plot(x, y, label=name, linewidth=1.5, marker="o" if few else None, markersize=4)
    if logarithmic:
        plain_logarithms(axis)
    if all(float(value).is_integer() for x, _ in series.values() for value in x):
        axis.xaxis.get_major_locator().set_params(integer=True)  # there is no epoch 2.5
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axis.grid(alpha=0.3)
    if len(series) > 1:
        axis.legend()
    return figure


def plain_logarithms(axis: Any) -> None:
    """A logarithmic y axis with plain numbers, and 2 and 5 between the powers of ten where there is room for them."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def noisy_curves(
    smooth: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    noisy: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, xlabel: str, ylabel: str,
    labels: tuple[str, str], title: str = "",
) -> Figure:  # fmt: skip
    """A chart for each name, side by side on common axes: its smooth curve over its noisy one.

    Args:
        smooth, noisy: {name: (x values, y values)}, the same names in both.
        labels: what the smooth and what the noisy curves are.
    """
    figure, axes = new_figure(3.4 * len(smooth), 3.6, columns=len(smooth))
    for number, (name, (x, y)) in enumerate(smooth.items()):
        axis = axes[0, number]
        if number:
            axis.sharex(axes[0, 0])
            axis.sharey(axes[0, 0])
            axis.tick_params(labelleft=False)
        few = len(noisy[name][0]) <= 12
        axis.plot(*noisy[name], color="C0", linewidth=0.5, marker="o" if few else None, markersize=3, label=labels[1])
        axis.plot(x, y, color="C1", linewidth=2, marker="o", markersize=4, label=labels[0])
        axis.set(xlabel=xlabel, ylabel="" if number else ylabel, title=name)
        axis.grid(alpha=0.3)
    axes[0, 0].legend()
    figure.suptitle(title)
    return figure


def grid(extent: tuple[float, float, float, float], size: int = 200) -> Tensor:
    """Points (size * size, 2) in the middles of the cells of a square grid over `extent`: left, right, bottom, top.

    They go from left to right and from the bottom up, so that `classes.reshape(size, size)` suits `decision_regions`.
    """
    left, right, bottom, top = extent
    steps = (torch.arange(size) + 0.5) / size  # (size,)
    down, across = torch.meshgrid(bottom + (top - bottom) * steps, left + (right - left) * steps, indexing="ij")
    return torch.stack([across.flatten(), down.flatten()], dim=1)


def decision_regions(
    regions: Mapping[str, Tensor], x: Tensor, labels: Tensor | Mapping[str, Tensor],
    extent: tuple[float, float, float, float], *, names: Sequence[str] = ("x1", "x2"),
) -> Figure:  # fmt: skip
    """Where classifiers of two features draw their borders, side by side; a colour and a shape for each class.

    Args:
        regions: {title: (H, W) class index of each point of a grid over `extent`}.
        x: (N, 2) samples.
        labels: (N,) their classes, or one such tensor for each title.
        extent: left, right, bottom, top of the grid.
        names: of the two features.
    """
    from matplotlib import colormaps

    figure, axes = new_figure(max(5.3, 3.1 * len(regions) + 0.9), 4.5 if len(regions) == 1 else 3.5, 1, len(regions))
    x = x.detach().float().cpu()
    true = dict.fromkeys(regions, labels) if isinstance(labels, Tensor) else labels
    most = max(1, *(int(classes.max()) for classes in (*regions.values(), *true.values())))
    for number, (title, classes) in enumerate(regions.items()):
        axis = axes[0, number]
        # A range of its own: where one class fills the picture, it must still have its own colour.
        shades = {"cmap": "coolwarm", "vmin": 0, "vmax": most, "interpolation": "nearest"}
        axis.imshow(classes.cpu().float().numpy(), origin="lower", extent=extent, alpha=0.35, aspect="auto", **shades)
        for k in range(most + 1):
            points = x[true[title].cpu() == k]  # (N_k, 2)
            shape = {"marker": "osD^vP*X"[k % 8], "s": 22, "edgecolors": "black", "linewidths": 0.5}
            axis.scatter(*points.T.numpy(), color=colormaps["coolwarm"](k / most), label=f"class {k}", **shape)
        axis.set(xlabel=names[0], ylabel="" if number else names[1], title=title, xlim=extent[:2], ylim=extent[2:])
        axis.locator_params(nbins=5)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure


def layer_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One row a layer, with keys of the first row as header -> a table in markdown."""
    header = list(rows[0])
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(row[key]) for key in header) + " |" for row in rows])
