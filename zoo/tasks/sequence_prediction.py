"""An answer at each step of a sequence, from the steps up to it.

Axes: B batch, T steps, K outputs of a step
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zoo.batches import SequenceBatch
from zoo.errors import UserError, suggest
from zoo.losses.sequences import LOSSES, mean_over_steps
from zoo.pictures.series import answers_by_step
from zoo.tasks.base import Task


class SequencePrediction(Task):
    """The mean over all real steps of all sequences, whatever batches they come in.

    Args:
        model: (x (B, T, F), mask (B, T)) -> (logits (B, T, K), state); it must not see later steps.
        loss: "binary_cross_entropy" (any of K at each step, summed over K) or "cross_entropy" (one of K, with its
            accuracy).
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        loss: str = "binary_cross_entropy",
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        if loss not in LOSSES:
            raise UserError(f"There is no task.loss={loss}{suggest(loss, LOSSES)}")
        self.loss = loss

    def count_items(self, batch: SequenceBatch) -> int:
        return int(batch.mask.sum())

    def losses(self, batch: SequenceBatch) -> dict[str, Tensor]:
        self.check(batch)
        logits, _ = self.model(*batch.inputs)  # (B, T, K)
        found = {"loss": LOSSES[self.loss](logits, batch.target, batch.mask)}
        if self.loss == "cross_entropy":
            right = logits.argmax(2) == batch.target  # (B, T)
            found["accuracy"] = mean_over_steps(right.to(logits.dtype), batch.mask)
        return found

    def check(self, batch: Any) -> None:
        """Raises UserError where the data has no target at each step, or one that is not for this loss."""
        target = getattr(batch, "target", None)
        if not isinstance(batch, SequenceBatch) or target is None or target.shape[:2] != batch.mask.shape:
            raise UserError("task=sequence_prediction needs a target at each step, as data=jsb has it, for instance.")
        fits = "cross_entropy" if target.ndim == 2 else "binary_cross_entropy"
        if self.loss != fits:
            what = "one class" if target.ndim == 2 else "a vector"
            raise UserError(f"task.loss={self.loss} does not fit: each step's target is {what}; use task.loss={fits}.")

    def show(self, batch: SequenceBatch) -> dict[str, Any]:
        with torch.no_grad():
            logits = self.model(*batch.inputs)[0]  # (B, T, K)
        steps = int(batch.mask[0].sum())
        answer, target = logits[0, :steps], batch.target[0, :steps]  # (T, K)
        if self.loss == "cross_entropy":
            probabilities, true = answer.softmax(1), nn.functional.one_hot(target, answer.shape[1])
        else:
            probabilities, true = answer.sigmoid(), target
        data = getattr(self._trainer, "datamodule", None)
        return {"answers_by_step": answers_by_step(probabilities, true, of=getattr(data, "output", "output"))}
