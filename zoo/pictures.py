"""Tensors -> matplotlib figures. Pure: nothing is written, nothing is shown; the caller closes the figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIGHT, WRONG = "#1a7f37", "#cf222e"


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, *, layout: Any = "constrained"
) -> tuple[Figure, Any]:
    """A figure of width x height inches and its axes (rows, columns), without a window or a global registry."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout=layout)
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


def heat_over(images: Tensor, heat: Tensor) -> Tensor:
    """Images (N, C, H, W) of any range in grey, their heat (N, H, W) in colours over them: (N, 3, H, W) in [0, 1].

    Each heat is drawn on a scale of its own: from transparent over red to yellow; where it has values below 0, red is
    above and blue below.
    """
    grey, heat = images.detach().float().cpu().mean(1, keepdim=True), heat.detach().float().cpu()  # (N, 1, H, W)
    low, high = grey.amin((2, 3), keepdim=True), grey.amax((2, 3), keepdim=True)
    grey = (grey - low) / (high - low).clamp(min=1e-8)
    strength = heat.abs().flatten(1)  # (N, H * W)
    # A few pixels must not set the scale of all the others, unless they are all there is.
    most, largest = strength.quantile(0.995, dim=1), strength.amax(1)
    most = most.where(most > 0.1 * largest, largest).clamp(min=1e-12)[:, None, None]
    share = (heat / most).clamp(-1, 1)  # (N, H, W)
    zero, one = torch.zeros_like(share), torch.ones_like(share)
    if heat.min() < 0:
        channels = [one.where(share > 0, zero), zero + 0.2, one.where(share < 0, zero)]
    else:
        channels = [one, share**2, zero]
    cover = 0.9 * share.abs()[:, None]  # (N, 1, H, W)
    return (1 - cover) * 0.8 * grey + cover * torch.stack(channels, dim=1)  # white would swallow the yellow


def explained_image(image: Tensor, heat: Tensor, title: str, *, caption: str) -> Figure:
    """An image (C, H, W) in [0, 1] beside its heat (H, W), which has a caption of its own."""
    height, width = heat.shape
    side = 3.2
    figure, axes = new_figure(2 * side, side * min(2.0, height / width) + 0.6, columns=2)
    plain = image.detach().float().cpu()[: 3 if len(image) >= 3 else 1].expand(3, -1, -1)  # (3, H, W)
    pairs = [(plain.clamp(0, 1), "what the model sees"), (heat_over(image[None], heat[None])[0], caption)]
    for axis, (picture, name) in zip(axes[0], pairs, strict=True):
        smooth = "antialiased" if min(height, width) > 100 else "nearest"
        axis.imshow(picture.permute(1, 2, 0).numpy(), interpolation=smooth)
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    figure.suptitle(title, parse_math=False)
    return figure


def bars(values: Mapping[str, float], *, xlabel: str, title: str = "", most: int = 20) -> Figure:
    """{name: value} -> a bar for each, the largest on top; those below 0 in another colour, at most `most` of them."""
    shown = sorted(values.items(), key=lambda item: -abs(item[1]))[:most][::-1]
    figure, axes = new_figure(6.5, 1.3 + 0.28 * len(shown))
    axis = axes[0, 0]
    names = [name if len(name) <= 30 else name[:29] + "…" for name, _ in shown]
    axis.barh(range(len(shown)), [value for _, value in shown], color=["C0" if v >= 0 else "C3" for _, v in shown])
    axis.set_yticks(range(len(shown)), names, parse_math=False)
    axis.axvline(0, color="gray", linewidth=1)
    axis.grid(axis="x", alpha=0.3)
    axis.set_xlabel(xlabel, parse_math=False)
    axis.set_title(title if len(shown) == len(values) else f"{title} ({len(shown)} of {len(values)})", parse_math=False)
    return figure


