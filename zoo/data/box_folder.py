"""Your own images, each with a text file of the boxes in it.

    root/images/a.jpg  root/labels/a.txt    or the same below root/train/, root/val/ and root/test/

A line for each thing, as YOLO and its successors have it: the number of its class from 0 on, then the centre's x and y
and the width and height of its box, as shares of the image's width and height. An image of nothing has an empty file.
`root/classes.txt`, or the same beside the labels, a name a line, says what the classes are called.

Axes: N images, M most boxes of an image
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.augment.targets import SEEN, area
from zoo.data.images import ImagePreprocessing
from zoo.data.target_folder import Pair, TargetFolder, read_side_by_side, upright_size
from zoo.data.targets import BoxedImages
from zoo.errors import UserError

NAMES = "classes.txt"
EDGE = 0.01  # share by which a box may stick out, which is rounding


def read_boxes(path: Path) -> tuple[list[int], Tensor]:
    """The classes of a file's things, and their boxes (things, 4): left, top, right, bottom as shares of the image.

    Raises:
        UserError: a line is none, or its box is not in the image.
    """
    labels, boxes = [], []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text ({error}).") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            label, x, y, width, height = line.split()
            values = [float(value) for value in (x, y, width, height)]
            labels.append(int(label))
        except ValueError:
            raise UserError(
                f"{path}, line {number}, is no box: {line.strip()[:60]!r}; a line is a class number, then x and y of "
                "the centre, width and height, as shares of the image."
            ) from None
        left, top = (centre - size / 2 for centre, size in zip(values[:2], values[2:], strict=True))
        inside = min(left, top) >= -EDGE and max(left + values[2], top + values[3]) <= 1 + EDGE
        if labels[-1] < 0 or not all(map(math.isfinite, values)) or min(values[2:]) <= 0 or not inside:
            raise UserError(
                f"{path}, line {number}: the box is not in the image; its numbers are shares of the image's width and "
                "height, from 0 to 1."
            )
        boxes.append([left, top, left + values[2], top + values[3]])
    return labels, torch.tensor(boxes).reshape(-1, 4).clamp(0, 1)


def fit_boxes(boxes: Tensor, width: int, height: int, size: int) -> tuple[Tensor, Tensor]:
    """Where boxes are once their image is scaled to cover `size` x `size` and cropped to the centre.

    Args:
        boxes: (things, 4), shares of the image.
        width, height: of the image, in pixels.

    Returns:
        boxes (things, 4) in pixels, cut off at the edge, and whether enough of each is left to be seen, (things,).
    """
    scale = size / min(width, height)
    wide, high = width * scale, height * scale
    corner = torch.tensor([(wide - size) / 2, (high - size) / 2] * 2)
    whole = boxes * torch.tensor([wide, high] * 2) - corner
    seen = whole.clamp(0, size)
    return seen, area(seen) >= SEEN * area(whole)


class BoxFolder(TargetFolder):
    """Images (C, S, S) with a box and a class for each thing; see `TargetFolder` for the settings.

    Of a box that is cropped away in part, what is left counts, where that is 30 % or more.
    """

    others, kind, counted = "labels", "boxes", "box_classes"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        places = [self.root, self.root / self.others, self.root / "train" / self.others]
        names = next((place / NAMES for place in places if (place / NAMES).is_file()), None)
        if self.classes is None and names is not None:
            lines = names.read_text(encoding="utf-8-sig", errors="replace").rstrip().splitlines()
            if not all(line.strip() for line in lines):
                raise UserError(f"{names} has an empty line between its names; a line is the name of a class number.")
            self.classes = self.checked([line.strip() for line in lines]) or None

    def other_files(self, place: Path) -> list[Path]:
        return sorted(path for path in place.rglob("*.txt") if path.name != NAMES)

    def read(self, pairs: Sequence[Pair]) -> tuple[Tensor, ...]:
        def read(pair: Pair) -> tuple[Any, ...]:
            image = self.plain.open(pair.image)
            labels, shares = read_boxes(pair.other)
            boxes, seen = fit_boxes(shares, *upright_size(pair.image), self.plain.width)
            return image, boxes[seen], torch.tensor(labels, dtype=torch.int64)[seen]

        images, boxes, labels = zip(*read_side_by_side(read, pairs), strict=True)
        most = max([1, *map(len, labels)])  # M
        all_boxes, all_labels = torch.zeros(len(pairs), most, 4), torch.full((len(pairs), most), -1)
        for i, (few, their) in enumerate(zip(boxes, labels, strict=True)):
            all_boxes[i, : len(few)], all_labels[i, : len(their)] = few, their
        return torch.stack(images), all_boxes, all_labels

    def classes_of(self, targets: Sequence[Tensor]) -> Tensor:
        found = targets[1][targets[1] >= 0]
        if not len(found):
            raise UserError(f"There is no box in {self.root}/labels; there is nothing to learn.")
        return found

    def make_part(self, prepare: ImagePreprocessing, images: Tensor, *targets: Tensor) -> BoxedImages:
        return BoxedImages(prepare, images, *targets)
