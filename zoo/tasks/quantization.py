"""Saying an image again through a few words of a learned codebook: VQ-VAE.

    loss = |x' - x|^2 + |sg[z_e] - e|^2 + beta |z_e - sg[e]|^2        (zoo.losses.quantization)

each a sum over the values of a sample, and a mean over samples. Reported: `squared_error`, `codebook` (the distance of
what is encoded from its entries), of validation and test also `perplexity` of the codebook (as how many entries that
were used alike) and `entries_used`, over the whole part.

Axes: B batch, K entries
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError
from zoo.losses.quantization import codebook_loss, commitment_loss, perplexity, usage
from zoo.losses.reconstruction import squared_errors
from zoo.pictures.codes import reconstructions
from zoo.tasks.base import Task

SHOWN = 12  # images


class Quantization(Task):
    """The input is the target, and a codebook lies between.

    Args:
        model: has num_entries and quantize (B, C, H, W) -> said, encoded, entries, numbers; see `zoo.models.vq_vae`.
        optimizer, scheduler: see `Task`.
        beta: how much the encoder commits itself; the paper has 0.25, and finds no difference from 0.1 to 2.
    """

    batches = ("ImageBatch",)

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        beta: float = 0.25,
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        if beta < 0:
            raise UserError(f"task.beta={beta} must be a number from 0 on.")
        self.beta = beta
        self.counts: dict[str, Tensor] = {}  # {stage: (K,)}

    def check(self, batch: Any) -> None:
        super().check(batch)
        if not hasattr(self.model, "quantize"):
            raise UserError(f"{type(self.model).__name__} has no codebook; for task=quantization use model=vq_vae.")

    def terms(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Losses of images, and the numbers of their entries."""
        found = self.model.quantize(x)  # type: ignore[operator]
        error = squared_errors(found.said, x).mean()
        book = codebook_loss(found.encoded, found.entries).mean()
        commitment = commitment_loss(found.encoded, found.entries).mean()
        loss = error + book + self.beta * commitment
        return {"loss": loss, "squared_error": error.detach(), "codebook": book.detach()}, found.numbers

    def losses(self, batch: Any) -> dict[str, Tensor]:
        return self.terms(batch.inputs[0])[0]

    def start(self, stage: str) -> None:
        super().start(stage)
        self.counts.pop(stage, None)

    def evaluate(self, stage: str, batch: Any) -> None:
        losses, numbers = self.terms(batch.inputs[0])
        self.means[stage].add(losses, self.count_items(batch))
        counts = usage(numbers, int(self.model.num_entries)).cpu()  # type: ignore[arg-type]
        self.counts[stage] = self.counts.get(stage, torch.zeros_like(counts)) + counts

    def whole_set_metrics(self, stage: str) -> dict[str, float]:
        """How much of the codebook the whole part uses; every process must call it."""
        parts: list[Any] = [self.counts.get(stage)]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, self.counts.get(stage))
        found = [part for part in parts if part is not None]
        if not found:
            return {}
        counts = torch.stack(found).sum(0)  # (K,)
        return {"perplexity": perplexity(counts), "entries_used": float((counts > 0).sum())}

    @torch.no_grad()
    def show(self, batch: Any) -> dict[str, Any]:
        """A few images said again, and under them which entries say them, each in a grey of its own."""
        x = batch.inputs[0][:SHOWN]
        found = self.model.quantize(x)  # type: ignore[operator]
        greys = found.numbers / max(1, int(self.model.num_entries) - 1)  # type: ignore[arg-type]
        low, high = x.min(), x.max()
        codes = (low + greys * (high - low))[:, None].expand(-1, x.shape[1], -1, -1)  # (N, C, h, w)
        codes = torch.nn.functional.interpolate(codes.to(x), x.shape[2:], mode="nearest")
        return {"reconstructions": reconstructions({"input": x, "reconstruction": found.said, "entries": codes})}
