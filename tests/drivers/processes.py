"""Trains the same run with 1, 2 and 3 processes and says how far apart they are.

python tests/drivers/processes.py model=lenet5 out=processes.json
python tests/drivers/processes.py model=lstm also="data=python_docs data.fraction=0.02" batch_size=10 steps=60

Each run is `python train.py` in a process of its own, on digits where `also=` names no other data, with every epoch's
last batch smaller than the others and parts for validation and test that do not divide by the processes (a batch of
theirs has fewer samples than there are processes). A callback notes in float64, over all processes: loss and metrics of
every step, of every epoch, of validation and test, the samples each step has seen (a digest of their pixels, in order),
and in what precision it was computed. Weights come from last.ckpt and best.ckpt. Differences are the greatest over all
steps and to the first of `processes=`; of numbers above 1 they are relative, and those of weights are given a second
time, divided by the greatest weight of the tensor. With dropout, runs of the same number of processes are compared
instead, and must not differ by a bit.

Prints JSON, a row for each comparison; ends with status 1 where one is beyond its bound (float64 1e-9, float32 1e-5).
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import zip_longest
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from torch import Tensor

from zoo.callbacks.exact_resume import of_all_processes
from zoo.config.commandline import guarded, script_arguments

ROOT = Path(__file__).resolve().parent.parent.parent
KEYS = {
    "model": "a name of configs/model (mlp)",
    "optimizer": "names of configs/optimizer (sgd,adamw)",
    "processes": "numbers of processes; the first is what the others are compared with (1,2,3)",
    "precision": "of the trainer (64-true,32-true)",
    "steps": "least number of training steps (150)",
    "batch_size": "samples in a batch of all processes together (96)",
    "eval_batch_size": "the same of validation and test (67)",
    "augment": "a name of configs/augment (none)",
    "dropout": "model.dropout, of a model that has it (0)",
    "also": "more arguments of train.py, with spaces between ()",
    "folder": "where the runs are written (a temporary folder)",
    "out": "a file for the JSON",
}
BOUNDS = {"64-true": 1e-9, "32-true": 1e-5}
DTYPES = {"64-true": "torch.float64", "32-true": "torch.float32"}


def samples_of(batch: Any) -> list[bytes]:
    """The bytes of each sample of a batch, without padding: each process pads to the longest sample that it has."""
    if hasattr(batch, "tgt_mask"):
        return [sample_of_pairs(batch, i) for i in range(len(batch.src))]
    tensors, mask = [t.numpy() for t in batch], getattr(batch, "mask", None)
    if mask is None or mask.ndim != 2:  # classes of pixels are no padding
        return [b"".join(t[i].tobytes() for t in tensors) for i in range(len(tensors[0]))]
    lengths, found = mask.sum(1).tolist(), []
    for i, length in enumerate(lengths):
        rows = [t[i, :length] if t.ndim > 1 and t.shape[1] == mask.shape[1] else t[i] for t in tensors]
        found.append(b"".join(row.tobytes() for row in rows))
    return found


def sample_of_pairs(batch: Any, i: int) -> bytes:
    src = batch.src[i] if batch.src_mask is None else batch.src[i][batch.src_mask[i]]
    return b"".join(part.numpy().tobytes() for part in (src, batch.tgt_out[i][batch.tgt_mask[i]]))


class Record(Callback):
    """Notes what a run computes, all processes together; the first one writes it to `path` as JSON."""

    lean = True

    def __init__(self, path: str) -> None:
        self.path = path
        self.steps: list[dict[str, Any]] = []
        self.epochs: list[dict[str, float]] = []
        self.metrics: dict[str, list[dict[str, float]]] = {"val": [], "test": []}
        self.dtypes: set[str] = set()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.dtypes |= {
            str(x.dtype) for x in (*batch.inputs, *pl_module.parameters()) if x is not None and x.is_floating_point()
        }
        shares = of_all_processes([hashlib.sha256(sample).digest() for sample in samples_of(batch)])
        in_order = [sample for turn in zip_longest(*shares) for sample in turn if sample is not None]
        self.steps.append(
            {"samples": hashlib.sha256(b"".join(in_order)).hexdigest()[:16], "shares": [*map(len, shares)]}
        )

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.dtypes.add(str(pl_module.latest["loss"].dtype))
        self.dtypes |= {str(p.grad.dtype) for p in pl_module.parameters() if p.grad is not None}
        self.steps[-1] |= pl_module.newest()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.epochs.append(pl_module.train_means())

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.note(trainer, "val")

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        self.note(trainer, "test")
        if trainer.is_global_zero:
            found = {"steps": self.steps, "epochs": self.epochs, **self.metrics, "dtypes": sorted(self.dtypes)}
            Path(self.path).write_text(json.dumps(found))

    def note(self, trainer: Any, stage: str) -> None:
        metrics: dict[str, Tensor] = trainer.callback_metrics
        self.metrics[stage].append({k: v.item() for k, v in metrics.items() if k.startswith(f"{stage}/")})


def environment() -> dict[str, str]:
    """That of this process, in which a run also finds the callbacks of the drivers."""
    paths = [str(ROOT / "tests" / "drivers"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def train(run_dir: Path, processes: int, *arguments: str) -> dict[str, Any]:
    """One run as a user starts it: what was recorded, its metrics.json, and the weights of its last checkpoint."""
    from zoo.checkpoint import read

    record = run_dir.parent / f"{run_dir.name}.json"
    command = [
        *(sys.executable, str(ROOT / "train.py"), "trainer.accelerator=cpu", f"trainer.devices={processes}"),
        *("trainer.num_threads=1", "trainer.log_every_n_steps=1", *arguments, f"run_dir={run_dir}"),
        *("+callbacks.record._target_=processes.Record", f"+callbacks.record.path={record}"),
    ]
    started = time.monotonic()
    ended = subprocess.run(
        command, cwd=run_dir.parent, env=environment(), capture_output=True, text=True, check=False, timeout=600
    )
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}\nended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return {
        **json.loads(record.read_text()),
        "metrics.json": json.loads((run_dir / "metrics.json").read_text()),
        "last": read(run_dir / "checkpoints" / "last.ckpt")["state_dict"],
        "best": read(run_dir)["state_dict"],
        "seconds": round(time.monotonic() - started, 1),
        "out": ended.stdout,
    }


def apart(one: Any, other: Any) -> float:
    """The greatest difference between numbers at the same places of two lists or dictionaries."""
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return float("inf")
        return max((apart(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, list):
        if len(one) != len(other):
            return float("inf")
        return max((apart(a, b) for a, b in zip(one, other, strict=True)), default=0.0)
    if one is None or other is None:
        return 0.0 if one is other else float("inf")
    if one == other:
        return 0.0
    difference = abs(one - other) / max(1.0, abs(one))
    return difference if difference >= 0 else float("inf")  # NaN is no answer


def compare(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """How far two runs are apart. `first_half_losses` shows whether a difference grows with the steps."""
    numbers = [
        [{k: v for k, v in s.items() if k not in ("samples", "shares")} for s in run["steps"]] for run in (one, other)
    ]
    losses = [[step["loss"] for step in steps] for steps in numbers]
    half = len(losses[0]) // 2
    pairs = [
        (a.double(), b.double())
        for key in ("last", "best")
        for a, b in zip(one[key].values(), other[key].values(), strict=True)
        if a.is_floating_point() and a.numel()
    ]
    weights = [(float((a - b).abs().max()), float(a.abs().max())) for a, b in pairs]
    totals = [{k: v for k, v in run["metrics.json"].items() if "/" in k} for run in (one, other)]
    return {
        "steps": len(losses[0]),
        "losses": apart(*losses),
        "first_half_losses": apart(losses[0][:half], losses[1][:half]),
        "step_metrics": apart(*numbers),
        "epoch_means": apart(one["epochs"], other["epochs"]),
        "validation": apart(one["val"], other["val"]),
        "test": apart(one["test"], other["test"]),
        "metrics.json": apart(*totals),
        "weights": max(distance for distance, _ in weights),
        "weights_to_scale": max(distance / scale for distance, scale in weights if scale),
        "same_samples": [s["samples"] for s in one["steps"]] == [s["samples"] for s in other["steps"]],
        "same_counts": all(
            one["metrics.json"][k] == other["metrics.json"][k] for k in ("samples_seen", "iteration", "epoch")
        ),
        "smallest_shares": min((s["shares"] for s in other["steps"]), key=min),
        "dtypes": sorted({*one["dtypes"], *other["dtypes"]}),
        "world_sizes": [run["metrics.json"]["world_size"] for run in (one, other)],
        "seconds": [run["seconds"] for run in (one, other)],
    }


FIGURES = ("losses", "step_metrics", "epoch_means", "validation", "test", "metrics.json", "weights")


def holds(row: dict[str, Any], precision: str, bound: float) -> bool:
    """Whether a comparison is within its bound. In float32 a bias near 0 has no scale to speak of."""
    figures = [*FIGURES, *(["weights_to_scale"] if precision == "64-true" else [])]
    return (
        all(row[name] <= bound for name in figures)
        and row["same_samples"]
        and row["same_counts"]
        and row["dtypes"] == [DTYPES[precision]]
    )


def epochs_for(steps: int, arguments: list[str]) -> int:
    """How many epochs have at least so many steps."""
    from zoo.build import build_data
    from zoo.run import configure

    cfg = configure(*arguments, run_dir="unused")
    data = build_data(cfg)
    return -(-steps // len(data.train_dataloader()))


def main() -> int:
    given = {"model": "mlp", "optimizer": "sgd,adamw", "processes": "1,2,3", "precision": "64-true,32-true"}
    given |= {
        "steps": "150",
        "batch_size": "96",
        "eval_batch_size": "67",
        "augment": "none",
        "dropout": "0",
        "also": "",
    }
    given |= script_arguments(sys.argv[1:], KEYS)
    common = [f"model={given['model']}", f"augment={given['augment']}", *given["also"].split()]
    common += [f"data.batch_size={given['batch_size']}", f"data.eval_batch_size={given['eval_batch_size']}"]
    dropout = float(given["dropout"])
    common += [f"model.dropout={dropout}"] if dropout else []
    common.append(f"trainer.max_epochs={epochs_for(int(given['steps']), common)}")
    numbers = [int(number) for number in given["processes"].split(",")]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=given.get("folder")) as name:
        for optimizer in given["optimizer"].split(","):
            for precision in given["precision"].split(","):
                settings = [*common, f"optimizer={optimizer}", f"trainer.precision={precision}"]

                def run(label: str, number: int, settings: list[str] = settings) -> dict[str, Any]:
                    return train(Path(name) / f"{len(rows)}_{number}_{label}", number, *settings)

                first = run("first", numbers[0]) if not dropout else None
                for number in numbers if dropout else numbers[1:]:
                    row = compare(first or run("first", number), run("other", number))
                    bound = 0.0 if dropout else BOUNDS[precision]
                    what = {"model": given["model"], "optimizer": optimizer, "precision": precision, "bound": bound}
                    rows.append(what | row | {"holds": holds(row, precision, bound)})
                    print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    result = {"command": " ".join(["python", *sys.argv]), "holds": all(row["holds"] for row in rows), "rows": rows}
    text = json.dumps(result, indent=1)
    if "out" in given:
        Path(given["out"]).write_text(text + "\n")
    print(text)
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    sys.exit(guarded(main))
