"""How a run ends: `metrics.json`, a table, where the run lies."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ALWAYS = ("train/loss", "val/loss", "test/loss")


def write_metrics(run_dir: str | Path, metrics: Mapping[str, Any]) -> Path:
    """Writes the flat `metrics.json` of a run, whole or not at all; losses that were not measured are null."""
    path = Path(run_dir) / "metrics.json"
    temporary = path.with_name(f".metrics.json.{os.getpid()}.tmp")
    everything = dict.fromkeys(ALWAYS) | dict(metrics)
    temporary.write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def table(metrics: Mapping[str, Any]) -> str:
    """Metrics by name and part (train, val, test, then any other): a small table of plain text."""
    parts = [part for part in ("train", "val", "test") if any(name.startswith(f"{part}/") for name in metrics)]
    parts += sorted({name.split("/")[0] for name in metrics if "/" in name} - {"train", "val", "test"})
    rows: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        part, slash, metric = name.partition("/")
        if slash and isinstance(value, (int, float)):
            rows.setdefault(metric, {})[part] = value
    width = max([len(name) for name in rows] + [6])
    lines = ["".join([" " * width, *(f"{part:>12}" for part in parts)])]
    for metric, values in rows.items():
        cells = (f"{values[part]:>12.4f}" if part in values else " " * 12 for part in parts)
        lines.append("".join([f"{metric:<{width}}", *cells]).rstrip())
    return "\n".join(lines)


def closing_lines(run_dir: str | Path) -> list[str]:
    """Where the run is, and how to look at it."""
    path = Path(run_dir)
    shown = path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
    root = shown if shown.is_absolute() or len(shown.parts) < 2 else Path(shown.parts[0])
    quoted = f'"{root}"' if " " in str(root) else root
    return [f"Run folder: {shown}", f"Look at it: tensorboard --logdir {quoted}"]
