"""A run that is ready to start: fit, test, and what is reported of it."""

import re
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.callbacks.panels import Panels
from zoo.checkpoint import read
from zoo.errors import UserError, suggest


def peak_memory_mb() -> float:
    """Most resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what a parent had before it started this program
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024, 1)
    import resource  # where there is no /proc

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


@dataclass
class Run:
    """Everything a run consists of. `fit`, `take_best`, `test`, then `metrics`."""

    config: dict[str, Any]
    data: LightningDataModule
    task: LightningModule
    trainer: Trainer
    checkpoint: RunCheckpoint | None
    notes: list[str] = field(default_factory=list)
    resume: Path | None = None
    started: float = field(default_factory=time.monotonic)
    results: dict[str, float] = field(default_factory=dict)
    resumed_from: int = 0
    seconds_before: float = 0.0  # of the run until the checkpoint that it was resumed from

    def fit(self) -> None:
        self._call(self.trainer.fit, self.task, self.data, ckpt_path=self.resume, weights_only=True)
        self._collect()

    def take_best(self) -> None:
        """Takes weights and metrics of the best checkpoint, or of the last where nothing chose a best one."""
        if self.checkpoint is not None:
            self.trainer.strategy.barrier("checkpoints written")
            found = [self.checkpoint.best] if self.checkpoint.best_epoch is not None else []
            path = next((p for p in (*found, self.checkpoint.last, self.resume) if p is not None and p.is_file()), None)
            if path is not None:
                best = read(path)
                self.task.load_state_dict(best["state_dict"])
                self.results |= best["metrics"]  # training and validation of that epoch

    def test(self) -> None:
        """Tests the weights at hand; see `take_best`."""
        if "test" not in self.data.prepare().parts:
            return
        self._call(self.trainer.test, self.task, self.data, verbose=False)
        self._collect("test/")

    def _call(self, function: Any, *arguments: Any, **options: Any) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec")
            warnings.filterwarnings("ignore", category=UserWarning, module=r"lightning\..*")
            # A process that got no sample of a small part asks all the same: the others have got some.
            warnings.filterwarnings("ignore", message="The ``compute`` method of metric .* before the ``update``")
            try:
                function(*arguments, **options)
            except MisconfigurationException as error:
                self._explain_monitor(r"ReduceLROnPlateau conditioned on metric (\S+)", "scheduler.monitor", error)
                raise UserError(f"The trainer refuses this: {error}") from error
            except ValueError as error:
                if not str(error).startswith("Expected more than 1 value per channel"):
                    raise
                raise UserError(
                    "A batch of one sample is left over, and batch norm cannot normalize one sample; choose another "
                    "data.batch_size."
                ) from error
            except RuntimeError as error:
                self._explain_monitor(
                    "Early stopping conditioned on metric `([^`]+)`", "callbacks.early_stopping.monitor", error
                )
                raise

    def _explain_monitor(self, pattern: str, key: str, error: Exception) -> None:
        """Raises a UserError where Lightning has looked for a metric in vain."""
        if found := re.match(pattern, str(error)):
            there = suggest(found[1], self.trainer.callback_metrics)
            raise UserError(f"{key}={found[1]}: there is no such metric{there}") from error

    def _collect(self, prefix: str = "") -> None:
        metrics = self.trainer.callback_metrics
        self.results |= {name: float(value) for name, value in metrics.items() if name.startswith(prefix)}

    def metrics(self, status: str) -> dict[str, Any]:
        """The flat contents of `metrics.json`."""
        from zoo.callbacks.curves import Curves, iterations_done

        curves = next((c for c in self.trainer.callbacks if isinstance(c, Curves)), None)
        facts = self.data.prepare().facts
        progress = self.trainer.fit_loop.epoch_progress.current
        return (
            self.results
            # What can be had without learning stands beside what was learnt.
            | {f"baseline/{k.removeprefix('baseline_')}": v for k, v in facts.items() if k.startswith("baseline_")}
            | {
                "epoch": progress.processed,
                "best_epoch": self.checkpoint.best_epoch if self.checkpoint else None,
                "iteration": iterations_done(self.trainer),
                "samples_seen": curves.samples_seen if curves else None,
                "seconds": round(self.seconds_before + time.monotonic() - self.started, 3),
                "peak_memory_mb": peak_memory_mb(),
                "num_parameters": sum(p.numel() for p in self.task.model.parameters()),
                "world_size": self.trainer.world_size,
                "num_threads": torch.get_num_threads(),
                "resumed_from_iteration": self.resumed_from,
                "monitor": self.task.monitor,
                "mode": self.task.mode,
                "status": status,
            }
            | {
                k: v
                for c in (*self.trainer.callbacks, self.task)
                if hasattr(c, "findings")
                for k, v in c.findings().items()
            }
            | ({"pruned": True} if any(getattr(c, "pruned", False) for c in self.trainer.callbacks) else {})
        )

    def close(self, metrics: Mapping[str, Any]) -> None:
        """Writes the row of the HPARAMS tab and ends the event file."""
        final = {name: value for name, value in metrics.items() if name.startswith("test/")} or {
            name: value for name, value in metrics.items() if name.startswith("val/")
        }
        for callback in self.trainer.callbacks:
            if isinstance(callback, Panels) and metrics.get("status") == "finished":
                callback.write_hyper_parameters(self.trainer, final)
        for logger in self.trainer.loggers:
            if hasattr(logger, "close"):
                logger.close()
