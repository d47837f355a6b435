"""Images with the boxes around what is in them.

Axes: N images, C channels, H height, W width, M boxes of an image
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from zoo.pictures.figure import new_figure
from zoo.pictures.masks import in_range, legend, palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def images_with_boxes(images: Tensor, rows: Mapping[str, Sequence[Any]], class_names: Sequence[str]) -> Figure:
    """A column for each image and a row for each way to see it, the boxes in the colours of their classes.

    Args:
        images: (N, C, H, W) of any range.
        rows: {title: for each image (boxes (M, 4), scores (M,), labels (M,))}; a score below 1 is written at its box.
        class_names: of all classes.
    """
    from matplotlib.patches import Rectangle

    shown = in_range(images)  # (N, 3, H, W)
    number, _, height, width = shown.shape
    gap = max(1, round(width / 16))
    row = functional.pad(shown, (gap, 0, gap, 0), value=1.0).permute(2, 0, 3, 1).flatten(1, 2)  # (height, width, 3)
    side, before, below = 1.5, 0.5, 0.35  # inches
    wide, high = side * number + before, side * len(rows) * (height + gap) / (width + gap) + below
    figure, axes = new_figure(wide, high, layout=None)
    figure.subplots_adjust(left=before / wide, right=1, bottom=below / high, top=1)
    axis = axes[0, 0]
    axis.axis("off")
    axis.imshow(torch.cat([row] * len(rows)).numpy(), interpolation="nearest", aspect="auto")
    colours = [*palette(len(class_names) + 1).tolist()][1:]
    for i, (title, found) in enumerate(rows.items()):
        top = i * (height + gap) + gap - 0.5
        axis.text(-0.5, top + height / 2, title, ha="right", va="center", fontsize=9)
        for j, (boxes, scores, labels) in enumerate(found):
            left = j * (width + gap) + gap - 0.5
            for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True):
                x, y, colour = left + box[0], top + box[1], colours[label]
                size = (box[2] - box[0], box[3] - box[1])
                axis.add_patch(Rectangle((x, y), *size, fill=False, edgecolor="black", linewidth=2.6))
                axis.add_patch(Rectangle((x, y), *size, fill=False, edgecolor=colour, linewidth=1.4))
                if score < 1:
                    style = {"facecolor": colour, "edgecolor": "none", "pad": 0.8}
                    axis.text(x, y, f"{score:.2f}"[1:], ha="left", va="bottom", fontsize=6, bbox=style)
    legend(figure, class_names, skip=1)
    return figure
