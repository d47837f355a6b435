"""Values against iterations, epochs or rates: lines in a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.pictures.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
