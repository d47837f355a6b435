"""Samples as points of a plane, and what a model says there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.pictures.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
