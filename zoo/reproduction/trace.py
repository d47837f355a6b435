"""The first losses of a recipe: what a published result is held to while the code around it moves on.

A result took hours; the code that made it is read, split and renamed. As long as the same settings give the same first
losses, the run that follows is the same run, and its result still holds. What does: the data and their order,
augmentation, initialization, network, loss, optimizer and the first steps of its schedule.
"""

import tempfile
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from zoo.build import build
from zoo.run import configure

SAMPLES = 640  # that a trace goes through, in between so many steps at least and at most
STEPS = (5, 100)


class FirstLosses(Callback):
    """Collects the losses of the first training batches, and ends the run."""

    lean = True

    def __init__(self, number: int) -> None:
        self.number = number
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if len(self.losses) < self.number:
            self.losses.append(float(pl_module.latest["loss"]))
        trainer.should_stop = len(self.losses) >= self.number


def first_losses(*overrides: str, steps: int | None = None) -> list[float]:
    """Losses of the first training batches of `python train.py <overrides>`, on one thread of the CPU.

    Args:
        steps: how many; left out, about as many as have 640 samples.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = ["logger=none", "trainer=auto", "trainer.accelerator=cpu", "trainer.num_threads=1", "test=false"]
        cfg = configure(*settings, *overrides, run_dir=folder)
        if cfg.get("begins_with"):  # weights of a run that need not lie here, and has a trace of its own
            cfg.pretrained = None
        run = build(cfg)
        batch_size: int = run.data.train_batch_size
        collector = FirstLosses(steps or min(max(SAMPLES // batch_size, STEPS[0]), STEPS[1]))
        run.trainer.callbacks.append(collector)
        run.fit()
    return collector.losses
