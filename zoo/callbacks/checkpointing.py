"""Keeps the run: best and last checkpoint, written whole or not at all, and only where a run can go on from.

Such a place is the end of a batch after which neither validation nor a part of an accumulated gradient is pending, or
the end of an epoch with everything that belongs to it: validation, schedules, early stopping (`on_epoch_complete`,
which zoo.running.loop calls).
"""

import errno
import logging
import math
import os
import platform
import shutil
import signal
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from zoo.callbacks.curves import iterations_done
from zoo.callbacks.exact_resume import of_all_processes
from zoo.errors import UserError
from zoo.running.signals import LISTENER, Stop

log = logging.getLogger(__name__)
FORMAT_VERSION = 2
IN_MEMORY_BYTES = 64 * 2**20  # a best checkpoint up to this size waits in memory for the clock


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, forces it to disk, and renames: a reader sees the old file or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            # torch's zip writer turns a full disk into a RuntimeError of its own.
            if isinstance(error, RuntimeError) and not any(word in str(error) for word in ("Writer", "unexpected pos")):
                raise
            full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
            reason = "no space is left on the disk" if full or isinstance(error, RuntimeError) else str(error)
            raise UserError(
                f"Could not write the checkpoint {target}: {reason}. What was saved before it is untouched; "
                "free some space or choose another run_dir."
            ) from error


