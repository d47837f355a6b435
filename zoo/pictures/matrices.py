"""Tables of counts as heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from zoo.pictures.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
                    text = axis.text(
                        column, row, int(counts[row, column]), ha="center", va="center", fontsize=8,
                        color="white" if dark else "black",
                    )  # fmt: skip
                    text.set_in_layout(False)  # it stands in its cell; to measure it takes time
    short = [name if len(name) <= 14 else name[:13] + "…" for name in names]
    step = max(1, size // 25)
    rotation = 90 if max(map(len, short)) > 2 else 0
    axis.set_xticks(range(0, size, step), short[::step], rotation=rotation, parse_math=False)
    axis.set_yticks(range(0, size, step), short[::step], parse_math=False)
    accuracy = counts.diagonal().sum() / counts.sum().clamp(min=1)
    axis.set(xlabel="predicted", ylabel="true", title=f"{int(counts.sum())} samples, accuracy {accuracy:.3f}")
    return figure
