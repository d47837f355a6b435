"""Writes numbers to the logger: against the iteration while training, against the epoch at its end.

Iterations count finished batches from 1, whatever the number of optimizers or accumulated batches.
"""

import math
import time
from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from zoo.optim import Alternating


def iterations_done(trainer: Trainer) -> int:
    """Finished training batches of the whole run."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.ready


def total_norm(tensors: list[Tensor]) -> float:
    """Euclidean length of all the tensors taken as one vector."""
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))) if tensors else 0.0


def clipped_share(gradients: list[Tensor], length: float, limit: float, algorithm: str | None) -> float:
    """How much of a gradient will be clipped: by value the share of its numbers, by norm all of it or nothing."""
    if algorithm == "value":
        return sum(float((g.abs() > limit).sum()) for g in gradients) / max(1, sum(g.numel() for g in gradients))
    return float(length > limit)


class Curves(Callback):
    """Losses, metrics, learning rate, norms and speed, every `trainer.log_every_n_steps` iterations.

    Args:
        norms: also log the lengths of gradient, parameters and update.
    """

    lean = True

    def __init__(self, norms: bool = True) -> None:
        self.norms = norms
        self.samples_seen = 0
        self.newest: dict[str, float] = {}
        self.by_turn: dict[str, float] = {}  # of networks that take turns: that of each, in its newest
        self.before: list[tuple[Tensor, Tensor]] = []  # parameters, and what they were before the update
        self.gap: float | None = None  # validation loss less training loss

    def state_dict(self) -> dict[str, Any]:
        return {"samples_seen": self.samples_seen, "gap": self.gap, "by_turn": dict(self.by_turn)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.samples_seen, self.gap = state_dict["samples_seen"], state_dict.get("gap")
        self.by_turn = state_dict.get("by_turn", {})  # older checkpoints have none

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restart_clock(iterations_done(trainer))  # also where an epoch goes on in its middle

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restart_clock(iterations_done(trainer))

    def _restart_clock(self, iteration: int) -> None:
        self.clock, self.clock_iteration, self.clock_samples = time.perf_counter(), iteration, self.samples_seen

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._log(trainer, self._metrics(trainer, "val"), iterations_done(trainer))
            self._restart_clock(iterations_done(trainer))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        turns = optimizer if isinstance(optimizer, Alternating) else None
        logged = iterations_done(trainer) % trainer.log_every_n_steps == 0
        rare = turns is not None and turns.turn in turns.every  # it may have no turn where points are written
        if not self.norms or not (logged or rare):
            return
        trained: Iterable[Tensor] = pl_module.parameters() if turns is None else turns.at_hand()
        found = [(p, p.grad) for p in trained if p.grad is not None]
        with torch.no_grad():
            length = total_norm([grad for _, grad in found])
            before = [(p, p.detach().clone()) for p, _ in found] if logged else []
        if turns is None:
            self.newest["norms/gradient"], self.before = length, before
            if limit := trainer.gradient_clip_val:
                share = clipped_share([grad for _, grad in found], length, limit, trainer.gradient_clip_algorithm)
                self.newest["norms/clipped_share"] = share
            return
        self.by_turn[f"norms/gradient_{turns.turn}"] = length
        if logged:  # the gradient is that of all turns, each taken in its own
            self.newest["norms/gradient"] = math.hypot(self.newest.get("norms/gradient", 0.0), length)
            self.before += before

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.samples_seen += pl_module.num_samples_everywhere
        iteration = iterations_done(trainer)
        if iteration % trainer.log_every_n_steps:
            return
        metrics = {f"train/{name}": value for name, value in pl_module.newest().items()}
        metrics["optim/lr"] = self.learning_rate
        metrics |= self._norms() | self._progress(trainer, iteration) | self._speed(iteration)
        for callback in trainer.callbacks:
            if hasattr(callback, "scalars"):  # what other callbacks have found, in the same event
                metrics |= callback.scalars()
        self._log(trainer, metrics, iteration)
        self._restart_clock(iteration)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # Read before the schedule moves on, so that it is the rate this iteration is trained with.
        self.learning_rate = trainer.optimizers[0].param_groups[0]["lr"]

    def _norms(self) -> dict[str, float]:
        norms, self.newest = self.newest, {}
        if norms:
            norms |= self.by_turn
            with torch.no_grad():
                norms["norms/parameter"] = total_norm([p.detach() for p, _ in self.before])
                norms["norms/update"] = total_norm([p.detach() - old for p, old in self.before])
            if norms["norms/parameter"]:
                norms["norms/update_over_parameter"] = norms["norms/update"] / norms["norms/parameter"]
            self.before = []
        return norms

    def _progress(self, trainer: Trainer, iteration: int) -> dict[str, float]:
        return {
            "progress/epoch": iteration / trainer.num_training_batches,
            "progress/iteration": iteration,
            "progress/samples_seen": self.samples_seen,
        }

    def _speed(self, iteration: int) -> dict[str, float]:
        seconds, steps = time.perf_counter() - self.clock, iteration - self.clock_iteration
        if steps <= 0:
            return {}
        samples = self.samples_seen - self.clock_samples
        return {"speed/step_ms": 1000 * seconds / steps, "speed/samples_per_second": samples / seconds}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        validated = trainer.fit_loop.epoch_loop._should_check_val_epoch()  # else what is there is of an older epoch
        train, val = pl_module.train_means(), self._metrics(trainer, "val") if validated else {}
        metrics = {f"by_epoch/train/{name}": value for name, value in train.items()}
        metrics |= {f"by_epoch/{name}": value for name, value in val.items()}
        if "loss" in train and "val/loss" in val:
            metrics["by_epoch/gap/loss"] = self.gap = val["val/loss"] - train["loss"]
        metrics["by_epoch/progress/iteration"] = iterations_done(trainer)
        self._log(trainer, metrics, trainer.current_epoch + 1)

    def findings(self) -> dict[str, float]:
        """What `metrics.json` holds of it: the gap of the last epoch, whichever is the best."""
        return {} if self.gap is None else {"loss_gap": self.gap}

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, self._metrics(trainer, "test"), iterations_done(trainer))

    @staticmethod
    def _metrics(trainer: Trainer, stage: str) -> dict[str, float]:
        return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(f"{stage}/")}

    @staticmethod
    def _log(trainer: Trainer, metrics: dict[str, float], step: int) -> None:
        if trainer.is_global_zero and metrics:
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step)
