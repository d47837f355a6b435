"""The space of codes: where samples lie in it, and what lies between and around them.

Functions that give codes come with those that draw what a decoder makes of them; the decoder itself is the caller's.

Axes: N samples, Z latent variables, C channels, H height, W width, F columns of a table
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from zoo.pictures.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 20  # that are told apart by colour
SMALLEST = 42  # pixels of the side of a tile, below which it is enlarged
MOST_COLUMNS = 6  # of a table, drawn side by side


def quantiles(size: int) -> Tensor:
    """(size,) values of equal probability under N(0, 1), ascending: its inverse distribution function at their middles.

    A grid of them shows all of the prior alike (Kingma and Welling 2014, appendix A).
    """
    return torch.special.ndtri((torch.arange(size, dtype=torch.float64) + 0.5) / size).float()


def plane(size: int) -> Tensor:
    """Codes (size * size, 2) of a square grid of quantiles: from left to right, and from the top down as one reads."""
    down, across = torch.meshgrid(quantiles(size).flip(0), quantiles(size), indexing="ij")
    return torch.stack([across.flatten(), down.flatten()], dim=1)


def walks(start: Tensor, units: Sequence[int], size: int, *, reach: float = 3.0) -> Tensor:
    """From one code (Z,), one variable after another goes from -reach to reach: (len(units) * size, Z)."""
    codes = start.repeat(len(units), size, 1)  # (U, size, Z)
    steps = torch.linspace(-reach, reach, size).to(start)
    for row, unit in enumerate(units):
        codes[row, :, unit] = steps
    return codes.flatten(0, 1)


def between(first: Tensor, second: Tensor, size: int) -> Tensor:
    """Straight lines from the codes `first` (N, Z) to `second` (N, Z), both ends included: (N * size, Z)."""
    share = torch.linspace(0, 1, size).to(first)[:, None]  # (size, 1)
    return torch.lerp(first[:, None], second[:, None], share).flatten(0, 1)


def tiles(images: Tensor, columns: int) -> Tensor:
    """Images (N, C, H, W) in [0, 1] as one (3, H', W'), row by row, grey between them and where one is missing."""
    images = images.detach().float().cpu().clamp(0, 1)
    images = images if images.shape[1] == 3 else images[:, :1].expand(-1, 3, -1, -1)
    enlarge = max(1, -(-SMALLEST // images.shape[-1]))
    images = images.repeat_interleave(enlarge, 2).repeat_interleave(enlarge, 3)  # (N, 3, h, w)
    rows = -(-len(images) // columns)
    framed = functional.pad(images, (1, 1, 1, 1), value=0.5)
    empty = framed.new_full((rows * columns - len(images), *framed.shape[1:]), 0.5)
    grid = torch.cat([framed, empty]).unflatten(0, (rows, columns))  # (rows, columns, 3, h, w)
    return grid.permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2, 3)


def pairs(above: Tensor, below: Tensor, columns: int) -> Tensor:
    """Two rows at a time: images (N, C, H, W), and beneath each what belongs to it, (N, C, H, W); see `tiles`."""
    whole = len(above) // columns * columns or len(above)
    columns = min(columns, whole)
    rows = [x[:whole].unflatten(0, (-1, columns)) for x in (above, below)]  # (rows, columns, C, H, W)
    return tiles(torch.stack(rows, dim=1).flatten(0, 2), columns)


def main_plane(codes: Tensor) -> tuple[Tensor, float]:
    """Codes (N, Z) along their two directions of greatest variance, (N, 2), and the share of the variance they have."""
    codes = codes.detach().double().cpu().nan_to_num()  # of a run that diverged, which ends elsewhere
    codes = codes - codes.mean(0)
    if codes.shape[1] == 1:
        return functional.pad(codes, (0, 1)).float(), 1.0
    values, directions = torch.linalg.eigh(codes.T @ codes)  # ascending
    share = float(values[-2:].sum() / values.sum().clamp(min=1e-12))
    return (codes @ directions[:, -2:].flip(1)).float(), share


def code_map(codes: Tensor, labels: Tensor | None, *, names: Sequence[str] = ()) -> Figure:
    """Codes as points of a plane, coloured by what is known of their samples.

    Args:
        codes: (N, Z); more than two variables are seen in their main plane.
        labels: (N,) int64 classes, a colour each; (N,) or (N, 1) float, on a scale; else all points are alike.
        names: of the classes.
    """
    figure, axes = new_figure(5.6, 4.6)
    axis = axes[0, 0]
    flat, title = codes.detach().float().cpu(), f"{len(codes)} codes"
    if codes.shape[1] != 2:
        flat, share = main_plane(codes)
        title += f" of {codes.shape[1]} variables, in the plane with {share:.0%} of their variance"
    labels = None if labels is None else labels.detach().cpu()
    classes = labels.unique().tolist() if labels is not None and not labels.is_floating_point() else []
    if labels is not None and labels.ndim == 1 and 0 < len(classes) <= MOST_CLASSES:
        from matplotlib import colormaps

        for number in classes:
            points = flat[labels == number]  # (N_k, 2)
            name = str(names[number]) if number < len(names) else str(number)
            color = colormaps["tab20"]((2 * number) % 20 + number // 10 % 2)
            axis.scatter(*points.T.numpy(), s=10, color=color, label=name.replace("$", r"\$"))
        figure.legend(loc="outside right upper", fontsize=8)
    elif labels is not None and labels.is_floating_point() and labels[0].numel() == 1:
        drawn = axis.scatter(*flat.T.numpy(), s=10, c=labels.flatten().float().numpy(), cmap="viridis")
        figure.colorbar(drawn, ax=axis)
    else:
        axis.scatter(*flat.T.numpy(), s=10)
    axis.set_title(title, fontsize=9)
    if codes.shape[1] > 2:
        axis.set(xlabel="direction in which they vary most", ylabel="direction of the second most")
    elif codes.shape[1] == 2:
        axis.set(xlabel="first variable", ylabel="second variable")
    axis.grid(alpha=0.3)
    return figure


def table_columns(real: Tensor, made: Tensor, *, names: Sequence[str] = ()) -> Figure:
    """Shares of real rows (N, F) and of made ones (N', F) by the value of each column, of the first columns."""
    real, made = real.detach().float().cpu(), made.detach().float().cpu()
    number = min(MOST_COLUMNS, real.shape[1])
    across = min(3, number)
    figure, axes = new_figure(2.6 * across, 2.2 * math.ceil(number / across), math.ceil(number / across), across)
    for column, axis in enumerate(axes.flat):
        if column >= number:
            axis.axis("off")
            continue
        low, high = float(real[:, column].min()), float(real[:, column].max())
        margin = 0.25 * max(high - low, 1e-3)
        edges = torch.linspace(low - margin, high + margin, 31)
        for rows, name in ((real, "real"), (made, "made")):
            shares = torch.histogram(rows[:, column].contiguous().nan_to_num(), edges).hist / len(rows)  # (30,)
            axis.stairs(shares.numpy(), edges.numpy(), fill=True, alpha=0.5, label=name)
        axis.set_title(names[column] if column < len(names) else f"column {column + 1}", fontsize=9, parse_math=False)
    axes[0, 0].legend(fontsize=8)
    return figure
