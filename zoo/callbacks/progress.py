"""One bar for the whole run, redrawn ten times a second at most; lines instead where there is no terminal."""

import logging
import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from zoo.callbacks.curves import iterations_done

log = logging.getLogger(__name__)


class Progress(ProgressBar):
    """Epoch, means of loss and metrics over the epoch so far (in this process), and the newest validation metrics.

    Args:
        seconds: least time between two redraws of the bar.
        line_seconds: least time between two lines, where the output is no terminal.
    """

    lean = True

    def __init__(self, seconds: float = 0.1, line_seconds: float = 10.0) -> None:
        super().__init__()
        self.bar: tqdm | None = None
        self.terminal = sys.stderr.isatty()
        self.interval = seconds if self.terminal else line_seconds
        self.next_time = 0.0

    def disable(self) -> None:
        self.terminal, self.interval = False, float("inf")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.next_time = time.monotonic() + self.interval
        if self.terminal:
            total = trainer.num_training_batches * (trainer.max_epochs or 0)
            finite = total if 0 < total < float("inf") else None
            self.bar = tqdm(total=finite, initial=iterations_done(trainer), unit=" batches", dynamic_ncols=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if time.monotonic() >= self.next_time:
            self.draw(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:
            self.draw(trainer, pl_module)

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        pass

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.next_time = time.monotonic() + self.interval
        pl_module.count()  # this callback comes before the task: without it an epoch's first line has no loss
        values = pl_module.means["train"].so_far()
        values |= {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/")}
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        if self.bar is not None:
            self.bar.set_description_str(epoch, refresh=False)
            self.bar.set_postfix_str(shown, refresh=False)
            self.bar.update(iterations_done(trainer) - self.bar.n)
            self.bar.refresh()
        elif self.interval < float("inf"):
            log.info("%s  %s", epoch, shown)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
