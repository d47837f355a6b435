"""What a restricted Boltzmann machine does: its fantasies, what it gives back of samples, when its units are on.

Axes: N images, C channels, H height, W width, B samples, U hidden units
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from zoo.pictures.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_UNITS, MOST_SAMPLES = 200, 100  # in the map of activities


def mosaic(images: Tensor, *, columns: int | None = None, side: int = 480) -> Tensor:
    """Images (N, C, H, W) -> one image (3, H, W) in [0, 1] of about `side` pixels, row after row.

    Values from 0 to 1 are shown as they are; others on a scale from the least to the greatest.
    """
    images = images.detach().float().cpu()
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        images = (images - low) / max(high - low, 1e-12)
    images = images if images.shape[1] == 3 else images[:, :1].expand(-1, 3, -1, -1)
    number, _, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(number))
    rows = -(-number // columns)
    zoom = max(1, side // (max(rows, columns) * (max(height, width) + 1)))
    images = images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)  # (N, 3, zoom * H, zoom * W)
    tiles = torch.full((rows * columns, 3, zoom * height + 2, zoom * width + 2), 0.4)
    tiles[:number, :, 2:, 2:] = images
    image = tiles.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return functional.pad(image, (0, 2, 0, 2), value=0.4)


def side_by_side(before: Tensor, after: Tensor) -> Tensor:
    """Images (N, C, H, W) above what became of them -> one image (3, H, W) in [0, 1], a column for each."""
    return mosaic(torch.cat([before.detach().float().cpu(), after.detach().float().cpu()]), columns=len(before))


def hidden_activity(probabilities: Tensor) -> Figure:
    """P(h = 1 | v), (B, U) -> how often the units are on, and a map of units by samples (Hinton 2012, section 15).

    A column of the map that is black or white throughout is a unit that says nothing; rows that look alike are samples
    that the machine does not tell apart.
    """
    shown = probabilities.detach().float().cpu()
    figure, axes = new_figure(9.0, 3.2, columns=2)
    left, right = axes[0]
    left.hist(shown.mean(0).numpy(), bins=torch.linspace(0, 1, 31).tolist(), color="C0")
    left.set(xlabel="mean P(h = 1 | v) of a unit", ylabel="units", xlim=(0, 1))
    left.grid(alpha=0.3)
    image = right.imshow(shown[:MOST_SAMPLES, :MOST_UNITS].numpy(), cmap="gray", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, ax=right, label="P(h = 1 | v)")
    right.set(xlabel="unit", ylabel="sample")
    return figure
