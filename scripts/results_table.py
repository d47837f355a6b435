"""Writes the tables of results in README.md and docs/ from the files in results/.

python scripts/results_table.py

`results/few_labels/seed=<s>.csv` is the results.csv of `python train.py sweep=few_labels seed=<s>`, whose runs begin
with seed s of `cnn_mnist_0to4`.
"""

import csv
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from zoo.config.commandline import guarded

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- {}: written by scripts/results_table.py -->", "<!-- end of {} -->"
RESULTS_PAGE, FEW_LABELS_PAGE = "docs/results.md", "docs/fine_tuning.md"
SHOWN = (  # in the README: some of each family
    *("mlp_256_fashion_mnist", "lenet5_fashion_mnist", "resnet20_fashion_mnist", "cnn_mnist1d", "unet_shapes"),
    *("mobilenet_v2_ants_bees", "textcnn_mr", "lstm_tiny_shakespeare", "gpt_medium_tiny_shakespeare", "jsb_lstm"),
    *("bahdanau_multi30k", "transformer_multi30k", "vae_mnist", "rbm_digits", "dlinear_etth1", "dqn_cartpole"),
)
NUM_IMAGES = 29_404  # of the digits 5 to 9 in MNIST's training part


def table(results: Path, recipes: Sequence[str] | None = None) -> str:
    """One row a recipe, in the order of their names; or these alone."""
    lines = ["| recipe | metric | ours | n | published | verdict | minutes a seed |", "|---|---|---|---|---|---|---|"]
    for path in sorted(results.glob("*.json")):
        if recipes is not None and path.stem not in recipes:
            continue
        result = json.loads(path.read_text(encoding="utf-8"))
        spread = "" if result["standard_deviation"] is None else f" ± {result['standard_deviation']:.4f}"
        published = result["published"]
        lines.append(
            f"| `{result['experiment']}` | {result['metric']} | {result['mean']:.4f}{spread} | {result['n']} | "
            f"{published['value']} ({published['source']}) | {result['verdict']} | {result['minutes_per_seed']:.1f} |"
        )
    return "\n".join(lines)


def few_labels(folder: Path) -> str:
    """One row a number of labels, one column a recipe: mean and standard deviation over the files."""
    found: dict[tuple[int, str], list[float]] = defaultdict(list)
    for path in sorted(folder.glob("seed=*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                labels = round(float(row["data.fraction"]) * NUM_IMAGES)
                found[labels, row["experiment"].rpartition("/")[2]].append(float(row["test/accuracy"]))
    recipes = ("scratch", "frozen", "finetuned")
    lines = [f"| labels | {' | '.join(recipes)} |", "|---" * (1 + len(recipes)) + "|"]
    for labels in sorted({labels for labels, _ in found}):
        cells = (found[labels, recipe] for recipe in recipes)
        shown = (f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}" for values in cells)
        lines.append(f"| {labels} | {' | '.join(shown)} |")
    return "\n".join(lines)


def with_table(text: str, rows: str, name: str = "results") -> str:
    """The text with the rows between the two marks of that name."""
    before, begin, rest = text.partition(BEGIN.format(name))
    _, end, after = rest.partition(END.format(name))
    return f"{before}{begin}\n{rows}\n{end}{after}"


def pages(results: Path) -> dict[str, str]:
    """What each file that has a table should hold."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", RESULTS_PAGE, FEW_LABELS_PAGE)}
    return {
        "README.md": with_table(texts["README.md"], table(results, SHOWN), "some results"),
        RESULTS_PAGE: with_table(texts[RESULTS_PAGE], table(results), "results"),
        FEW_LABELS_PAGE: with_table(texts[FEW_LABELS_PAGE], few_labels(results / "few_labels"), "few labels"),
    }


def main() -> int:
    for name, text in pages(ROOT / "results").items():
        (ROOT / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
