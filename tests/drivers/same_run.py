"""Whether two run folders hold the same run: every value that does not come from a clock, bit for bit.

python tests/drivers/same_run.py outputs/whole outputs/resumed

Looks at the final and the best checkpoint (weights, optimizer, schedules, loops, random numbers, callbacks, metrics),
`metrics.json`, the event file, `metrics.csv`, and the names of the files. Prints a line for each difference; the exit
status is 1 where there is one.
"""

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

# From a clock, or how far into a file: "seconds" and "curves" of a checkpoint.
OWN_OF_A_CHECKPOINT = ("seconds", "curves")
OWN_OF_METRICS = ("seconds", "peak_memory_mb", "resumed_from_iteration")
MANY = 6  # differences of one kind that are named


def unequal(a: Any, b: Any, where: str) -> Iterator[str]:
    """The places at which two nested containers differ."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if (a.dtype, a.shape) != (b.dtype, b.shape) or not torch.equal(bits(a), bits(b)):
            yield f"{where} differs"
    elif isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b):
            yield f"{where} has the keys {sorted(map(str, a.keys() ^ b.keys())) or 'in another order'} in one alone"
        for key in (key for key in a if key in b):
            yield from unequal(a[key], b[key], f"{where}.{key}" if where else str(key))
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) != len(b):
            yield f"{where} has {len(a)} and {len(b)} entries"
        for i, (x, y) in enumerate(zip(a, b, strict=False)):
            yield from unequal(x, y, f"{where}[{i}]")
    elif type(a) is not type(b) or (a != b and not (a != a and b != b)):  # NaN is equal to NaN
        yield f"{where}: {shortened(a)} and {shortened(b)}"


def bits(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8)


def shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def without(folder: Path, value: Any) -> Any:
    """The value with the folder's own name taken out of its texts."""
    if isinstance(value, dict):
        return {key: without(folder, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without(folder, item) for item in value]
    return value.replace(str(folder), "<run>") if isinstance(value, str) else value


def checkpoint(path: Path, folder: Path) -> dict[str, Any]:
    found = torch.load(path, map_location="cpu", weights_only=True)
    found = {"state_dict": found.pop("state_dict"), **found}  # the weights are told of first
    return without(folder, {key: value for key, value in found.items() if key not in OWN_OF_A_CHECKPOINT})


def metrics(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {key: value for key, value in found.items() if key not in OWN_OF_METRICS}


def curves(folder: Path) -> dict[str, Any]:
    """What TensorBoard shows: {kind/tag: [(step, value), ...]}; of a speed the steps alone."""
    board = EventAccumulator(str(folder), size_guidance=dict.fromkeys(("scalars", "images", "tensors"), 0))
    board.Reload()
    tags, found = board.Tags(), {}
    for tag in tags["scalars"]:
        by_clock = tag.startswith("speed/")
        found[f"scalar {tag}"] = [(e.step, None if by_clock else e.value) for e in board.Scalars(tag)]
    for tag in tags["images"]:
        found[f"image {tag}"] = [(e.step, e.encoded_image_string) for e in board.Images(tag)]
    for tag in tags["tensors"]:
        values = [(e.step, b"".join(e.tensor_proto.string_val).decode(errors="replace")) for e in board.Tensors(tag)]
        found[f"text {tag}"] = without(folder, values)
    return found


def rows(folder: Path) -> list[dict[str, str]]:
    """metrics.csv without the values of its speeds."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {k: v if not k.startswith("speed/") else str(bool(v)) for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


def names(folder: Path) -> list[str]:
    """The files of a run, an event file by its kind alone."""
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(re.sub(r"(events\.out\.tfevents)\..*", r"\1", name) for name in found)


def differences(whole: Path, other: Path) -> list[str]:
    """A line for each place at which the two runs differ."""
    found = [f"files: {text}" for text in unequal(names(whole), names(other), "")]
    if names(whole) != names(other):
        found = [f"files: {names(whole)} and {names(other)}"]
    for name in ("last.ckpt", "best.ckpt"):
        paths = [folder / "checkpoints" / name for folder in (whole, other)]
        if all(path.is_file() for path in paths):
            found += few(unequal(*map(checkpoint, paths, (whole, other)), ""), name)
    found += few(unequal(metrics(whole), metrics(other), ""), "metrics.json")
    found += few(unequal(curves(whole), curves(other), ""), "curves")
    found += few(unequal(rows(whole), rows(other), ""), "metrics.csv")
    config = [(f / "config.yaml").read_text(encoding="utf-8").replace(str(f), "<run>") for f in (whole, other)]
    return found + ["config.yaml differs"] * (config[0] != config[1])


def few(texts: Iterator[str], what: str) -> list[str]:
    every = [f"{what}: {text}" for text in texts]
    left = len(every) - MANY
    return every if left <= 0 else [*every[:MANY], f"{what}: and {left} more"]


def main() -> int:
    whole, other = (Path(name).absolute() for name in sys.argv[1:3])
    found = differences(whole, other)
    print("\n".join(found) or "The same run.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
