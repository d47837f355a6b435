"""Images whose targets lie in them, masks or boxes, and move along where the images are augmented.

Axes: N images, B batch, C channels, H height, W width, M things in an image
"""

from typing import Any

from torch import Tensor

from zoo.augment.images import ImageAugment
from zoo.augment.targets import move_boxes, move_masks
from zoo.batches import BoxBatch, MaskBatch
from zoo.data.base import InMemory
from zoo.data.images import ImagePreprocessing
from zoo.errors import UserError


class MaskedImages(InMemory):
    """Images (N, C, H, W) uint8 with masks (N, H, W) uint8."""

    augmented_as = "ImageBatch"  # by what is for images

    def __init__(self, prepare: ImagePreprocessing, images: Tensor, masks: Tensor) -> None:
        super().__init__(self.batch, images, masks)
        self.prepare = prepare

    def batch(self, images: Tensor, masks: Tensor) -> MaskBatch:
        return MaskBatch(self.prepare(images), masks.long())

    def take(self, indices: Tensor) -> "MaskedImages":
        return MaskedImages(self.prepare, *self.rows(indices))

    def moved(self, augment: Any, others: list[Tensor], indices: Tensor, epoch: int, seed: int) -> list[Tensor]:
        return [move_masks(known(augment), others[0], indices, epoch, seed)]


class BoxedImages(InMemory):
    """Images (N, C, H, W) uint8 with boxes (N, M, 4) float and labels (N, M) int64."""

    augmented_as = "ImageBatch"

    def __init__(self, prepare: ImagePreprocessing, images: Tensor, boxes: Tensor, labels: Tensor) -> None:
        super().__init__(self.batch, images, boxes, labels)
        self.prepare = prepare

    def batch(self, images: Tensor, boxes: Tensor, labels: Tensor) -> BoxBatch:
        return BoxBatch(self.prepare(images), boxes, labels)

    def take(self, indices: Tensor) -> "BoxedImages":
        return BoxedImages(self.prepare, *self.rows(indices))

    def moved(self, augment: Any, others: list[Tensor], indices: Tensor, epoch: int, seed: int) -> list[Tensor]:
        height, width = self.tensors[0].shape[2:]
        return list(move_boxes(known(augment), others[0], others[1], (height, width), indices, epoch, seed))


def known(augment: Any) -> ImageAugment:
    """Raises UserError for somebody's own augmentation, of which nobody knows where it moves things to."""
    if not isinstance(augment, ImageAugment):
        raise UserError(
            f"{type(augment).__name__} moves images, and masks or boxes would stay where they are; use an augment= "
            "of the zoo, for instance augment=flip_crop."
        )
    return augment
