"""The end of a sweep: its cells from best to worst, as a table and as results.csv."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read_metrics(run_dir: Path) -> dict[str, Any]:
    """metrics.json of a run; empty where there is none."""
    try:
        metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return metrics if isinstance(metrics, dict) else {}


def score(metrics: Mapping[str, Any], metric: str) -> float | None:
    """The finite number that a cell is ranked by, or None."""
    value = metrics.get(metric)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def rows(cells: Sequence[Mapping[str, Any]], folder: Path, metric: str, mode: str) -> list[Row]:
    """One row a cell: finished ones from best to worst, then the others by their number."""
    found: list[Row] = []
    tested = metric.replace("val/", "test/", 1)
    for cell in cells:
        metrics = read_metrics(folder / str(cell["cell"]))
        done = cell["status"] in ("finished", "pruned")
        row = {"rank": "", "cell": cell["cell"], **cell["point"]}
        row[metric] = score(metrics, metric) if done else None
        if tested != metric:
            row[tested] = score(metrics, tested) if done else None
        seconds = metrics.get("seconds") if done else None
        found.append(row | {"seconds": seconds or cell.get("seconds"), "status": cell["status"]})
    sign = -1 if mode == "max" else 1
    ranked = [row for row in found if row["status"] == "finished" and row[metric] is not None]
    ranked.sort(key=lambda row: (sign * row[metric], row["cell"]))
    for rank, row in enumerate(ranked, 1):
        row["rank"] = rank
    return ranked + [row for row in found if row["rank"] == ""]


def write_csv(path: Path, table: Sequence[Row]) -> None:
    """Writes beside the target and renames: a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns(table), restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)
    temporary.replace(path)


def columns(table: Sequence[Row]) -> list[str]:
    """Names in the order of a row; one that only some rows have stands where they have it."""
    names = list(dict.fromkeys(name for row in table for name in row))
    if not any(row.get(name) is not None for row in table for name in names if name.startswith("test/")):
        names = [name for name in names if not name.startswith("test/")]
    return names


def shown(value: Any, digits: int = 4) -> str:
    """A number of a run with so many digits after the point; a value that was typed as it was, but not longer."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{digits}f}" if abs(value) < 1e5 else f"{value:.6g}"
    text = str(value)
    if text[:1] in "\"'" and len(text) > 1 and text[-1] == text[0]:
        text = text[1:-1]
    try:
        return f"{float(text):.4g}" if "." in text or "e" in text else text
    except ValueError:
        return text


def as_text(table: Sequence[Row]) -> str:
    """A table of plain text, one line a cell."""
    names = columns(table)
    lines = [[name.lstrip("+") for name in names]]
    for row in table:
        lines.append([shown(row.get(name), digits=1 if name == "seconds" else 4) for name in names])
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    left = {i for i, name in enumerate(names) if name == "status"}
    return "\n".join(
        "  ".join(
            text.ljust(width) if i in left else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
