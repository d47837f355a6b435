"""The training loop: Lightning's, with a shorter way for the usual case and exact places to go on from.

Lightning's loop asks every callback, profiler and plugin at a dozen points of each step, most of which do nothing; for
a small network that takes longer than the network itself. Here the same things happen in the same order, but only
those hooks are called that somebody has written. Weights come out equal to the bit and callbacks are called alike
(tests/running/test_loop.py). Whatever this loop does not know falls back to Lightning's own.

A checkpoint is only taken where nothing of a batch or an epoch is pending (zoo.callbacks.checkpointing), so a resumed
run simply goes on with the next batch; Lightning's guesses at where it was cut off are not asked.
"""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException

BATCH_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
# Parts of a LightningModule that this loop does itself, in the way of the base class.
REPLACED = (
    "optimizer_step",
    "optimizer_zero_grad",
    "backward",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "on_before_batch_transfer",
    "on_after_batch_transfer",
    "transfer_batch_to_device",
)


def overrides(thing: Any, name: str, base: type) -> bool:
    return getattr(type(thing), name) is not getattr(base, name)


class RunLoop(_FitLoop):
    """Lightning's loop over epochs; callbacks that have `on_epoch_complete(trainer)` hear when all of one is done.

    That is later than `on_train_epoch_end`, after which Lightning still moves the schedules.
    """

    def on_advance_end(self) -> None:
        super().on_advance_end()
        for callback in self.trainer.callbacks:
            if hasattr(callback, "on_epoch_complete"):
                callback.on_epoch_complete(self.trainer)