def versions(columns: Mapping[str, Tensor]) -> Figure:
    """{title: images (N, C, H, W) uint8} -> a row for each image, a column for each title; grey levels as they are."""
    colours = [x if x.shape[1] == 3 else x[:, :1].expand(-1, 3, -1, -1) for x in columns.values()]
    shown = torch.stack(colours, dim=1).cpu()  # (N, T, 3, H, W)
    number, titles, _, height, width = shown.shape
    gap = max(1, width // 14)
    mosaic = functional.pad(shown, (gap, 0, gap, 0), value=255).permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    pictures, above = 0.8 * number * (height + gap) / (width + gap), 0.25  # inches
    figure, axes = new_figure(0.8 * titles, pictures + above, layout=None)
    figure.subplots_adjust(left=0, right=1, bottom=0, top=pictures / (pictures + above))
    axes[0, 0].axis("off")
    axes[0, 0].imshow(mosaic.numpy(), interpolation="nearest", aspect="auto")
    for i, title in enumerate(columns):
        axes[0, 0].text((i + 0.5) * (width + gap) + gap / 2, 0, title, ha="center", va="bottom", fontsize=8)
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


def rate_test(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], marks: Mapping[str, float]
) -> Figure:
    """The loss while the learning rate grows, each (N,); a divergence leaves the picture at its upper edge.

    Args:
        marks: {name: rate}, drawn as upright lines.
    """
    figure, axes = new_figure(6.5, 4)
    axis = axes[0, 0]
    axis.plot(rates, losses, color="C0", linewidth=0.5, label="loss")
    axis.plot(rates, smoothed, color="C1", linewidth=2, label="smoothed")
    for number, (name, rate) in enumerate(marks.items()):
        axis.axvline(rate, color=f"C{number + 2}", linestyle="--", linewidth=1.2, label=f"{name}: {rate:.2g}")
    least = min(smoothed)
    before = [least, *losses[: smoothed.index(least) + 1]]
    margin = 0.1 * (max(before) - min(before)) or 1.0
    axis.set(xscale="log", ylim=(min(before) - margin, max(before) + margin))
    axis.set(xlabel="learning rate", ylabel="loss", title="loss while the rate grows")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
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


def over_depth(layers: Sequence[str], lines: Mapping[str, Sequence[float]], *, ylabel: str, title: str = "") -> Figure:
    """A value of each layer, from the input to the output, on a logarithmic axis.

    Args:
        layers: names of the L layers.
        lines: {when: L values from 0 on}, drawn from dark to light in their order. A value of exactly 0 is a triangle
            at the lower edge, one that is no number is left out.
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
    names = [layers[i] if len(layers[i]) <= 22 else "…" + layers[i][-21:] for i in shown]
    below, height = 0.45 + 0.066 * max(map(len, names)), 3.3  # inches for the names, and for all above them
    figure, axes = new_figure(7.2, height + below, layout=None)
    figure.subplots_adjust(left=0.12, right=0.79, bottom=below / (height + below), top=1 - 0.35 / (height + below))
    axis = axes[0, 0]
    for number, (when, line) in enumerate(logs.items()):
        color = colormaps["viridis"](0.9 * number / max(1, len(logs) - 1))
        x = torch.arange(1, len(line) + 1)
        axis.plot(x.numpy(), line.numpy(), color=color, label=when, marker="o", markersize=3, linewidth=1.5)
        zeros = x[values[when] == 0].numpy()
        axis.plot(zeros, [low - 0.25 * step] * len(zeros), color=color, marker="v", markersize=5, linestyle="none")
    if any(0 in line for line in values.values()):
        axis.plot([], [], color="gray", label="exactly 0", marker="v", markersize=5, linestyle="none")
    marks = [k for k in range(low, high + 1) if k % step == 0]
    axis.set_yticks(marks, [f"{10.0**k:g}" if -4 < k < 5 else f"1e{k}" for k in marks])
    axis.set_xticks([i + 1 for i in shown], names, rotation=90, fontsize=8, parse_math=False)
    axis.set(xlabel="layer, input to output", ylabel=ylabel, title=title)
    axis.set(xlim=(0.5, len(layers) + 0.5), ylim=(low - 0.5 * step, high + 0.2 * step))
    axis.grid(alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
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
    gap = max(2, zoom // 4)
    rows = -(-number // columns)
    tiles = torch.full((rows * columns, 3, zoom * height + gap, zoom * width + gap), 0.6)
    tiles[:number, :, gap:, gap:] = shown
    image = tiles.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return functional.pad(image, (0, gap, 0, gap), value=0.6)


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
