"""How a run ends: `metrics.json`, a table, where the run lies."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ALWAYS = ("train/loss", "val/loss", "test/loss")


def write_metrics(run_dir: str | Path, metrics: Mapping[str, Any]) -> Path:
    """Writes the flat `metrics.json` of a run, whole or not at all; losses that were not measured are null."""
    return write_json(Path(run_dir) / "metrics.json", dict.fromkeys(ALWAYS) | dict(metrics))


def write_json(path: str | Path, values: Mapping[str, Any]) -> Path:
    """Writes values as JSON, whole or not at all."""
    return write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: str | Path, text: str) -> Path:
    """Writes a text beside the target and renames: a reader sees the old file or the new one."""
    path = Path(path).expanduser()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = str(path)  # not the name of the temporary file
        raise
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
        cells = (f"{_short(values[part]):>12}" if part in values else " " * 12 for part in parts)
        lines.append("".join([f"{metric:<{width}}", *cells]).rstrip())
    return "\n".join(lines)


def _short(value: float) -> str:
    """Four decimals; six digits for a number so large that it would touch its neighbour."""
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.6g}"


def closing_lines(run_dir: str | Path) -> list[str]:
    """Where the run is, and how to look at it, if there is something for TensorBoard."""
    path = Path(run_dir)
    shown = path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
    root = shown if shown.is_absolute() or len(shown.parts) < 2 else Path(shown.parts[0])
    quoted = f'"{root}"' if " " in str(root) else root
    lines = [f"Run folder: {shown}"]
    if next(path.rglob("events.out.tfevents.*"), None):
        lines.append(f"Look at it: tensorboard --logdir {quoted}")
    return lines
