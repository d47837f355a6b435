"""A learning rate to begin with, found by one short training with an ever larger one.

Smith, "Cyclical learning rates for training neural networks", 2017 (arXiv 1506.01186), section 3.3: the rate grows from
iteration to iteration while the loss is watched. Where it is too small nothing happens; then the loss falls, and in the
end it diverges. The paper lets the rate grow linearly and looks at the accuracy; here it grows exponentially, and the
rate at which the smoothed loss falls most steeply is the one that is suggested.

Lightning's `Tuner.lr_find` is not used: it writes a checkpoint into the run's folder, reads it back, and smooths the
loss backwards only, which moves the answer to a higher rate. The steps here are those of `train.py`, by its trainer.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from tqdm import tqdm

from zoo.build import build
from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.callbacks.panels import Panels
from zoo.config.instantiate import named
from zoo.errors import UserError
from zoo.optim import PerceptronRule
from zoo.running.session import Run

DIVERGED = 3.0  # so many times the first loss above the smallest one
MEMORY = 0.9  # of the running mean that is watched for it
WIDTH = 0.02  # standard deviation of the smoothing, as a share of all iterations
FEWEST = 100  # iterations; with 60, one of five seeds gave a rate 20 times that of the others (mlp, digits, sgd)
SMALLEST_FALL = 0.05  # share of the first loss; less than that is noise


@dataclass(frozen=True)
class RateTest:
    """What the test has seen, and what follows from it.

    Args:
        rates, losses: of each iteration, the loss before its update.
        smoothed: the losses averaged with their neighbours.
        diverged: whether it ended because of the loss, before the highest rate.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    diverged: bool

    @property
    def lowest(self) -> int:
        """The iteration of the smallest smoothed loss, before much of what was won is lost again.

        What comes after that is no progress: the way down from a peak, at a rate that is too high already.
        """
        smoothed = np.asarray(self.smoothed)
        least = np.minimum.accumulate(smoothed)
        won = smoothed[0] - least
        lost = (won > 0.2 * won[-1]) & (smoothed - least > 0.25 * won)
        return int(np.argmin(smoothed[: int(np.argmax(lost))] if lost.any() else smoothed))

    @property
    def steepest(self) -> float | None:
        """The rate at which the smoothed loss falls most steeply, None where it does not fall."""
        first, least = self.smoothed[0], self.smoothed[self.lowest]
        if self.lowest < 2 or first - least < SMALLEST_FALL * abs(first):
            return None
        # The rates are evenly spaced in their logarithm, so a difference is a slope.
        slopes = np.gradient(self.smoothed[: self.lowest + 1])
        return self.rates[int(np.argmin(slopes))]

    @property
    def tenth(self) -> float:
        """A tenth of the rate at which the smoothed loss was smallest: another rule that is in use."""
        return self.rates[self.lowest] / 10

    def marks(self) -> dict[str, float]:
        """The rates worth knowing; none where the loss does not fall."""
        if self.steepest is None:
            return {}
        return {"steepest fall (suggested)": self.steepest, "a tenth of where the loss is smallest": self.tenth}

    def ending(self) -> str:
        """One line on how far the rate came."""
        end = "the loss diverged there" if self.diverged else "the loss did not diverge"
        return f"{len(self.rates)} rates from {self.rates[0]:.2g} to {self.rates[-1]:.2g}; {end}."

    def table(self, rows: int = 20) -> str:
        """Rate, loss and smoothed loss of about so many iterations, the last among them."""
        step = max(1, math.ceil(len(self.rates) / rows))
        shown = sorted({*range(0, len(self.rates), step), len(self.rates) - 1})
        lines = [f"{self.rates[i]:>10.2e}{self.losses[i]:>12.4g}{self.smoothed[i]:>12.4g}" for i in shown]
        return "\n".join([f"{'rate':>10}{'loss':>12}{'smoothed':>12}", *lines])

    def csv(self) -> str:
        """All of it, a line for each iteration."""
        rows = zip(self.rates, self.losses, self.smoothed, strict=True)
        return "\n".join(["rate,loss,smoothed", *(",".join(map(repr, row)) for row in rows)]) + "\n"


