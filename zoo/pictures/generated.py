"""What a generator makes: images in a grid, points of a plane beside the real ones, and how both came about.

Axes: N samples, C channels, H height, W width, E epochs shown
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.pictures.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REAL, FAKE = "#1f77b4", "#d62728"
SIDE = 42  # pixels that an image is enlarged to, where it is smaller


def in_colour(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, 3, H, W) in [0, 1], on the CPU."""
    images = images.detach().float().cpu().clamp(0, 1)
    return images if images.shape[1] == 3 else images[:, :1].expand(-1, 3, -1, -1)


def mosaic(images: Tensor, columns: int) -> Tensor:
    """Images (N, C, H, W) in [0, 1] row by row, grey lines between: (3, height, width); small ones are enlarged."""
    images = in_colour(images)
    factor = max(1, -(-SIDE // max(images.shape[2:])))
    images = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    rows = -(-len(images) // columns)
    missing = images.new_full((rows * columns - len(images), *images.shape[1:]), 0.5)
    cells = F.pad(torch.cat([images, missing]), (1, 1, 1, 1), value=0.5).unflatten(0, (rows, columns))
    return cells.permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2)  # (3, rows * height, columns * width)


def history_of_images(images: Tensor, epochs: Sequence[int]) -> Figure:
    """Images (E, N, C, H, W) made from the same noise after each of E epochs: a row for each."""
    number, across = images.shape[:2]
    picture = mosaic(images.flatten(0, 1), across)  # (3, height, width)
    figure, axes = new_figure(0.7 + 0.55 * across, 0.2 + 0.55 * number)
    axis = axes[0, 0]
    axis.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
    side = picture.shape[1] / number
    axis.set_yticks([(row + 0.5) * side for row in range(number)], [str(epoch) for epoch in epochs], fontsize=8)
    axis.set_xticks([])
    axis.set_ylabel("epoch", fontsize=8)
    axis.tick_params(length=0)
    return figure


def history_of_points(points: Tensor, epochs: Sequence[int], real: Tensor) -> Figure:
    """Points (E, N, 2) made from the same noise after each of E epochs, a panel for each, over real ones (M, 2)."""
    columns = min(5, len(epochs))
    rows = -(-len(epochs) // columns)
    figure, axes = new_figure(2.2 * columns, 2.3 * rows, rows, columns)
    for axis in axes.flat:
        axis.set_axis_off()
    extent = extent_of(real)
    for axis, made, epoch in zip(axes.flat, points.cpu(), epochs, strict=False):
        scatter(axis, real, REAL, "real")
        scatter(axis, made, FAKE, "generated")
        axis.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
        axis.set_title(f"epoch {epoch}", fontsize=8)
    return figure


def scatter(axis: Any, points: Tensor, colour: str, label: str) -> None:
    axis.scatter(*points.detach().float().cpu().T.numpy(), s=6, alpha=0.6, color=colour, label=label, linewidths=0)


def extent_of(real: Tensor) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of what holds the points (N, 2), with a fifth of it around."""
    low, high = real.float().amin(0), real.float().amax(0)
    around = 0.2 * (high - low).clamp(min=1e-3)
    (left, bottom), (right, top) = (low - around).tolist(), (high + around).tolist()
    return left, right, bottom, top


def plane(
    real: Tensor, fake: Tensor, field: Tensor | None = None, extent: tuple[float, float, float, float] | None = None,
    *, what: str = "discriminator", centred: bool = False,
) -> Figure:  # fmt: skip
    """Real points (M, 2) and generated ones (N, 2), over what the discriminator says of each place.

    Args:
        field: (H, W) of a grid over `extent` from the bottom up (`zoo.pictures.points.grid`); None: no field.
        extent: left, right, bottom, top; None: that of the real points.
        what: what the field shows.
        centred: at 0 it is white, as logits are that know no difference.
    """
    extent = extent or extent_of(real)
    figure, axes = new_figure(5.4 if field is None else 6.2, 5.0)
    axis = axes[0, 0]
    if field is not None:
        shades: dict[str, Any] = {"cmap": "PuOr_r", "alpha": 0.6}
        if centred:
            most = max(1e-6, float(field.abs().max()))
            shades |= {"vmin": -most, "vmax": most}
        image = axis.imshow(field.float().cpu().numpy(), origin="lower", extent=extent, aspect="auto", **shades)
        figure.colorbar(image, ax=axis, label=what)
    scatter(axis, real, REAL, "real")
    scatter(axis, fake, FAKE, "generated")
    axis.set(xlim=extent[:2], ylim=extent[2:])
    axis.set_aspect("equal")
    axis.set(xlabel="x1", ylabel="x2")
    axis.legend(fontsize=8, loc="upper right", markerscale=3)
    low, high = torch.tensor(extent[::2]), torch.tensor(extent[1::2])
    away = int(((fake.cpu() < low) | (fake.cpu() > high)).any(1).sum())
    axis.set_title(f"{len(fake)} generated" + (f", {away} of them not in sight" if away else ""), fontsize=9)
    return figure


def scores(real: Tensor, fake: Tensor, *, xlabel: str) -> Figure:
    """How the discriminator's answers to real samples (N,) and to generated ones (M,) are spread."""
    figure, axes = new_figure(5.5, 3.4)
    axis = axes[0, 0]
    real, fake = (values.detach().float().cpu() for values in (real, fake))
    both = torch.cat([real, fake])
    both = both[both.isfinite()]
    low, high = (float(both.min()), float(both.max())) if len(both) else (0.0, 1.0)
    high = high if high > low else low + 1.0
    for values, colour, label in ((real, REAL, "real"), (fake, FAKE, "generated")):
        axis.hist(values[values.isfinite()].numpy(), bins=40, range=(low, high), color=colour, alpha=0.5, label=label)
    axis.set(xlabel=xlabel, ylabel="samples")
    axis.legend(fontsize=8)
    return figure