@cache
def versions() -> dict[str, str]:
    """What a checkpoint was written with."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("torch-reference-zoo")
    except PackageNotFoundError:
        own = "source"
    return {
        "version": own,
        "torch": str(torch.__version__),
        "lightning": lightning.__version__,
        "python": platform.python_version(),
    }


class RunCheckpoint(Checkpoint):
    """`last.ckpt`, the `keep` before it, and `best.ckpt` by the task's metric.

    Written at an epoch's end when `epoch_seconds` have passed, inside an epoch when `batch_seconds` have, at the end,
    and when a signal asks the run to stop.

    Args:
        folder: where the checkpoints lie.
        extras: plain containers that every checkpoint holds: config, classes, preprocessing, data_fingerprint.
        monitor, mode: metric of the best checkpoint, and whether more ("max") or less ("min") is better.
        every_iterations: write after so many iterations instead of by the clock.
        keep: how many older checkpoints stay beside `last.ckpt`, as epoch=E-step=S.ckpt (E finished epochs).
        epoch_seconds, batch_seconds: the clock.
    """

    lean = True

    def __init__(
        self,
        folder: str | Path,
        extras: dict[str, Any],
        *,
        monitor: str,
        mode: str,
        every_iterations: int | None = None,
        keep: int = 2,
        epoch_seconds: float = 30.0,
        batch_seconds: float = 600.0,
    ) -> None:
        self.folder, self.extras = Path(folder), extras
        self.monitor, self.mode = monitor, mode
        self.every_iterations, self.keep = every_iterations, keep
        self.epoch_seconds, self.batch_seconds = epoch_seconds, batch_seconds
        self.best_value: float | None = None
        self.best_loss = float("inf")
        self.best_epoch: int | None = None
        self.waiting: dict[str, Any] | None = None  # the best checkpoint, not yet on disk
        self.written_at = time.monotonic()
        self.written_iteration = -1
        self.last_is: str | None = None  # the name under which last.ckpt will be kept
        self.is_due = False
        self.stop: int | None = None
        self.resumed_from: Path | None = None
        self.forget_best = False  # the best checkpoint is not the one that the resumed one speaks of
        self.curves: dict[str, Any] = {}  # where the loggers were, also those that are not in use now
        self.began, self.seconds_before = time.monotonic(), 0.0

    def go_back_to(self, path: Path) -> None:
        """Makes an older checkpoint of this run its last one, so that a kill does not bring back what came after it."""
        if path.name in (self.last.name, self.best.name) or path.resolve().parent != self.folder.resolve():
            return
        temporary = self.folder / f".{self.last.name}.{os.getpid()}.tmp"
        shutil.copyfile(path, temporary)
        temporary.replace(self.last)

    @property
    def best(self) -> Path:
        return self.folder / "best.ckpt"

    @property
    def last(self) -> Path:
        return self.folder / "last.ckpt"

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_loss": self.best_loss, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in () if self.forget_best else ("best_value", "best_loss", "best_epoch"):
            setattr(self, name, state_dict[name])

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        curves = {type(logger).__name__: logger.position() for logger in trainer.loggers if hasattr(logger, "position")}
        curves = self.curves | curves
        checkpoint.update(self.extras, format_version=FORMAT_VERSION, zoo=versions(), metrics=metrics, curves=curves)
        checkpoint["seconds"] = self.seconds_before + time.monotonic() - self.began

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.written_at = time.monotonic()
        if self.resumed_from is not None and self.resumed_from.resolve() == self.last.resolve():
            self.written_iteration, self.last_is = iterations_done(trainer), self._name(trainer)
        if trainer.is_global_zero:
            for left_over in self.folder.glob(".*.tmp"):  # of a process that was killed while it wrote
                left_over.unlink()
        LISTENER.listen()  # Lightning has taken some of the signals
        LISTENER.patient = True

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        LISTENER.listen()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """What this process wants; the task brings the wishes of all processes together within its own step."""
        passed = time.monotonic() - self.written_at > self.batch_seconds
        pl_module.wishes = (
            float(passed and not self.every_iterations and trainer.is_global_zero),
            float(LISTENER.asked is not None and LISTENER.asked != signal.SIGINT),
            float(LISTENER.asked == signal.SIGINT),
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        save, stop, interrupt = pl_module.wishes
        if interrupt or stop:
            self.stop = signal.SIGINT if interrupt else LISTENER.asked or signal.SIGTERM
        counted = self.every_iterations and iterations_done(trainer) % self.every_iterations == 0
        self.is_due = bool(self.is_due or save or self.stop or counted)
        if self.is_due and self._can_go_on_from_here(trainer):
            self._write_and_stop(trainer)

    @staticmethod
    def _can_go_on_from_here(trainer: Trainer) -> bool:
        """Nothing that belongs to this batch is still to come; at an epoch's last batch, `on_epoch_complete` is."""
        loop = trainer.fit_loop.epoch_loop
        validates = loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
        return not (loop._num_ready_batches_reached() or loop._should_accumulate() or validates)

    def on_epoch_complete(self, trainer: Trainer) -> None:
        """The epoch is over, with all that belongs to it."""
        value = trainer.callback_metrics.get(self.monitor)
        # This epoch counts as finished already, so Lightning's own `_should_check_val_epoch` would speak of the next.
        fresh = trainer.enable_validation and trainer.current_epoch % (trainer.check_val_every_n_epoch or 1) == 0
        loss = float(trainer.callback_metrics.get("val/loss", 0.0))
        if value is not None and fresh and self.is_better(float(value), loss):
            self.best_value, self.best_loss, self.best_epoch = float(value), loss, trainer.current_epoch
            self.keep_best(trainer)
        passed = not self.every_iterations and time.monotonic() - self.written_at > self.epoch_seconds
        (passed, _), *_ = wishes = of_all_processes((passed, LISTENER.asked))
        self.stop = self.stop or next((asked for _, asked in wishes if asked), None)
        if self.is_due or passed or self.stop:
            self._write_and_stop(trainer)

    def is_better(self, value: float, loss: float) -> bool:
        """Of two equal values, accuracies for instance, the one with the smaller validation loss is better."""
        if self.best_value is None or math.isnan(self.best_value):
            return True
        if value == self.best_value:
            return loss < self.best_loss
        return value > self.best_value if self.mode == "max" else value < self.best_value

    def keep_best(self, trainer: Trainer) -> None:
        """Small: a copy in memory, written by the clock. Large: at once."""
        checkpoint = dump(trainer)
        size = 3 * sum(t.numel() * t.element_size() for t in checkpoint["state_dict"].values())
        if size <= IN_MEMORY_BYTES:
            self.waiting = {k: value if k in self.extras else held(value) for k, value in checkpoint.items()}
        else:
            trainer.strategy.save_checkpoint(checkpoint, self.best)

    def _write_and_stop(self, trainer: Trainer) -> None:
        self.is_due = False
        self.write(trainer)
        if self.stop is not None:
            LISTENER.agreed = True
            raise Stop(self.stop)

    def write(self, trainer: Trainer) -> None:
        """Writes what is not yet on disk. On several processes all of them must call it."""
        if iterations_done(trainer) == self.written_iteration:
            return
        if self.waiting is not None:
            trainer.strategy.save_checkpoint(self.waiting, self.best)
            self.waiting = None
        checkpoint = dump(trainer)
        if trainer.is_global_zero:
            self._keep_older(iterations_done(trainer))
        trainer.strategy.save_checkpoint(checkpoint, self.last)
        trainer.strategy.barrier("checkpoint written")
        self.written_at, self.written_iteration = time.monotonic(), iterations_done(trainer)
        self.last_is = self._name(trainer)

    @staticmethod
    def _name(trainer: Trainer) -> str:
        return f"epoch={trainer.current_epoch}-step={iterations_done(trainer)}.ckpt"

    def _keep_older(self, now: int) -> None:
        """Gives last.ckpt a second name before another takes its place: at no time there is none."""
        if self.keep and self.last_is and self.last.is_file():
            older = self.folder / self.last_is
            older.unlink(missing_ok=True)
            try:
                os.link(self.last, older)
            except OSError:  # a file system without hard links
                with suppress(OSError):  # nothing is lost but a spare
                    shutil.copyfile(self.last, older)
        found = sorted(self.folder.glob("epoch=*-step=*.ckpt"), key=step_of)
        past = [path for path in found if step_of(path) < now]  # the others: of what came after an older checkpoint
        kept = past[-self.keep :] if self.keep else []
        for path in found:
            if path not in kept:
                path.unlink()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.write(trainer)
        LISTENER.patient = False
        asked = next((asked for asked in of_all_processes(LISTENER.asked) if asked), None)
        if asked is not None:
            LISTENER.agreed = True
            raise Stop(asked)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        LISTENER.patient = False
        # The best so far is worth keeping whatever went wrong, unless writing is what went wrong.
        if self.waiting is not None and not isinstance(exception.__cause__, OSError):
            trainer.strategy.save_checkpoint(self.waiting, self.best)
            self.waiting = None


def held(value: Any) -> Any:
    """Plain containers with copies of their tensors, which training goes on changing."""
    if isinstance(value, dict):
        return {key: held(item) for key, item in value.items()}
    if isinstance(value, list):
        return [held(item) for item in value]
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def step_of(path: Path) -> int:
    """The iteration in the name of a kept checkpoint, epoch=E-step=S.ckpt."""
    number = path.stem.rpartition("=")[2]
    return int(number) if number.isdigit() else -1


def dump(trainer: Trainer) -> dict[str, Any]:
    """The whole state of a run; every process must call it.

    After an epoch's last batch the loops count as Lightning resets them before the next epoch, so that a resumed run
    begins that epoch instead of asking again what came at the end of this one.
    """
    checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    loop = trainer.fit_loop.epoch_loop
    if not loop._num_ready_batches_reached():
        return checkpoint
    state = checkpoint["loops"]["fit_loop"]
    for name in ("batch_progress", "scheduler_progress"):
        current = state[f"epoch_loop.{name}"]["current"]
        state[f"epoch_loop.{name}"]["current"] = dict.fromkeys(current, 0)
    state["epoch_loop.batch_progress"]["is_last_batch"] = False
    return checkpoint
