"""A number for each name: bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zoo.pictures.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
