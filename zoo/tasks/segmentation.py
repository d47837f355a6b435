"""A class for each pixel.

Axes: B batch, K classes, H height, W width
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError, suggest
from zoo.losses.segmentation import UNKNOWN, pixel_cross_entropy, soft_dice
from zoo.metrics.counts import PixelCounts
from zoo.metrics.overlaps import iou, overlap_metrics
from zoo.pictures.masks import images_with_masks
from zoo.tasks.base import Task

LOSSES = ("cross_entropy", "dice")
SHOWN = 8  # images


class Segmentation(Task):
    """What each pixel belongs to, judged over all pixels of a part together.

    Args:
        model: images (B, C, H, W) -> logits (B, K, H, W).
        num_classes: K.
        loss: "cross_entropy" or "dice", see `zoo.losses.segmentation`.
        dice_weight: of the Dice loss beside the cross-entropy.
        class_names: names of the K classes.
    """

    monitor = "val/mean_iou"
    mode = "max"
    batches = ("MaskBatch",)

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        num_classes: int,
        loss: str = "cross_entropy",
        dice_weight: float = 0.0,
        class_names: Sequence[str] = (),
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        if loss not in LOSSES:
            raise UserError(f"There is no task.loss={loss}{suggest(loss, LOSSES)}")
        if dice_weight < 0 or (loss == "dice" and dice_weight):
            raise UserError(f"task.dice_weight={dice_weight} must be a number from 0 on, beside the cross-entropy.")
        self.loss, self.dice_weight = loss, dice_weight
        self.class_names = list(class_names) or [str(k) for k in range(num_classes)]
        self.confusion = nn.ModuleDict({f"{stage}_": PixelCounts(num_classes, UNKNOWN) for stage in ("val", "test")})

    def matrix(self, stage: str) -> Any:
        """The confusion matrix of "val" or "test"."""
        return self.confusion[f"{stage}_"]

    def losses(self, batch: Any) -> dict[str, Tensor]:
        return self.judge(self.model(*batch.inputs), batch.mask)

    def judge(self, logits: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """The loss, with what it is a sum of where there are two; means over the images."""
        if self.loss == "dice":
            return {"loss": soft_dice(logits, masks).mean()}
        cross_entropy = pixel_cross_entropy(logits, masks).mean()
        if not self.dice_weight:
            return {"loss": cross_entropy}
        overlap = soft_dice(logits, masks).mean()
        total = cross_entropy + self.dice_weight * overlap
        return {"loss": total, "cross_entropy": cross_entropy, "dice_loss": overlap}

    def start(self, stage: str) -> None:
        super().start(stage)
        if stage != "train":
            self.matrix(stage).reset()

    def evaluate(self, stage: str, batch: Any) -> None:
        logits = self.model(*batch.inputs)  # (B, K, H, W)
        self.means[stage].add(self.judge(logits, batch.mask), len(logits))
        self.matrix(stage).update(logits.argmax(1), batch.mask)

    def whole_set_metrics(self, stage: str) -> dict[str, float]:
        """Means over the classes; in the test also the IoU of each that is in the part, or said to be there."""
        confusion = self.matrix(stage).compute()  # (K, K)
        each = zip(self.class_names if stage == "test" else (), iou(confusion).tolist(), strict=False)
        return overlap_metrics(confusion) | {f"iou_{name}": value for name, value in each if value == value}

    def show(self, batch: Any) -> dict[str, Any]:
        images, masks = batch.image[:SHOWN], batch.mask[:SHOWN]
        with torch.no_grad():
            said = self.model(images).argmax(1)  # (B, H, W)
        return {"masks": images_with_masks(images, masks, {"said": said}, self.class_names)}
