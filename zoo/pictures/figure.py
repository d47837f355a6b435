"""An empty figure to draw on. The whole room is pure: nothing is written, nothing is shown; the caller closes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, *, layout: Any = "constrained"
) -> tuple[Figure, Any]:
    """A figure of width x height inches and its axes (rows, columns), without a window or a global registry."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout=layout)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)
