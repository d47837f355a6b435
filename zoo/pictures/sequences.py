"""What a network does from step to step of a sequence.

Axes: T steps, H units
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from zoo.pictures.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {  # of a picture's rows
    "hidden": "hidden state",
    "cell": "cell state",
    **{gate: f"{gate} gate" for gate in ("input", "forget", "output", "reset", "update")},
}
LEAST = 1e-12  # what is drawn at the lower edge


def through_time(lines: Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """How much the last state depends on each step's input, on a logarithmic axis.

    Args:
        lines: {when: T norms, the newest step first}, drawn from dark to light in their order.
    """
    from matplotlib import colormaps

    figure, axes = new_figure(6.5, 4)
    axis = axes[0, 0]
    for number, (when, norms) in enumerate(lines.items()):
        color = colormaps["viridis"](0.9 * number / max(1, len(lines) - 1))
        logs = [math.log10(max(norm, LEAST)) if math.isfinite(norm) else math.nan for norm in norms]
        axis.plot(range(len(norms)), logs, color=color, label=when, linewidth=1.5)
    low, high = axis.get_ylim()
    marks = range(math.floor(low), math.ceil(high) + 1, max(1, math.ceil((high - low) / 8)))
    axis.set_yticks(list(marks), [f"{10.0**k:g}" if -4 < k < 5 else f"1e{k}" for k in marks])
    axis.set(xlabel="steps back from the last one", ylabel="gradient norm", title=title)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def gates(activations: Mapping[str, Tensor], steps: Sequence[str] | None = None, *, most_units: int = 40) -> Figure:
    """A heat map for each gate: units from top to bottom, steps from left to right.

    Args:
        activations: {name: (T, H)}; what is never below 0 is drawn from 0 to 1, anything else from -1 to 1, or as far
            as it goes on either side.
        steps: what stands at each of the T steps, for instance characters; left out, their numbers.
        most_units: the first of each gate.
    """
    figure, axes = new_figure(9, 1.5 * len(activations) + 0.6, rows=len(activations))
    for axis, (name, values) in zip(axes[:, 0], activations.items(), strict=True):
        shown = values.detach().float().cpu()[:, :most_units].T  # (H, T)
        signed, most = bool((shown < 0).any()), max(1.0, float(shown.abs().max()))
        image = axis.imshow(
            shown.numpy(), aspect="auto", interpolation="nearest", cmap="RdBu_r" if signed else "viridis",
            vmin=-most if signed else 0, vmax=most,
        )  # fmt: skip
        axis.set_ylabel(NAMES.get(name, name), fontsize=8)
        axis.set_yticks([])
        axis.set_xticks([])
        figure.colorbar(image, ax=axis, pad=0.01)
    last, count = axes[-1, 0], len(next(iter(activations.values())))
    if steps is None:
        every = max(1, count // 10)
        last.set_xticks(range(0, count, every), [str(i) for i in range(0, count, every)], fontsize=8)
        last.set_xlabel("step")
    else:
        texts = [{" ": "␣", "\n": "⏎"}.get(text, text) for text in steps]
        turned = {"rotation": 90} if max(map(len, texts)) > 1 else {}
        last.set_xticks(range(count), texts, fontsize=7, parse_math=False, **turned)
    return figure
