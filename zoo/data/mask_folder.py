"""Your own images, each with a mask that says what every pixel belongs to.

    root/images/a.jpg  root/masks/a.png    or the same below root/train/, root/val/ and root/test/

A mask is a picture of one number a pixel, grey or with a palette, of its image's size: the class, 0 for the first, and
255 where nobody knows (as in Pascal VOC), which counts neither in a loss nor in a metric.

Axes: N images, H height, W width
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from zoo.augment.targets import UNKNOWN
from zoo.data.image_folder import image_files
from zoo.data.images import ImagePreprocessing
from zoo.data.target_folder import Pair, TargetFolder, read_side_by_side, upright_size
from zoo.data.targets import MaskedImages
from zoo.errors import UserError

LOSSY = {".jpg", ".jpeg", ".webp"}  # would change the numbers


def open_mask(path: Path, size: tuple[int, int], like: Path) -> np.ndarray:
    """The numbers of a mask (H, W) uint8, scaled and cropped as its image is, each pixel the nearest one's.

    Args:
        size: (W, H).
        like: its image.

    Raises:
        UserError: the file cannot be read, has colours, or has another size than its image.
    """
    if path.suffix.lower() in LOSSY:
        raise UserError(f"{path} is in a format that changes numbers; save masks as png.")
    upright = upright_size(like)
    try:
        with Image.open(path) as mask:
            mask.load()
    except Exception as error:  # Pillow's readers raise some ten different types for a broken file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read as a mask ({reason}); replace or remove it.") from None
    if mask.mode not in ("1", "L", "P") and not mask.mode.startswith("I"):
        raise UserError(f"{path} has colours ({mask.mode}); a mask has one number a pixel: save it in grey.")
    if mask.size != upright:
        raise UserError(f"{path} is {mask.width} x {mask.height} and its image another size; make them alike.")
    numbers = np.asarray(mask).astype(np.int64)
    if numbers.min() < 0 or numbers.max() > UNKNOWN:
        raise UserError(f"{path} has numbers from {numbers.min()} to {numbers.max()}; classes go from 0 to 254.")
    fitted = ImageOps.fit(Image.fromarray(numbers.astype(np.uint8)), size, method=Image.Resampling.NEAREST)
    return np.asarray(fitted)


def as_classes(masks: Tensor, values: Sequence[int] | None) -> Tensor:
    """The numbers of masks (N, H, W) as classes, and 255 where nobody knows.

    Args:
        values: the number of each class in order; None: 0, 1, 2, ... What is 255, and 255 no class, nobody knows.

    Raises:
        UserError: they hold a number that is none of `values`.
    """
    if values is None:
        return masks
    if odd := [number for number in masks.unique().tolist() if number not in (*values, UNKNOWN)]:
        raise UserError(f"The masks hold {odd[0]}, which is not in data.values={list(values)}; add it.")
    table = torch.full((256,), UNKNOWN, dtype=torch.uint8)
    table[torch.tensor(list(values))] = torch.arange(len(values), dtype=torch.uint8)
    return table[masks.long()]


def numbers(values: object) -> bool:
    """Whether these can stand for classes in a mask."""
    if not isinstance(values, Sequence) or not all(type(value) is int and 0 <= value <= UNKNOWN for value in values):
        return False
    return len(set(values)) == len(values) > 1


class MaskFolder(TargetFolder):
    """Images (C, S, S) and masks (S, S).

    Args:
        values: the numbers that stand for the classes in the masks, in order; None: 0, 1, 2, ... What is 255, and no
            class, nobody knows.
        settings: see `TargetFolder`.
    """

    others, kind, counted = "masks", "masks", "mask_classes"

    def __init__(self, *, values: Sequence[int] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        if values is not None and not numbers(values):
            raise UserError(f"data.values={values} must be different whole numbers from 0 to 255, two or more.")
        if self.classes is not None and values is not None and len(self.classes) != len(values):
            raise UserError(f"data.classes has {len(self.classes)} names and data.values {len(values)} numbers.")
        self.values = values and list(values)

    def other_files(self, place: Path) -> list[Path]:
        return image_files(place)

    def read(self, pairs: Sequence[Pair]) -> tuple[Tensor, ...]:
        size = (self.plain.width, self.plain.height)

        def read(pair: Pair) -> tuple[Any, ...]:
            return self.plain.open(pair.image), open_mask(pair.other, size, pair.image)

        found = read_side_by_side(read, pairs)
        masks = torch.from_numpy(np.stack([mask for _, mask in found]))
        return torch.stack([image for image, _ in found]), as_classes(masks, self.values)

    def classes_of(self, targets: Sequence[Tensor]) -> Tensor:
        there = targets[0][targets[0] != UNKNOWN].unique()
        if len(there) < 2 and not self.earlier_classes:  # a network that knows its classes may be asked about one
            white = " If 255, which is unknown, is the second: data.values=[0,255]." if self.values is None else ""
            raise UserError(f"The masks in {self.root} hold one class alone; there is nothing to learn.{white}")
        return there

    def numbered(self, highest: int) -> list[str]:
        return super().numbered(highest) if self.values is None else [str(value) for value in self.values]

    def make_part(self, prepare: ImagePreprocessing, images: Tensor, *targets: Tensor) -> MaskedImages:
        return MaskedImages(prepare, images, *targets)
