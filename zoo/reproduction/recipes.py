"""Runs recipes again, several seeds each, side by side and within a budget of time, and says what came of each.

A recipe and a seed are one unit of work with a folder of its own, `<folder>/<recipe>/seed=<s>`. A unit that has
finished with the present configuration and code is not run again, one that was interrupted goes on, and one of other
code makes room.
"""

import json
import math
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from zoo.config.commandline import options
from zoo.errors import UserError
from zoo.reproduction.provenance import ROOT, code_files, code_hash, config_hash, recipe, recipe_hash, settings

SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
RESULTS = ROOT / "results"
SEEDS = 3  # of a recipe that has no result yet


def duration(text: str) -> float:
    """Seconds of "2h", "90min", "45m" or "30s". Raises UserError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(h|min|m|s)", text)
    if not found or float(found[1]) == 0:
        raise UserError(f"budget={text} is no time; write 2h, 90min or 30s.")
    return float(found[1]) * SECONDS[found[2]]


def verdict(values: Sequence[float], published: float, more_is_better: bool = True) -> str:
    """How the mean compares with the published number, by twice its standard error."""
    sign = 1 if more_is_better else -1
    n, mean = len(values), sum(values) / len(values)
    if n == 1:
        return "reached once" if sign * (mean - published) >= 0 else "missed"
    sd = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    margin = 2 * sd / math.sqrt(n)
    if sign * (mean - published) - margin > 0:
        return "beaten"
    return "matched" if sign * (mean - published) + margin >= 0 else "missed"


def recipes() -> list[str]:
    """Those that have a number to compare with; the ones in folders show something."""
    return [name for name in options("experiment") if "/" not in name]


class Recipe(NamedTuple):
    """What is to be run.

    minutes: of one seed, as it was measured before; None where it was not.
    """

    name: str
    seeds: int
    minutes: float | None


def wanted(name: str, seeds: int | None, results: Path) -> Recipe:
    """A recipe with as many seeds as asked for, or as its result has: the one in `results`, else the zoo's own."""
    file = next((folder / f"{name}.json" for folder in (results, RESULTS) if (folder / f"{name}.json").is_file()), None)
    if file is None:
        return Recipe(name, seeds or SEEDS, None)
    result = json.loads(file.read_text(encoding="utf-8"))
    return Recipe(name, seeds or result["n"], result["minutes_per_seed"])


def fitting(asked: Sequence[Recipe], budget: float, jobs: int, folder: Path) -> tuple[list[Recipe], list[Recipe]]:
    """Which recipes `jobs` workers can finish in `budget` seconds, the shortest first; and which they cannot.

    What is finished costs nothing; a recipe whose time nobody has measured does not fit.
    """
    chosen: list[Recipe] = []
    left: list[Recipe] = []
    spent = 0.0
    for one in sorted(asked, key=lambda one: (one.minutes is None, one.minutes, one.name)):
        stamp = recipe_hash(one.name)
        missing = sum(finished(folder / one.name / f"seed={seed}", stamp) is None for seed in range(one.seeds))
        cost = 60 * (one.minutes or math.inf) * missing if missing else 0.0
        if spent + cost <= jobs * budget:
            spent += cost
            chosen.append(one)
        else:
            left.append(one)
    return chosen, left


def finished(run_dir: Path, stamp: str) -> dict[str, Any] | None:
    """Metrics and configuration of a finished run of the present recipe and code, or None."""
    file = run_dir / "recipe_hash.txt"
    if not file.is_file() or file.read_text(encoding="utf-8") != stamp or not (run_dir / "metrics.json").is_file():
        return None
    metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    if metrics["status"] != "finished":
        return None
    config: Any = OmegaConf.to_container(OmegaConf.load(run_dir / "config.yaml"))
    return {"metrics": metrics, "config": config, "published": config.get("published")}


class Unit(NamedTuple):
    """A recipe, the one that it begins with ("" for none), and the hashes of both."""

    experiment: str
    stamp: str
    start: str
    start_stamp: str


def unit_of(experiment: str) -> Unit:
    """Composing is not for threads: it is done before they begin."""
    start = recipe(experiment).get("begins_with") or ""
    return Unit(experiment, recipe_hash(experiment), start, recipe_hash(start) if start else "")


class UnfinishedError(Exception):
    """The time is spent, or somebody asked to stop: a unit has not been finished."""


