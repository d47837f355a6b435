"""An answer at each step of a sequence, from the steps up to it.

Where most answers are rare, the first thing to be learnt is how rare each is. Output biases of 0 leave that to the
weights: all states are driven to 1 and -1, where gates no longer move (a GRU on Nottingham: 0.93 after 20 iterations,
against 0.34). With `output_bias=frequencies` they begin at the log-odds of each answer in training, or at the
logarithms of its shares, as in Lin et al. 2017 (arXiv 1708.02002), section 3.3.

Axes: B batch, T steps, K outputs of a step
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.batches import SequenceBatch
from zoo.errors import UserError, suggest
from zoo.losses.sequences import LOSSES, mean_over_steps
from zoo.pictures.series import answers_by_step
from zoo.tasks.base import Task

OUTPUT_BIASES = ("zeros", "frequencies")
CHUNK = 64  # sequences that are counted at a time


class SequencePrediction(Task):
    """The mean over all real steps of all sequences, whatever batches they come in.

    Args:
        model: (x (B, T, F), mask (B, T)) -> (logits (B, T, K), state); it must not see later steps.
        loss: "binary_cross_entropy" (any of K at each step, summed over K) or "cross_entropy" (one of K, with its
            accuracy).
        output_bias: "zeros", or "frequencies" of the training part.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        loss: str = "binary_cross_entropy",
        output_bias: str = "zeros",
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        if loss not in LOSSES:
            raise UserError(f"There is no task.loss={loss}{suggest(loss, LOSSES)}")
        if output_bias not in OUTPUT_BIASES:
            raise UserError(f"There is no task.output_bias={output_bias}{suggest(output_bias, OUTPUT_BIASES)}")
        self.loss, self.output_bias = loss, output_bias

    def initialize(self, data: Any) -> list[str]:
        if self.output_bias == "zeros":
            return []
        *_, last = (layer for layer in self.model.modules() if [*layer.parameters(recurse=False)])
        bias, found = getattr(last, "bias", None), self.frequencies(data.part("train"), data.prepare().facts)
        if not isinstance(bias, Tensor) or bias.shape != found.shape:
            raise UserError(
                "task.output_bias=frequencies needs a last layer with a bias for each answer; leave it out."
            )
        with torch.no_grad():
            bias.copy_(found.logit() if self.loss == "binary_cross_entropy" else found.log())
        return [f"task.output_bias=frequencies: {len(bias)} output biases begin where training has their answers."]

    def frequencies(self, part: Any, facts: Mapping[str, Any]) -> Tensor:
        """(K,) of all real steps of a part, in float64; half a step more for each answer, so that none is 0 or 1."""
        any_of = self.loss == "binary_cross_entropy"
        number = facts["num_targets" if any_of else "num_classes"]
        counts, steps = torch.full((number,), 0.5, dtype=torch.float64), 0
        for places in torch.arange(len(part)).split(CHUNK):
            batch = part[places]
            target = batch.target[batch.mask]  # (N, K) or (N,)
            counts += target.double().sum(0) if any_of else torch.bincount(target, minlength=number).double()
            steps += len(target)
        return counts / (steps + (1 if any_of else 0.5 * number))

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
