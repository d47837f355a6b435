"""Posterior collapse shows itself in numbers, and every remedy beside it brings the code back.

Bounds lie between what was measured for three seeds on either side.
"""

from functools import cache
from tempfile import TemporaryDirectory

import pytest
import torch
from omegaconf import OmegaConf

from zoo.build import build
from zoo.config.commandline import CONFIGS, options
from zoo.run import configure

SICK = "pathology/posterior_collapse"
RECIPES = [name for name in options("experiment") if name.startswith(SICK)]
# One runs with the quick tests, all of them with `make test-full`.
REMEDIES = [
    pytest.param(name, marks=[] if name.endswith("_beta") else [pytest.mark.slow]) for name in RECIPES if name != SICK
]
SHORT = ("trainer.num_threads=1", "logger=none", "callbacks.progress=null", "test=false")


@cache
def measured(recipe):
    """What validation has found after the last epoch."""
    threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        run = build(configure(f"experiment={recipe}", *SHORT, run_dir=folder))
        run.fit()
    torch.set_num_threads(threads)
    found = run.trainer.callback_metrics
    return {key.removeprefix("val/"): float(value) for key, value in found.items() if key.startswith("val/")}


def test_a_code_that_is_given_up_says_nothing_of_the_image():
    sick = measured(SICK)
    assert sick["kl"] < 0.15  # at most 0.04
    assert sick["active_units"] == 0
    assert sick["reconstruction"] > 26  # that of the mean image


@pytest.mark.parametrize("recipe", REMEDIES)
def test_the_code_is_used_again(recipe):
    cured = measured(recipe)
    assert cured["kl"] > 0.4  # warm-up 0.6 to 1.5, all others above 2.5
    assert cured["active_units"] >= 1  # warm-up 1 to 8, all others 10
    assert cured["reconstruction"] < measured(SICK)["reconstruction"] - 0.5


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe != SICK])
def test_a_sibling_differs_in_one_setting(recipe, tmp_path):
    sick, cured = (OmegaConf.to_container(configure(f"experiment={r}", run_dir=tmp_path)) for r in (SICK, recipe))
    differ = [(g, k) for g in ("model", "data", "task", "optimizer", "trainer") for k in sick[g] | cured[g]
              if sick[g].get(k) != cured[g].get(k)]  # fmt: skip
    assert len(differ) == 1


def test_the_sweep_runs_all_of_them():
    assert set(OmegaConf.load(CONFIGS / "sweep" / "posterior_collapse.yaml").space.experiment) == set(RECIPES)
    assert len(RECIPES) == 5