class Workshop:
    """Trains units of work, `jobs` at a time.

    Args:
        folder: where the runs lie.
        jobs: how many train side by side; each has one thread if there are several.
        deadline: time.monotonic() at which what still trains is asked to save and stop; None: never.
    """

    def __init__(self, folder: Path, jobs: int = 1, deadline: float | None = None) -> None:
        self.folder, self.jobs, self.deadline = folder, jobs, deadline
        self.closed = False
        self.processes: set[subprocess.Popen[str]] = set()
        self.door = Lock()  # between starting a process and closing
        self.folders: dict[Path, Lock] = defaultdict(Lock)  # a start that several recipes have is trained once

    def run(self, asked: Sequence[Recipe]) -> Iterator[tuple[Recipe, list[dict[str, Any]] | Exception]]:
        """Each recipe as soon as all its seeds have finished, or one of them has failed or was stopped."""
        pool = ThreadPoolExecutor(self.jobs)
        waiting: dict[Recipe, list[Future[dict[str, Any]]]] = {}
        for one in asked:
            unit = unit_of(one.name)
            waiting[one] = [pool.submit(self.seed, unit, seed) for seed in range(one.seeds)]
        try:
            while waiting:
                for one in [one for one, futures in waiting.items() if all(future.done() for future in futures)]:
                    futures = waiting.pop(one)
                    errors = [future.exception() for future in futures if future.exception()]
                    yield one, first_of(errors) if errors else [future.result() for future in futures]
                self.wait([future for futures in waiting.values() for future in futures if not future.done()])
        finally:
            self.close()
            pool.shutdown(cancel_futures=True)

    def wait(self, running: Sequence[Future[Any]]) -> None:
        """Until one has ended; at the deadline everything is asked to stop."""
        left = None if self.deadline is None or self.closed else max(0.0, self.deadline - time.monotonic())
        if running and not wait(running, timeout=left, return_when=FIRST_COMPLETED).done:
            self.close()

    def close(self) -> None:
        """Begins nothing more, and asks what trains to save and stop; the same command goes on with it."""
        with self.door:
            self.closed = True
            for process in self.processes:
                process.terminate()

    def seed(self, unit: Unit, seed: int) -> dict[str, Any]:
        """Trains one seed, and what it begins with, and returns its metrics and configuration."""
        words, seconds = [], 0.0
        if unit.start:
            before = self.trained(unit.start, seed, unit.start_stamp)
            words, seconds = [f"pretrained={self.folder / unit.start / f'seed={seed}'}"], before["metrics"]["seconds"]
        done = self.trained(unit.experiment, seed, unit.stamp, *words)
        done["metrics"]["seconds"] += seconds
        print(f"{unit.experiment} seed {seed}: {done['metrics'][done['published']['metric']]:.4f}", flush=True)
        return done

    def trained(self, experiment: str, seed: int, stamp: str, *words: str) -> dict[str, Any]:
        """Trains one seed of one recipe, unless its folder holds it already."""
        run_dir = self.folder / experiment / f"seed={seed}"
        with self.folders[run_dir]:
            done, mark = finished(run_dir, stamp), run_dir / "recipe_hash.txt"
            if done is not None:
                return done
            if self.closed:
                raise UnfinishedError
            if not mark.is_file() or mark.read_text(encoding="utf-8") != stamp:
                shutil.rmtree(run_dir, ignore_errors=True)
                run_dir.mkdir(parents=True)
                mark.write_text(stamp, encoding="utf-8")
            status, told = self.process(self.command(experiment, seed, run_dir, *words))
            done = finished(run_dir, stamp)
            if done is None:
                if self.closed:
                    raise UnfinishedError
                last = (told.strip().splitlines() or ["no message"])[-1]
                raise UserError(f"experiment={experiment} seed={seed} ended with status {status}: {last}")
            return done

    def command(self, experiment: str, seed: int, run_dir: Path, *words: str) -> list[str]:
        threads = ["trainer.num_threads=1"] if self.jobs > 1 else []
        given = [f"experiment={experiment}", f"seed={seed}", "resume=auto", f"run_dir={run_dir}", *words, *threads]
        return [sys.executable, str(ROOT / "train.py"), *given]

    def process(self, command: Sequence[str]) -> tuple[int, str]:
        """Exit status and what was said of errors."""
        with self.door:
            if self.closed:
                raise UnfinishedError
            started = subprocess.Popen(
                command, cwd=ROOT, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
            )
            self.processes.add(started)
        try:
            told = started.communicate()[1]
        finally:
            self.processes.discard(started)
        return started.returncode, told


def first_of(errors: Sequence[Any]) -> Exception:
    """The one to tell of: what failed comes before what was merely stopped."""
    return min(errors, key=lambda error: isinstance(error, UnfinishedError))


def summarize(experiment: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What `results/<experiment>.json` holds."""
    import lightning
    import torch

    from zoo.reproduction.trace import first_losses

    config, published = runs[0]["config"], runs[0]["published"]
    start = recipe(experiment).get("begins_with")
    values = [run["metrics"][published["metric"]] for run in runs]
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else None
    chosen = any(run["metrics"].get("best_epoch") for run in runs)
    return {
        "experiment": experiment,
        "command": f"python scripts/reproduce.py {experiment} seeds={len(values)}",
        "published": published,
        "metric": published["metric"],
        "mean": mean,
        "standard_deviation": spread,
        "n": len(values),
        "verdict": verdict(values, published["value"], published.get("mode", "max") == "max"),
        "epoch_chosen_by": "validation part" if chosen else "nothing: the last epoch",
        "minutes_per_seed": sum(run["metrics"]["seconds"] for run in runs) / 60 / len(runs),
        "num_threads": runs[0]["metrics"]["num_threads"],
        "peak_memory_mb": max(run["metrics"]["peak_memory_mb"] for run in runs),
        "recipe_hash": recipe_hash(experiment),
        "config_hash": config_hash(config),
        "code_hash": code_hash(config),
        "code_files": [path.relative_to(ROOT).as_posix() for path in code_files(config)],
        "settings": settings(recipe(experiment)),
        "first_losses": first_losses(f"experiment={experiment}"),
        **({"first_losses_before": first_losses(f"experiment={start}")} if start else {}),
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "lightning": lightning.__version__,
        },
        "machine": f"{platform.machine()}, {platform.system()}",
        "seeds": {str(run["config"]["seed"]): run["metrics"] for run in runs},
    }


def told(result: dict[str, Any]) -> str:
    """A line about a result."""
    spread = f" +- {result['standard_deviation']:.4f}" if result["standard_deviation"] is not None else ""
    return (
        f"{result['experiment']}: {result['metric']} {result['mean']:.4f}{spread} (n = {result['n']}), published "
        f"{result['published']['value']}: {result['verdict']}; {result['minutes_per_seed']:.1f} minutes a seed"
    )
