"""Runs a recipe with several seeds and compares the result with the published number.

    python scripts/reproduce.py lenet5_fashion_mnist seeds=3

Seeds that have finished with the same configuration and code are not run again, and one that was interrupted goes on.
`results/<experiment>.json` holds every seed's metrics and the verdict: "beaten", "matched" or "missed" by mean and
spread, or "reached once" for one seed.
"""

import json
import math
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from zoo.commandline import CONFIGS, guarded, options, register_resolvers, script_arguments
from zoo.errors import UserError, suggest
from zoo.provenance import ROOT, code_files, code_hash, config_hash, recipe, recipe_hash, settings

KEYS = {
    "experiment": "name of a recipe in configs/experiment, or 'all'",
    "seeds": "how many seeds, from 0 on (3)",
    "jobs": "how many run side by side, each with one thread (1: all cores)",
    "runs": "folder for the runs (outputs/reproduce)",
    "results": "folder for the result (results)",
}


def verdict(values: list[float], published: float, more_is_better: bool = True) -> str:
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


def run_seed(experiment: str, seed: int, folder: Path, threads: int | None, stamp: str) -> dict[str, Any]:
    """Trains one seed, and what it begins with, and returns its metrics and configuration."""
    start = recipe(experiment).get("begins_with")
    words, seconds = [], 0.0
    if start:
        before = trained(start, seed, folder, threads, recipe_hash(start))
        words, seconds = [f"pretrained={folder / start / f'seed={seed}'}"], before["metrics"]["seconds"]
    done = trained(experiment, seed, folder, threads, stamp, *words)
    done["metrics"]["seconds"] += seconds
    print(f"{experiment} seed {seed}: {done['metrics'][done['published']['metric']]:.4f}", flush=True)
    return done


def trained(experiment: str, seed: int, folder: Path, threads: int | None, stamp: str, *words: str) -> dict[str, Any]:
    """Trains one seed of one recipe, unless its folder holds it already.

    One that was interrupted goes on; one of another configuration or code makes room.
    """
    run_dir = folder / experiment / f"seed={seed}"
    done, mark = finished(run_dir, stamp), run_dir / "recipe_hash.txt"
    if done is None:
        if not mark.is_file() or mark.read_text(encoding="utf-8") != stamp:
            shutil.rmtree(run_dir, ignore_errors=True)
            run_dir.mkdir(parents=True)
            mark.write_text(stamp, encoding="utf-8")
        command = [sys.executable, str(ROOT / "train.py"), f"experiment={experiment}", f"seed={seed}", "resume=auto"]
        command += [f"run_dir={run_dir}", *words, *([f"trainer.num_threads={threads}"] if threads else [])]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        done = finished(run_dir, stamp)
        if done is None:
            last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"experiment={experiment} seed={seed} ended with status {ended.returncode}: {last}")
    return done


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


def summarize(experiment: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What `results/<experiment>.json` holds."""
    import lightning
    import torch

    from zoo.trace import first_losses

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


def reproduce(experiment: str, seeds: int, jobs: int, folder: Path, results: Path) -> str:
    """Runs all seeds, writes the result, returns a line about it."""
    stamp, threads = recipe_hash(experiment), 1 if jobs > 1 else None
    with ThreadPoolExecutor(jobs) as pool:
        runs = list(pool.map(lambda seed: run_seed(experiment, seed, folder, threads, stamp), range(seeds)))
    result = summarize(experiment, runs)
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{experiment}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    spread = f" +- {result['standard_deviation']:.4f}" if seeds > 1 else ""
    return (
        f"{experiment}: {result['metric']} {result['mean']:.4f}{spread} (n = {seeds}), published "
        f"{result['published']['value']}: {result['verdict']}; {result['minutes_per_seed']:.1f} minutes a seed"
    )


def main() -> int:
    given = {"seeds": "3", "jobs": "1", "runs": "outputs/reproduce", "results": "results"}
    given |= script_arguments(sys.argv[1:], KEYS, positional="experiment")
    recipes = options("experiment")
    name = given.get("experiment", "")
    if name != "all" and name not in recipes:
        raise UserError(f"There is no recipe '{name}'{suggest(name, recipes)}")
    if not (given["seeds"].isdigit() and given["jobs"].isdigit() and int(given["seeds"]) and int(given["jobs"])):
        raise UserError("seeds= and jobs= take a whole number from 1 on.")
    register_resolvers()
    for experiment in recipes if name == "all" else [name]:
        if "published" not in OmegaConf.load(CONFIGS / "experiment" / f"{experiment}.yaml"):
            continue
        folder = Path(given["runs"]).absolute()
        print(reproduce(experiment, int(given["seeds"]), int(given["jobs"]), folder, Path(given["results"])))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