class LeanEpochLoop(_TrainingEpochLoop):
    """Lightning's epoch loop with a shorter `advance`, used when `why_not` finds nothing against it.

    Args:
        wanted: whether it may be used at all.
    """

    def __init__(self, trainer: Trainer, *, wanted: bool, min_steps: int | None, max_steps: int) -> None:
        super().__init__(trainer, min_steps=min_steps, max_steps=max_steps)
        self.wanted = wanted

    def on_run_start(self, data_fetcher: Any) -> None:
        super().on_run_start(data_fetcher)
        # A resumed epoch is like any other from here on; else Lightning would skip its validation or its schedule.
        self.restarting = self.trainer.fit_loop.restarting = False
        self.lean = self.wanted and why_not(self.trainer) is None
        if not self.lean:
            return
        module, callbacks = self.trainer.lightning_module, self.trainer.callbacks
        self.hooks: dict[str, list[Callable[..., Any]]] = {
            name: [getattr(c, name) for c in callbacks if overrides(c, name, Callback)] for name in BATCH_HOOKS
        }
        self.own_hooks: dict[str, Callable[..., Any] | None] = {
            name: getattr(module, name) if overrides(module, name, LightningModule) else None for name in BATCH_HOOKS
        }
        self.parameters = [p for group in self.trainer.optimizers[0].param_groups for p in group["params"]]

    def call(self, name: str, *arguments: Any) -> None:
        for hook in self.hooks[name]:
            hook(self.trainer, self.trainer.lightning_module, *arguments)
        own = self.own_hooks[name]
        if own is not None:
            own(*arguments)

    def advance(self, data_fetcher: Any) -> None:
        if not self.lean:
            super().advance(data_fetcher)
            return
        self.val_loop.restarting = False
        batch, _, _ = next(data_fetcher)
        trainer, module = self.trainer, self.trainer.lightning_module
        batch_idx = self.batch_idx + 1
        self.batch_progress.is_last_batch = data_fetcher.done
        if trainer.strategy.root_device.type != "cpu":
            batch = trainer.strategy.batch_to_device(batch)
        self.batch_progress.increment_ready()
        self.call("on_train_batch_start", batch, batch_idx)
        self.batch_progress.increment_started()
        outputs = self.step(module, trainer.optimizers[0], batch, batch_idx)
        self.batch_progress.increment_processed()
        if trainer.lr_scheduler_configs:
            self.update_lr_schedulers("step", update_plateau_schedulers=False)
            if self._num_ready_batches_reached():
                self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        self.call("on_train_batch_end", outputs, batch, batch_idx)
        self.batch_progress.increment_completed()

    def step(self, module: Any, optimizer: Any, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Forward, backward and update, in Lightning's order."""
        trainer, progress = self.trainer, self.automatic_optimization.optim_progress.optimizer
        progress.step.increment_ready()
        loss = trainer.strategy.training_step(batch, batch_idx)  # through the wrapper that averages gradients
        progress.zero_grad.increment_ready()
        self.call("on_before_zero_grad", optimizer)
        progress.zero_grad.increment_started()
        for parameter in self.parameters:
            parameter.grad = None
        progress.zero_grad.increment_completed()
        self.call("on_before_backward", loss)
        loss.backward()
        self.call("on_after_backward")
        self.call("on_before_optimizer_step", optimizer)
        if trainer.gradient_clip_val:
            module.clip_gradients(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
        optimizer.step()
        progress.step.increment_completed()
        return {"loss": loss.detach()}

    def _should_check_val_fx(self, data_fetcher: Any) -> bool:
        # Lightning leaves out validation where trainer.max_steps ends a run inside an epoch; the numbers that are told
        # at the end would be those of an earlier epoch's weights.
        ended = self.max_steps != -1 and self.global_step >= self.max_steps
        return super()._should_check_val_fx(data_fetcher) or (ended and self.trainer.enable_validation)

    def on_advance_end(self, data_fetcher: Any) -> None:
        if not self.lean or self._should_check_val_fx(data_fetcher):
            super().on_advance_end(data_fetcher)
            return
        self._skip_next_val = False
        if self.trainer.lr_scheduler_configs:
            self.update_lr_schedulers("step", update_plateau_schedulers=True)
        self._batches_that_stepped += 1
        if not self._is_training_done and self.trainer.received_sigterm:
            raise SIGTERMException


def why_not(trainer: Trainer) -> str | None:
    """The first feature in use that the lean loop lacks, or None."""
    module = trainer.lightning_module
    checks = {
        "manual optimization": not module.automatic_optimization,
        "several optimizers": len(trainer.optimizers) != 1,
        "gradient accumulation": trainer.accumulate_grad_batches != 1,
        "a precision other than 32-true": type(trainer.precision_plugin) is not Precision,
        "a strategy of its own": type(trainer.strategy) not in (SingleDeviceStrategy, DDPStrategy),
        "a profiler": not isinstance(trainer.profiler, PassThroughProfiler),
        "anomaly detection": torch.is_anomaly_enabled(),
        "an optimizer that needs a closure": any(
            isinstance(o, torch.optim.LBFGS) or getattr(o, "needs_closure", False) for o in trainer.optimizers
        ),
        "a training_step that logs": not getattr(module, "lean", False),
    }
    checks |= {f"{type(module).__name__}.{name}": overrides(module, name, LightningModule) for name in REPLACED}
    for callback in trainer.callbacks:
        written = any(overrides(callback, name, Callback) for name in BATCH_HOOKS)
        checks[f"callback {type(callback).__name__}"] = written and not getattr(callback, "lean", False)
    return next((name for name, found in checks.items() if found), None)


def use_lean_loop(trainer: Trainer, wanted: bool = True) -> None:
    """Puts our loops in place of Lightning's; call it before `fit`. Not `wanted`: with Lightning's own steps."""
    old, epochs = trainer.fit_loop.epoch_loop, trainer.fit_loop
    trainer.fit_loop = RunLoop(trainer, min_epochs=epochs.min_epochs, max_epochs=epochs.max_epochs)
    trainer.fit_loop.epoch_loop = LeanEpochLoop(
        trainer, wanted=wanted, min_steps=old.min_steps, max_steps=old.max_steps
    )
