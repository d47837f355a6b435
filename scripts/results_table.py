"""Writes the tables of results in README.md from the files in results/.

python scripts/results_table.py

`results/few_labels/seed=<s>.csv` is the results.csv of `python train.py sweep=few_labels seed=<s>`, whose runs begin
with seed s of `cnn_mnist_0to4`.
"""

import csv
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from zoo.commandline import guarded

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- {}: written by scripts/results_table.py -->", "<!-- end of {} -->"
NUM_IMAGES = 29_404  # of the digits 5 to 9 in MNIST's training part


def table(results: Path) -> str:
    """One row a recipe, in the order of their names."""
    lines = ["| recipe | metric | ours | n | published | verdict | minutes a seed |", "|---|---|---|---|---|---|---|"]
    for path in sorted(results.glob("*.json")):
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


def with_tables(text: str, results: Path) -> str:
    return with_table(with_table(text, table(results)), few_labels(results / "few_labels"), "few labels")


def main() -> int:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(with_tables(text, ROOT / "results"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
