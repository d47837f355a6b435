"""Keeps the run: best and last checkpoint, written whole or not at all."""

import copy
import errno
import logging
import os
import platform
import signal
import threading
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from zoo.callbacks.curves import iterations_done
from zoo.errors import UserError

log = logging.getLogger(__name__)
FORMAT_VERSION = 1
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
            # torch's zip writer turns a full disk into a RuntimeError of its own.
            temporary.unlink(missing_ok=True)
            full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
            reason = "no space is left on the disk" if full or isinstance(error, RuntimeError) else str(error)
            raise UserError(
                f"Could not write the checkpoint {target}: {reason}. What was saved before it is untouched; "
                "free some space or choose another run_dir."
            ) from error


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
    """`best.ckpt` by the task's metric and `last.ckpt`, both at an epoch's end when 30 s have passed, and at the end.

    Args:
        folder: where the checkpoints lie.
        extras: plain containers that every checkpoint holds: config, classes, preprocessing, data_fingerprint.
        monitor, mode: metric of the best checkpoint, and whether more ("max") or less ("min") is better.
        every_iterations: write after so many iterations, also inside an epoch, instead of by the clock.
        keep: how many older checkpoints stay beside `last.ckpt`, as epoch=E-step=S.ckpt (every_iterations only).
        epoch_seconds, batch_seconds: the clock: least time between writes at an epoch's end and inside an epoch.
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
        self.asked_to_stop = False

    @property
    def best(self) -> Path:
        return self.folder / "best.ckpt"

    @property
    def last(self) -> Path:
        return self.folder / "last.ckpt"

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_loss": self.best_loss, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in ("best_value", "best_loss", "best_epoch"):
            setattr(self, name, state_dict[name])

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        checkpoint.update(self.extras, format_version=FORMAT_VERSION, zoo=versions(), metrics=metrics)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.written_at = time.monotonic()
        here = threading.current_thread() is threading.main_thread() and trainer.world_size == 1
        if here and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._ask_to_stop)

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        """The first Ctrl-C waits for the end of the batch, so that what is saved is whole; a second one does not."""
        self.asked_to_stop = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _stop_listening(self) -> None:
        if signal.getsignal(signal.SIGINT) == self._ask_to_stop:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        iteration = iterations_done(trainer)
        if self.asked_to_stop:
            self.write(trainer)
            raise KeyboardInterrupt
        if self.every_iterations:
            if iteration % self.every_iterations == 0:
                self.write(trainer)
        elif time.monotonic() - self.written_at > self.batch_seconds and trainer.world_size == 1:
            self.write(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        value = trainer.callback_metrics.get(self.monitor)
        fresh = trainer.fit_loop.epoch_loop._should_check_val_epoch()
        loss = float(trainer.callback_metrics.get("val/loss", 0.0))
        if value is not None and fresh and self.is_better(float(value), loss):
            self.best_value, self.best_loss, self.best_epoch = float(value), loss, trainer.current_epoch + 1
            self.keep_best(trainer)
        due = trainer.strategy.broadcast(time.monotonic() - self.written_at > self.epoch_seconds)
        if due and not self.every_iterations:
            self.write(trainer)

    def is_better(self, value: float, loss: float) -> bool:
        """Of two equal values, accuracies for instance, the one with the smaller validation loss is better."""
        if self.best_value is None or value == self.best_value:
            return self.best_value is None or loss < self.best_loss
        return value > self.best_value if self.mode == "max" else value < self.best_value

    def keep_best(self, trainer: Trainer) -> None:
        """Small: a copy in memory, written by the clock. Large: at once."""
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        size = 3 * sum(t.numel() * t.element_size() for t in checkpoint["state_dict"].values())
        if size <= IN_MEMORY_BYTES:
            self.waiting = copy.deepcopy(checkpoint)
        else:
            trainer.strategy.save_checkpoint(checkpoint, self.best)

    def write(self, trainer: Trainer) -> None:
        """Writes what is not yet on disk. On several processes all of them must call it."""
        if iterations_done(trainer) == self.written_iteration:
            return
        if self.waiting is not None:
            trainer.strategy.save_checkpoint(self.waiting, self.best)
            self.waiting = None
        if self.every_iterations and self.last.exists() and trainer.is_global_zero:
            self._keep_older()
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        trainer.strategy.save_checkpoint(checkpoint, self.last)
        trainer.strategy.barrier("checkpoint written")
        self.written_at, self.written_iteration = time.monotonic(), iterations_done(trainer)
        self._names = (trainer.current_epoch, iterations_done(trainer))

    def _keep_older(self) -> None:
        epoch, iteration = getattr(self, "_names", (0, 0))
        self.last.replace(self.folder / f"epoch={epoch}-step={iteration}.ckpt")
        older = sorted(self.folder.glob("epoch=*-step=*.ckpt"), key=lambda path: path.stat().st_mtime)
        for path in older[: -self.keep] if self.keep else older:
            path.unlink()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_listening()
        self.write(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop_listening()
        # The best so far is worth keeping whatever went wrong, unless writing is what went wrong.
        if self.waiting is not None and not isinstance(exception.__cause__, OSError):
            trainer.strategy.save_checkpoint(self.waiting, self.best)
            self.waiting = None
