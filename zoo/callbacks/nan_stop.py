"""Stops a run whose loss is no number any more, before the weights are touched."""

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from zoo.callbacks.curves import iterations_done
from zoo.errors import UserError


class NanStop(Callback):
    """Raises UserError at the first loss that is NaN or infinite.

    On the CPU each loss is looked at; on another device, where that would make every step wait, every
    `trainer.log_every_n_steps`-th, and the message names the range of iterations.
    """

    lean = True

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        iteration = iterations_done(trainer)  # the batch at hand counts as ready
        waits = loss.device.type != "cpu"
        if waits and iteration % trainer.log_every_n_steps:
            return
        value = loss.item()
        if math.isfinite(value):
            return
        first = max(1, iteration - trainer.log_every_n_steps + 1)
        where = f"between iterations {first} and {iteration}" if waits else f"at iteration {iteration}"
        raise UserError(
            f"The loss became {value} {where} (epoch {trainer.current_epoch + 1}). What was saved before it is kept. "
            "Try a smaller optimizer.lr, trainer.gradient_clip_val=1, or look at the inputs with debug=anomaly."
        )

    def state_dict(self) -> dict[str, Any]:
        return {}
