"""Boxes around things, and what they are.

Axes: B batch, G cells along a side, P boxes of a cell, K classes, M true boxes of an image
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError
from zoo.losses.detection import boxes_of, yolo_loss
from zoo.metrics.boxes import AveragePrecision, Found, suppress
from zoo.pictures.boxes import images_with_boxes
from zoo.tasks.base import Task

SHOWN = 8  # images
SURE = 0.3  # score from which on a box is drawn


class Detection(Task):
    """The loss of YOLO, and the average precision over all images of a part.

    Args:
        model: images (B, C, H, W) -> (B, G, G, 5 P + K) in [0, 1], as `zoo.losses.detection` reads it.
        num_classes: K.
        least: score from which on a box counts.
        overlap: IoU above which two boxes of a class are one thing.
        class_names: names of the K classes.
    """

    monitor = "val/map50"
    mode = "max"
    batches = ("BoxBatch",)

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        num_classes: int,
        least: float = 0.05,
        overlap: float = 0.5,
        class_names: Sequence[str] = (),
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        for name, value in (("least", least), ("overlap", overlap)):
            if not 0 < value < 1:
                raise UserError(f"task.{name}={value} must be a number between 0 and 1.")
        self.num_classes, self.least, self.overlap = num_classes, least, overlap
        self.class_names = list(class_names) or [str(k) for k in range(num_classes)]
        self.precision = nn.ModuleDict({f"{stage}_": AveragePrecision(num_classes) for stage in ("val", "test")})

    def average_precision(self, stage: str) -> Any:
        """The metric of "val" or "test"."""
        return self.precision[f"{stage}_"]

    def losses(self, batch: Any) -> dict[str, Tensor]:
        return self.judge(self.model(*batch.inputs), batch)

    def judge(self, answers: Tensor, batch: Any) -> dict[str, Tensor]:
        """The loss and what it is a sum of, means over the images."""
        parts = yolo_loss(answers, batch.boxes, batch.labels, self.num_classes, batch.image.shape[2:])
        means = {name: values.mean() for name, values in parts.items()}
        return {"loss": torch.stack(list(means.values())).sum()} | means

    def found(self, answers: Tensor, size: tuple[int, int]) -> list[Found]:
        """What there is in each image of `size` (H, W), by the answers (B, G, G, 5 P + K)."""
        boxes, sure, chances = boxes_of(answers, self.num_classes, size)
        scores = sure.unsqueeze(4) * chances.unsqueeze(3)  # (B, G, G, P, K)
        options = {"least": self.least, "overlap": self.overlap}
        return [
            suppress(some, of_each, size, **options)
            for some, of_each in zip(boxes.flatten(1, 3), scores.flatten(1, 3), strict=True)
        ]

    def start(self, stage: str) -> None:
        super().start(stage)
        if stage != "train":
            self.average_precision(stage).reset()

    def evaluate(self, stage: str, batch: Any) -> None:
        answers = self.model(*batch.inputs)
        self.means[stage].add(self.judge(answers, batch), len(answers))
        found = self.found(answers, tuple(batch.image.shape[2:]))
        self.average_precision(stage).update(found, batch.boxes, batch.labels)

    def whole_set_metrics(self, stage: str) -> dict[str, float]:
        """The mean over the classes; in the test also the average precision of each that is there."""
        areas = self.average_precision(stage).compute().reshape(-1)  # (K,); of one class torchmetrics gives ()
        each = zip(self.class_names if stage == "test" else (), areas.tolist(), strict=False)
        return {"map50": float(areas.nanmean())} | {f"ap50_{name}": value for name, value in each if value == value}

    def show(self, batch: Any) -> dict[str, Any]:
        images, boxes, labels = (tensor[:SHOWN] for tensor in batch)
        with torch.no_grad():
            found = self.found(self.model(images), tuple(images.shape[2:]))
        there = [label >= 0 for label in labels]
        true = [
            Found(box[some], torch.ones(int(some.sum())), label[some])
            for box, label, some in zip(boxes, labels, there, strict=True)
        ]
        sure = [Found(*(part[one.scores >= SURE] for part in one)) for one in found]
        return {"boxes": images_with_boxes(images, {"true": true, "said": sure}, self.class_names)}
