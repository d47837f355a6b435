"""Mode collapse shows itself in the modes that samples find, and every remedy beside it finds the others, too.

Bounds lie between what was measured: the sickness for three seeds, the remedies for one or two.
"""

from functools import cache
from tempfile import TemporaryDirectory

import pytest
import torch
from omegaconf import OmegaConf

from zoo.build import build
from zoo.config.commandline import CONFIGS, options
from zoo.metrics.generative import Quality, mixture_quality
from zoo.run import configure

SICK = "pathology/mode_collapse"
RECIPES = [name for name in options("experiment") if name.startswith(SICK)]
REMEDIES = [recipe for recipe in RECIPES if recipe != SICK]
SHORT = ("trainer.num_threads=1", "logger=none", "callbacks.progress=null", "trainer.limit_val_batches=0")


@cache
def measured(recipe: str) -> Quality:
    """What the test would find after the last epoch."""
    threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        run = build(configure(f"experiment={recipe}", *SHORT, run_dir=folder))
        run.fit()
    torch.set_num_threads(threads)
    task = run.task.eval()
    return mixture_quality(task.make(task.samples), *task.mixture)


@pytest.mark.slow
def test_samples_are_good_and_of_few_modes():
    sick = measured(SICK)
    assert sick.high_quality > 0.7  # 0.8 to 1: they are near a mode
    assert sick.modes <= 4  # 1 to 3 of 8


@pytest.mark.slow
@pytest.mark.parametrize("recipe", REMEDIES)
def test_a_remedy_finds_the_modes(recipe):
    cured = measured(recipe)
    assert cured.modes >= 6  # a small latent 7, all others 8
    assert cured.modes >= measured(SICK).modes + 3
    assert cured.high_quality > 0.2  # and not by chance, which would be 0.06


@pytest.mark.parametrize("recipe", REMEDIES)
def test_a_remedy_differs_in_what_it_is_named_for_alone(recipe, tmp_path):
    sick, cured = (OmegaConf.to_container(configure(f"experiment={r}", run_dir=tmp_path)) for r in (SICK, recipe))
    differ = {f"{g}.{k}" for g in ("model", "data", "task", "optimizer", "trainer") for k in sick[g] | cured[g]
              if sick[g].get(k) != cured[g].get(k)}  # fmt: skip
    expected = {
        "r1": {"task.r1"},
        "wgan_gp": {"task.loss", "task.gradient_penalty"},
        "instance_noise": {"task.instance_noise"},
        "small_latent": {"model.latent_size"},
    }
    assert differ == expected[recipe.removeprefix(f"{SICK}_")]


def test_the_sweep_runs_all_of_them():
    sweep = OmegaConf.load(CONFIGS / "sweep" / "mode_collapse.yaml")
    assert sorted(sweep.space.experiment) == sorted(RECIPES)
    assert len(RECIPES) == 5
    assert (sweep.metric, sweep.mode) == ("test/modes", "max")