class GrowingRate(Callback):
    """Gives each update its rate and writes down the loss that it had; ends the training when the loss diverges."""

    lean = True

    def __init__(self, rates: list[float], base: float) -> None:
        self.all_rates, self.base = rates, base
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.pending: list[float] = []  # losses of the batches that one update is made of
        self.mean, self.least, self.diverged = 0.0, math.inf, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if len(trainer.optimizers) != 1:
            raise UserError(f"This task has {len(trainer.optimizers)} optimizers, and find_lr looks for one rate.")
        groups = trainer.optimizers[0].param_groups
        # Groups with a rate of their own keep their share of it.
        self.shares = [group["lr"] / self.base if self.base else 1.0 for group in groups]
        self.bar = tqdm(total=len(self.all_rates), disable=None, leave=False, unit=" rates", dynamic_ncols=True)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.update = trainer.global_step
        for group, share in zip(trainer.optimizers[0].param_groups, self.shares, strict=True):
            group["lr"] = share * self.all_rates[self.update]

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.pending.append(float(pl_module.latest["loss"]))
        if trainer.global_step == self.update and math.isfinite(self.pending[-1]):
            return  # more batches go into this update
        loss, self.pending = sum(self.pending) / len(self.pending), []
        self.diverged = not math.isfinite(loss) or self.is_far_above(loss)
        if math.isfinite(loss):
            self.rates.append(self.all_rates[self.update])
            self.losses.append(loss)
        trainer.should_stop = self.diverged
        self.bar.update()

    def is_far_above(self, loss: float) -> bool:
        """Whether the running mean of the losses has left the smallest one that it has had."""
        self.mean = MEMORY * self.mean + (1 - MEMORY) * loss
        mean = self.mean / (1 - MEMORY ** (len(self.losses) + 1))
        self.least = min(self.least, mean)
        return mean > self.least + DIVERGED * max(abs(self.least), abs(self.losses[0] if self.losses else loss))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar.close()


def find_rate(cfg: DictConfig, *, lowest: float = 1e-6, highest: float = 10.0, iterations: int = 150) -> RateTest:
    """Trains what the configuration says for a few iterations, each with a larger rate; nothing is written or kept.

    Args:
        cfg: of a run, for instance `zoo.run.configure("model=lenet5")`; it is left as it is.
        lowest, highest: the first and the last rate.
        iterations: updates, unless the loss diverges before.

    Raises:
        UserError: the run cannot be built, or its optimizer has no rate that could be found this way.
    """
    if not 0 < lowest < highest < math.inf:
        raise UserError(f"lowest={lowest:g} must be above 0 and below highest={highest:g}.")
    if iterations < FEWEST:
        raise UserError(f"iterations={iterations} must be at least {FEWEST}: of fewer, noise makes the steepest slope.")
    run = build(bare(cfg, iterations))
    check_optimizer(run)
    rates = np.geomspace(lowest, highest, iterations).tolist()
    growing = GrowingRate(rates, float(run.config["optimizer"].get("lr") or 0.0))
    # What writes has nothing to write.
    run.trainer.callbacks = [c for c in run.trainer.callbacks if not isinstance(c, (RunCheckpoint, Panels))]
    run.trainer.callbacks.append(growing)
    run.fit()
    if len(growing.losses) < 3:
        raise UserError(f"The loss is no number from the start; is lowest={lowest:g} too high a rate?")
    return RateTest(growing.rates, growing.losses, smooth(growing.losses, iterations), growing.diverged)


def bare(cfg: DictConfig, iterations: int) -> DictConfig:
    """The configuration in one process, without what watches, stops, validates, writes or moves the rate."""
    if cfg.get("resume"):
        raise UserError("resume= goes on with a run at its own rate; find_lr begins anew, or from pretrained=.")
    cfg = copy.deepcopy(cfg)
    cfg.callbacks = {}
    cfg.logger = {"_target_": None}
    cfg.scheduler = {"_target_": None}
    cfg.trainer.update({"max_epochs": -1, "max_steps": iterations, "limit_val_batches": 0})
    cfg.trainer.update({"devices": 1, "strategy": "auto"})  # data.batch_size counts all processes together
    return cfg


def check_optimizer(run: Run) -> None:
    """Raises UserError where a learning rate is nothing to be found."""
    optimizer = named(run.config["optimizer"]["_target_"], "optimizer")
    if any(base.__name__ == "LBFGS" for base in getattr(optimizer, "__mro__", ())):
        raise UserError(
            "L-BFGS searches along a line for the length of each step, so it has no rate to find; keep optimizer.lr=1."
        )
    if hasattr(run.task, "alternating"):
        raise UserError(
            "A generator and a discriminator have a loss each, and a low one says nothing of the other's rate; try "
            "some rates with -m optimizer.lr=... and look at the samples."
        )
    if hasattr(optimizer, "needs") or hasattr(run.task.model, PerceptronRule.needs):
        raise UserError(
            "A perceptron starts from zero weights, which the rate only scales: it changes no decision, so there is "
            "none to find; keep optimizer.lr=1."
        )


def smooth(losses: list[float], iterations: int) -> list[float]:
    """Means over neighbours on both sides, with the weights of a bell curve, so that nothing moves to a later rate.

    A loss far above the first ones counts no more than `DIVERGED` lets it, so that an explosion does not reach back.
    """
    values = np.asarray(losses)
    least, first = values.min(), abs(values[0])
    values = np.minimum(values, least + (1 + DIVERGED) * max(first, abs(least)))
    width = WIDTH * iterations
    reach = min(len(losses) - 1, math.ceil(3 * width))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    inside = slice(reach, reach + len(losses))
    total = np.convolve(np.ones(len(losses)), weights)[inside]  # less at both ends
    return (np.convolve(values, weights)[inside] / total).tolist()
