"""The charts of TensorBoard's custom scalars: what belongs together on one chart, and only what the run has."""

import re
from collections.abc import Iterable
from typing import Any

# (row of charts, title of one, what stands on it: tags as regular expressions)
CHARTS = (
    ("optimization", "norm of the gradient", (r"norms/gradient(_\w+)?",)),
    ("optimization", "norm of the update", ("norms/update",)),
    ("optimization", "norm of the parameters", ("norms/parameter",)),
    ("optimization", "length of a step over that of the parameters", ("norms/update_over_parameter",)),
    ("optimization", "learning rate", ("optim/lr",)),
    ("optimization", "learning rate by block", (r"finetune/.+",)),
    ("layers", "norm of the gradient by layer", (r"gradients/\d.*",)),
    ("layers", "first layer's gradient over the last's", ("gradients/first_over_last",)),
    ("layers", "units that do nothing", (r"activations/.+",)),
    ("layers", "steps that a gradient reaches back", ("through_time/reach",)),
    ("speed", "milliseconds a step", ("speed/step_ms",)),
    ("speed", "samples a second", ("speed/samples_per_second",)),
)


def layout(tags: Iterable[str]) -> dict[str, dict[str, list[Any]]]:
    """Rows of charts for a run that has written these tags: its metrics first, each in training and in validation."""
    names = sorted(set(tags))
    parts: dict[str, set[str]] = {}  # of each metric
    for match in filter(None, (re.fullmatch(r"by_epoch/(train|val)/(.+)", name) for name in names)):
        parts.setdefault(match[2], set()).add(match[1])
    charts = [
        ("loss" if metric == "loss" else "metrics", titled(metric, parts[metric]), (both(metric),))
        for metric in sorted(parts, key=lambda metric: (metric != "loss", metric))
    ]
    charts[1:1] = [("loss", "validation loss less training loss", ("by_epoch/gap/loss",))]
    rows: dict[str, dict[str, list[Any]]] = {}
    for row, title, patterns in [*charts, *CHARTS]:
        if any(re.fullmatch(pattern, name) for pattern in patterns for name in names):
            rows.setdefault(row, {})[title] = ["Multiline", [f"{pattern}$" for pattern in patterns]]
    return rows


def both(metric: str) -> str:
    return f"by_epoch/(train|val)/{re.escape(metric)}"


def titled(metric: str, parts: set[str]) -> str:
    where = "training and validation" if len(parts) == 2 else "training" if "train" in parts else "validation"
    return f"{metric}: {where}, by epoch"
