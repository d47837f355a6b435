"""Writes the table of results in README.md from the files in results/.

python scripts/results_table.py
"""

import json
import sys
from pathlib import Path

from zoo.commandline import guarded

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results: written by scripts/results_table.py -->", "<!-- end of results -->"


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


def with_table(text: str, rows: str) -> str:
    """The text with the rows between the two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{rows}\n{END}{after}"


def main() -> int:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(with_table(text, table(ROOT / "results")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
