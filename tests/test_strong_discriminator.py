"""A discriminator too strong leaves its generator no slope, and every remedy beside it gives it one again."""

from functools import cache
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
import torch
from lightning.pytorch import Callback
from omegaconf import OmegaConf

from zoo.build import build
from zoo.config.commandline import CONFIGS, options
from zoo.run import configure

SICK = "pathology/strong_discriminator"
RECIPES = [name for name in options("experiment") if name.startswith(SICK)]
# One runs with the quick tests, all of them with `make test-full`.
REMEDIES = [
    pytest.param(name, marks=[] if name.endswith("_r1") else [pytest.mark.slow]) for name in RECIPES if name != SICK
]
ITERATIONS, LAST = 300, 50


class Slopes(Callback):
    """How long the gradient of the generator is in each of its turns."""

    def __init__(self):
        self.found = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if optimizer.turn == "generator":
            gradients = [p.grad for p in pl_module.model.generator.parameters()]
            self.found.append(float(torch.stack(torch._foreach_norm(gradients)).norm()))


class Measured(NamedTuple):
    slope: float  # of the generator, the mean over its last turns
    moved: float  # how far its samples are from where they were at the start
    config: dict


@cache
def measured(recipe):
    short = ["trainer.limit_val_batches=0", f"trainer.max_steps={ITERATIONS}", "trainer.num_threads=1", "logger=none"]
    with TemporaryDirectory() as folder:
        run = build(configure(f"experiment={recipe}", *short, "callbacks.progress=null", run_dir=folder))
        slopes, first = Slopes(), run.task.make(200)
        run.trainer.callbacks.append(slopes)
        run.fit()
    last = slopes.found[-LAST // run.task.n_critic :]
    moved = (run.task.eval().make(200) - first).flatten(1).norm(dim=1).mean()
    return Measured(sum(last) / len(last), float(moved), run.config)


def test_a_discriminator_that_is_sure_of_itself_leaves_the_generator_no_slope():
    assert measured(SICK).slope < 0.02  # 0.0015
    assert measured(SICK).moved < 0.5  # 0.23


@pytest.mark.parametrize("recipe", REMEDIES)
def test_the_generator_has_a_slope_again_and_differs_in_its_task_alone(recipe):
    cured, sick = measured(recipe), measured(SICK)
    assert cured.slope > 0.1  # R1 0.23, all others above 0.5
    assert cured.moved > 0.7  # at least 1.02
    differ = {group for group, value in cured.config.items() if value != sick.config[group]}
    assert differ - {"choices", "overrides", "run_dir"} == {"task"}


def test_the_sweep_runs_all_of_them():
    listed = OmegaConf.load(CONFIGS / "sweep" / "strong_discriminator.yaml").space.experiment
    assert sorted(listed) == sorted(RECIPES)
    assert len(RECIPES) > 3
