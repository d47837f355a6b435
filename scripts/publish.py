"""Gives a name to what a recipe reaches: weights in 16 bits, and a card that says how good they are.

python scripts/reproduce.py lenet5_fashion_mnist seeds=3
python scripts/publish.py lenet5-fashion recipe=lenet5_fashion_mnist

The card takes what the recipe reaches from `results/`, and judges the very file that it describes: rounded weights,
read from the disk, on the part that the recipe is judged on. A run that is not one of those in `results/` is refused.
Where the terms of the data do not say that weights may be passed on, there is a card alone, and its name stands for
what `python scripts/models.py <name> build=true` makes.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.config.commandline import guarded, script_arguments
from zoo.errors import UserError

if TYPE_CHECKING:
    from torch import nn

ROOT = Path(__file__).resolve().parent.parent
KEYS = {
    "name": "of the checkpoint: letters, digits and hyphens",
    "recipe": "the name of its recipe in configs/experiment",
    "seed": "which of the recipe's runs (0)",
    "runs": "where scripts/reproduce.py has put the runs (outputs/reproduce)",
    "folder": "where the file and its card go (zoo/pretrained)",
}
# Terms of the data that shipped weights may be trained on, as their sources state them.
TERMS = {
    "fashion_mnist": "Fashion-MNIST: MIT (Zalando)",
    **dict.fromkeys(("digits", "nudged_digits"), "optical digits of UCI, as scikit-learn ships them: CC BY 4.0"),
    "tiny_shakespeare": "Shakespeare: public domain",
    "python_docs": "Python's documentation: PSF licence",
    **dict.fromkeys(
        ("addition", "summarize", "babi", "captions", "dates", "bars", "ring", "grid"), "generated from a seed"
    ),
}
MORE = 0.01  # relative: how much worse than its run a rounded file may be


def recipe_of(recipe: str, seed: int, result: dict[str, Any]) -> dict[str, Any]:
    """What a card says of its recipe."""
    return {
        "name": recipe,
        "seed": seed,
        "command": f"python train.py experiment={recipe} seed={seed}",
        **{key: result[key] for key in ("mean", "standard_deviation", "n", "minutes_per_seed")},
        "published": result["published"]["value"],
        "source": result["published"]["source"],
    }


def card(name: str, result: dict[str, Any], config: dict[str, Any], model: "nn.Module") -> dict[str, Any]:
    """What is known of a checkpoint before its file is looked at."""
    data = config["choices"]["data"]
    return {
        "name": name,
        "architecture": type(model).__name__,
        "sizes": {key: value for key, value in config["model"].items() if key != "_target_"},
        "parameters": sum(x.numel() for x in model.parameters()),
        "data": data,
        "metric": result["metric"],
        "measured": f"{result['metric']} {result['mean']:.4f} (the recipe's mean)",
        "parent": None,
        "licence": "MIT",
        "terms_of_data": TERMS.get(data, "not stated by its source; the weights are made on your machine"),
        "precision": "float16",
        "bytes": None,
        "sha256": None,
    }


def measured(file: Path, metric: str, of_run: float) -> dict[str, Any]:
    """What a card says of a file that is shipped. Raises UserError where rounding has spoilt it."""
    from zoo.pretrained.registry import sha256
    from zoo.trained.evaluate import evaluate

    metrics = evaluate(str(file), metric.partition("/")[0]).metrics
    if abs(metrics[metric] - of_run) > MORE * abs(of_run):
        raise UserError(f"{file}: {metric} is {metrics[metric]:.4f} in 16 bits, and {of_run:.4f} in the run.")
    told = f"{metric} {metrics[metric]:.4f}"
    return {"measured": told, "metrics": metrics, "bytes": file.stat().st_size, "sha256": sha256(file)}


def publish(name: str, run: Path, result: dict[str, Any], recipe: dict[str, Any], folder: Path) -> str:
    """Writes the card, and the file where it may be passed on; returns a line about them."""
    from zoo.checkpoint import build_model, find, read
    from zoo.trained.export import export

    path, file = find(run), folder / f"{name}.safetensors"
    checkpoint = read(path)
    told = card(name, result, checkpoint["config"], build_model(checkpoint, path))
    if told["data"] in TERMS:
        export(run, file, half=True)
        try:
            told |= measured(file, result["metric"], result["seeds"][str(recipe["seed"])][result["metric"]])
        except UserError:
            file.unlink()
            raise
    (folder / f"{name}.json").write_text(json.dumps(told | {"recipe": recipe}, indent=2) + "\n", encoding="utf-8")
    size = f"{told['bytes'] / 2**20:.2f} MiB" if told["bytes"] else "no file"
    return f"{name}: {told['measured']}, {size}; the recipe's mean {result['mean']:.4f} (n = {result['n']})"


def main() -> int:
    given = {"seed": "0", "runs": "outputs/reproduce", "folder": str(ROOT / "zoo" / "pretrained")}
    given |= script_arguments(sys.argv[1:], KEYS, positional="name")
    name, recipe, seed = given.get("name", ""), given.get("recipe", ""), given["seed"]
    if not name or not name.replace("-", "").isalnum() or not recipe:
        raise UserError("Which? python scripts/publish.py lenet5-fashion recipe=lenet5_fashion_mnist")
    results, run = ROOT / "results" / f"{recipe}.json", Path(given["runs"]) / recipe / f"seed={seed}"
    for path in (results, run / "metrics.json"):
        if not path.is_file():
            raise UserError(f"There is no {path}; run: python scripts/reproduce.py {recipe} seeds=3")
    result = json.loads(results.read_text(encoding="utf-8"))
    metric, found = result["metric"], json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    known = result["seeds"].get(seed, {}).get(metric)
    if found[metric] != known:
        raise UserError(f"{run} has {metric} {found[metric]}, and {results.name} {known}: it is another run.")
    print(publish(name, run, result, recipe_of(recipe, int(seed), result), Path(given["folder"])))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
