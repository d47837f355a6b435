"""An episode as it went: what was seen, done and expected at each step, and drawings of what happened.

Axes: T steps, F values of a state, A values of an action, L lines of a drawing
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.pictures.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CURVES = 8  # values of a state that are drawn
NUM_FRAMES = 12


def episode(
    states: Tensor,
    actions: Tensor,
    rewards: Tensor,
    values: Tensor,
    names: Sequence[str],
    action_names: Sequence[str],
) -> Figure:
    """A chart for each value of the state, one of the actions, and one of what is expected and what came.

    Args:
        states: (T, F), before each step.
        actions: (T,) numbers of actions, or (T, A).
        rewards: (T,).
        values: (T,) what each state is held to be worth, discounted.
        names: of the F values of a state.
        action_names: of the actions, or of the A values of one.
    """
    curves = min(MOST_CURVES, states.shape[1])
    figure, axes = new_figure(9, 1.15 * (curves + 2) + 0.5, rows=curves + 2)
    steps = range(len(states))
    for axis, curve, name in zip(axes[:curves, 0], states.T, names, strict=False):
        axis.plot(steps, curve.numpy(), color="C0", linewidth=1)
        axis.axhline(0, color="gray", linewidth=0.6)
        axis.set_title(name, fontsize=8, loc="left", pad=2)
    act, worth = axes[curves:, 0]
    act.set_title("action", fontsize=8, loc="left", pad=2)
    if actions.ndim == 1:
        act.plot(steps, actions.numpy(), drawstyle="steps-post", color="C1", linewidth=0.8)
        act.set_yticks(range(len(action_names)), action_names)
    else:
        for curve, name in zip(actions.T, action_names, strict=True):
            act.plot(steps, curve.numpy(), linewidth=0.8, label=name)
        act.legend(fontsize=7, loc="upper right")
    worth.plot(steps, values.numpy(), color="C2", linewidth=1)
    worth.set_title(f"what the state is held to be worth; the return was {rewards.sum():.4g}", fontsize=8, loc="left",
                    pad=2)  # fmt: skip
    worth.set_xlabel("step")
    for axis in axes[:, 0]:
        axis.grid(alpha=0.3)
        axis.set_xlim(0, max(1, len(states) - 1))
        axis.tick_params(labelsize=7)
        if axis is not worth:
            axis.tick_params(labelbottom=False)
    return figure


def frames(lines: Tensor) -> Figure:
    """Drawings of some steps, evenly spread over the episode, all to one scale.

    Args:
        lines: (T, L, 2, 2), the ends (x, y) of each line.
    """
    steps = torch.linspace(0, len(lines) - 1, min(NUM_FRAMES, len(lines))).round().long().tolist()
    columns = min(6, len(steps))
    rows = -(-len(steps) // columns)
    margin = 0.15
    (left, low), (right, high) = (bound.tolist() for bound in (lines.amin((0, 1, 2)), lines.amax((0, 1, 2))))
    flat = min(1.0, (high - low + 2 * margin) / (right - left + 2 * margin))  # a cart's world is wide and low
    figure, axes = new_figure(1.8 * columns, (0.3 + 1.8 * flat) * rows, rows=rows, columns=columns)
    for axis in axes.flat:
        axis.axis("off")
    for axis, step in zip(axes.flat, steps, strict=False):
        for number, line in enumerate(lines[step]):
            axis.plot(*line.T.tolist(), color=f"C{number}", linewidth=1 if len(lines[step]) > 1 and not number else 4,
                      solid_capstyle="round")  # fmt: skip
        axis.set(xlim=(left - margin, right + margin), ylim=(low - margin, high + margin), aspect="equal")
        axis.set_title(f"step {step}", fontsize=8)
    return figure
