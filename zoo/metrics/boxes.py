"""Boxes that a network has found: which of them to keep, and how good they are.

Non-maximum suppression keeps, of boxes of one class that overlap, the one that is surest (`torchvision.ops`). Average
precision (Everingham et al., "The PASCAL visual object classes challenge", 2010, section 4.2): the boxes of a class
over all images, the surest first; one is right if its IoU with a true box of the class is large enough and no surer
one has found that already. With the first n of them,

    recall      right ones / true boxes              precision    right ones / n

and the average precision is the area below the precision as a function of the recall, made to fall first: at each
recall it is the best that is reached there or beyond. The mean over classes, at an IoU of 0.5, is called mAP50.

Axes: N boxes of an image, K classes
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

MOST = 100  # boxes of an image


class Found(NamedTuple):
    """What was found in an image, the surest first.

    boxes: (N, 4) left, top, right, bottom in pixels.
    scores: (N,) in [0, 1].
    labels: (N,) int64.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def suppress(boxes: Tensor, scores: Tensor, size: tuple[int, int], *, least: float, overlap: float) -> Found:
    """Non-maximum suppression, each class for itself.

    Args:
        boxes: (N, 4), cut to the image first.
        scores: (N, K).
        size: (H, W) of the image.
        least: score below which a box is nothing.
        overlap: IoU above which two boxes of a class are one thing.
    """
    from torchvision.ops import batched_nms, clip_boxes_to_image  # takes a second

    place, label = torch.nonzero(scores >= least, as_tuple=True)
    kept_boxes, kept_scores = clip_boxes_to_image(boxes, size)[place], scores[place, label]
    order = batched_nms(kept_boxes, kept_scores, label, overlap)[:MOST]
    return Found(kept_boxes[order], kept_scores[order], label[order])


def judged(found: Found, boxes: Tensor, labels: Tensor, overlap: float) -> Tensor:
    """Which of the boxes found are right, (N,) bool; boxes (M, 4) and labels (M,) are the truth."""
    from torchvision.ops import box_iou

    right = torch.zeros(len(found.scores), dtype=torch.bool)
    if not len(boxes):
        return right
    ious = box_iou(found.boxes, boxes.to(found.boxes.dtype)).masked_fill(found.labels[:, None] != labels, -1.0).cpu()
    taken: set[int] = set()
    for i in found.scores.argsort(descending=True, stable=True).tolist():
        iou, best = ious[i].max(0)
        if iou >= overlap and int(best) not in taken:
            taken.add(int(best))
            right[i] = True
    return right


def area_below(scores: Tensor, right: Tensor, number: int) -> float:
    """Average precision of boxes with their scores (N,) and whether they are right (N,), where there are `number`."""
    order = scores.argsort(descending=True, stable=True)
    hits = right[order].double().cumsum(0)
    precision = hits / torch.arange(1, len(hits) + 1, device=hits.device)
    best_beyond = precision.flip(0).cummax(0).values.flip(0)
    gained = right[order].double() / number  # how far the recall goes with each
    return float((best_beyond * gained).sum())


class AveragePrecision(Metric):
    """Average precision of each class over all images of all processes.

    Args:
        num_classes: K.
        overlap: the IoU from which on a box is right.
    """

    full_state_update = False

    def __init__(self, num_classes: int, overlap: float = 0.5) -> None:
        super().__init__()
        self.num_classes, self.overlap = num_classes, overlap
        self.add_state("rows", default=[], dist_reduce_fx="cat")  # (N, 3): score, label, whether it is right
        self.add_state("numbers", default=torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.rows: list[Tensor]
        self.numbers: Tensor
        self.reset()

    def reset(self) -> None:
        super().reset()
        # A process that sees no image must still have something to send.
        self.rows = [torch.zeros(0, 3, dtype=torch.float64, device=self.device)]

    def update(self, found: Sequence[Found], boxes: Tensor, labels: Tensor) -> None:
        """Takes some images into account.

        Args:
            found: of each.
            boxes, labels: (B, M, 4) and (B, M), the truth; -1 where padded.
        """
        for one, true_boxes, true_labels in zip(found, boxes, labels, strict=True):
            there = true_labels >= 0
            right = judged(one, true_boxes[there], true_labels[there], self.overlap).to(one.scores.device)
            self.rows.append(torch.stack([one.scores.double(), one.labels.double(), right.double()], 1))
            self.numbers += torch.bincount(true_labels[there], minlength=self.num_classes)

    def compute(self) -> Any:
        """(K,) float64; nan for a class that is nowhere."""
        rows = torch.cat(self.rows) if isinstance(self.rows, list) else self.rows
        areas = []
        for label, number in enumerate(self.numbers.tolist()):
            of_class = rows[rows[:, 1] == label]
            areas.append(area_below(of_class[:, 0], of_class[:, 2] > 0, number) if number else float("nan"))
        return torch.tensor(areas, dtype=torch.float64)
