"""A number in a document comes from a file, and the file from a command."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from zoo.config.commandline import options, register_resolvers
from zoo.reproduction.provenance import recipe, settings
from zoo.reproduction.trace import first_losses

ROOT = Path(__file__).parent.parent
RESULTS = sorted((ROOT / "results").glob("*.json"))
# Long. Others like them stay among the quick tests, or the golden numbers of their networks do.
SLOW = (
    "transformer_multi30k",
    "luong_multi30k",
    "lstm_multi30k",
    "jsb_gru",
    "jsb_rnn",
    "textcnn_mr",
    "alexnet_fashion_mnist",
    "mobilenet_v2_ants_bees",
    "gpt_python_docs",
    "gpt_medium_tiny_shakespeare",
    "nottingham_lstm",
    "bahdanau_multi30k",
    "nottingham_rnn",
    "lstm_tiny_shakespeare",
    "transformer_summarize",
    "captioner_shapes",
    "unet_shapes",
)
RECIPES = [name for name in options("experiment") if "/" not in name]  # below are those that show something
spec = importlib.util.spec_from_file_location("results_table", ROOT / "scripts" / "results_table.py")
results_table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(results_table)


def test_the_readme_and_the_pages_show_what_the_files_hold():
    for name, text in results_table.pages(ROOT / "results").items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, "run: python scripts/results_table.py"
    assert "| 1000 | 0.9" in (ROOT / "docs" / "fine_tuning.md").read_text(encoding="utf-8")
    rows = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").count("\n| `")
    assert rows == len(RESULTS)
    shown = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line in some_rows()]
    assert len(shown) == len([name for name in results_table.SHOWN if name in RECIPES]) > 10


def some_rows():
    return results_table.table(ROOT / "results", results_table.SHOWN).splitlines()[2:]


def result_of(name):
    return json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_result_of_its_present_settings(name):
    """What has come later, with a default of its own, is left to the losses below."""
    register_resolvers()
    result, composed = result_of(name), recipe(name)
    now, config = settings(composed), OmegaConf.create(composed)
    changed = {key: (then, now.get(key)) for key, then in result["settings"].items() if now.get(key) != then}
    changed = {  # a value that is taken from elsewhere by now is the same if it comes to that
        key: both for key, both in changed.items() if key not in now or OmegaConf.select(config, key) != both[0]
    }
    assert changed == {}, f"run: python scripts/reproduce.py {name} seeds=3"
    values = [seed[result["metric"]] for seed in result["seeds"].values()]
    assert result["n"] == len(values)
    assert result["mean"] == pytest.approx(sum(values) / len(values))
    assert result["verdict"] in (("reached once",) if len(values) == 1 else ("matched", "beaten"))
    assert len(values) >= 3 or result["minutes_per_seed"] >= 10, "a short recipe has three seeds"


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in RECIPES])
def test_the_present_code_begins_a_recipe_as_its_result_began(name):
    """A change of code that changes what is computed makes the result stale.

    Rounding, which another machine or memory format does otherwise, grows from step to step.
    """
    if not os.environ.get("ZOO_DATA"):
        pytest.skip("ZOO_DATA names no folder with the data sets")
    check_losses(name, result_of(name)["first_losses"], name)


@pytest.mark.parametrize("name", [name for name in RECIPES if recipe(name).get("begins_with")])
def test_the_present_code_begins_what_a_recipe_begins_with_as_it_was(name):
    if not os.environ.get("ZOO_DATA"):
        pytest.skip("ZOO_DATA names no folder with the data sets")
    check_losses(recipe(name)["begins_with"], result_of(name)["first_losses_before"], name)


def check_losses(experiment, expected, name):
    unseen = ["trainer.limit_val_batches=1", "callbacks.activity=null"]  # nothing but the losses is looked at
    found = first_losses(f"experiment={experiment}", *unseen)
    advice = f"run: python scripts/reproduce.py {name} seeds=3"
    assert found[:5] == pytest.approx(expected[:5], rel=1e-3), advice
    assert found[5:] == pytest.approx(expected[5:], rel=2e-2), advice
    assert len(set(expected)) > 2, "a trace that could tell a change"
