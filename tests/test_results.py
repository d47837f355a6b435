"""A number in a document comes from a file, and the file from a command."""

import importlib.util
import json
from pathlib import Path

import pytest

from zoo.commandline import options
from zoo.provenance import recipe_hash

ROOT = Path(__file__).parent.parent
RESULTS = sorted((ROOT / "results").glob("*.json"))
spec = importlib.util.spec_from_file_location("results_table", ROOT / "scripts" / "results_table.py")
results_table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(results_table)


def test_the_readme_shows_what_the_files_hold():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert results_table.with_table(readme, results_table.table(ROOT / "results")) == readme


@pytest.mark.parametrize("name", options("experiment"))
def test_every_recipe_has_a_result_of_the_present_code(name):
    result = json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))
    assert result["recipe_hash"] == recipe_hash(name), f"run: python scripts/reproduce.py {name} seeds=3"
    values = [seed[result["metric"]] for seed in result["seeds"].values()]
    assert result["n"] == len(values) >= 3
    assert result["mean"] == pytest.approx(sum(values) / len(values))
    assert result["verdict"] in ("matched", "beaten")
