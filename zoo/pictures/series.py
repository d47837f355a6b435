"""Time series with what a model says will come, and its answers at each step of a sequence.

Axes: N windows, L steps of the past, H steps ahead, C columns, T steps, K outputs of a step
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from zoo.pictures.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_COLUMNS = 4


def forecasts(past: Tensor, future: Tensor, forecast: Tensor, names: Sequence[str] = ()) -> Figure:
    """A row for each window and a chart for each of its first columns: past, what came, and what was forecast.

    Args:
        past: (N, L, C). Of a long past only the last 3 H steps are drawn.
        future, forecast: (N, H, C).
        names: of the columns; left out, their numbers.
    """
    horizon, columns = future.shape[1], min(MOST_COLUMNS, future.shape[2])
    shown = past[:, -3 * horizon :].detach().float().cpu()  # (N, L, C)
    future, forecast = (tensor.detach().float().cpu() for tensor in (future, forecast))
    figure, axes = new_figure(3.4 * columns + 0.6, 1.9 * len(past) + 0.6, rows=len(past), columns=columns)
    before, ahead = range(1 - shown.shape[1], 1), range(1, horizon + 1)
    for window, row in enumerate(axes):
        for column, axis in enumerate(row):
            axis.plot(before, shown[window, :, column].numpy(), color="gray", linewidth=1, label="past")
            marker = {"marker": "o", "markersize": 3} if horizon <= 12 else {}
            axis.plot(ahead, future[window, :, column].numpy(), color="C0", linewidth=1.5, label="future", **marker)
            axis.plot(ahead, forecast[window, :, column].numpy(), color="C1", linewidth=1.5, label="forecast", **marker)
            axis.axvline(0.5, color="gray", linewidth=0.6, linestyle="--")
            axis.grid(alpha=0.3)
            if window == 0:
                axis.set_title(names[column] if names else f"column {column + 1}", fontsize=9, parse_math=False)
    for axis in axes[-1]:
        axis.set_xlabel("steps ahead")
    for axis in axes[:, 0]:
        axis.set_ylabel("value", fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure


def answers_by_step(probabilities: Tensor, true: Tensor, *, of: str = "output", most_steps: int = 200) -> Figure:
    """Two heat maps over the steps: what is true, and how probable a model finds each output.

    Args:
        probabilities: (T, K) in [0, 1].
        true: (T, K) of 0 and 1.
        of: what the K are.
        most_steps: the last of them are drawn.
    """
    figure, axes = new_figure(9, 5.4, rows=2)
    first = max(0, len(true) - most_steps)
    for axis, title, values in zip(axes[:, 0], ("true", "probability"), (true, probabilities), strict=True):
        shown = values[first:].detach().float().cpu().T  # (K, T)
        extent = (first - 0.5, len(true) - 0.5, -0.5, len(shown) - 0.5)
        image = axis.imshow(
            shown.numpy(), vmin=0, vmax=1, cmap="Blues", origin="lower", aspect="auto", interpolation="nearest",
            extent=extent,
        )  # fmt: skip
        axis.set(title=title, ylabel=of)
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.xaxis.get_major_locator().set_params(integer=True)
        figure.colorbar(image, ax=axis, pad=0.01)
    axes[-1, 0].set_xlabel("step")
    return figure
