"""Images of several coloured shapes, each with a class for every pixel, or with a box for every shape.

Drawn from the seed. Colours say nothing of what a shape is, and are not even ones: shapes are shaded, backgrounds
change from one colour to another, thin lines of any colour run across them, and shapes hide parts of others. Place,
size, light and noise differ from image to image, so none comes twice.

Axes: N images of a part, M places for shapes in an image, C = 3 channels, H = W the size of an image
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.data.base import PARTS, DataModule, InMemory, Loaded
from zoo.data.drawing import SHAPES, outlines
from zoo.data.images import ImagePreprocessing, check_size, fingerprint
from zoo.data.targets import BoxedImages, MaskedImages
from zoo.errors import UserError, suggest

TARGETS = ("masks", "boxes")
RADIUS = (0.09, 0.2)  # of the size of an image
LEAST_SEEN = 0.5  # share of a shape that nothing hides, else it is left out
PATCHES = 6  # of the texture of a background, along each side
TEXTURE = 30.0  # its deviation, in grey levels
SHADE = 0.5  # how much lighter a shape is at one end, and darker at the other
LINES = 3  # across each background
PIECE = 100  # images drawn at a time: what lies in the cache is drawn three times as fast
CANDIDATES = 2  # colours drawn for a shape, of which the one least like the background is taken


class Scenes(NamedTuple):
    """What is to be seen in N images.

    images: (N, C, H, W) uint8.
    masks: (N, H, W) uint8, 0 the background, 1 + k a shape of kind k.
    instances: (N, M, H, W) bool, what is seen of each shape; of one that is not there nothing.
    boxes: (N, M, 4) float, left, top, right, bottom around what is seen; 0 where there is no shape.
    labels: (N, M) int64, the kind of each shape; -1 where there is none.
    """

    images: Tensor
    masks: Tensor
    instances: Tensor
    boxes: Tensor
    labels: Tensor


def draw_scenes(number: int, size: int, most: int, noise: float, generator: torch.Generator) -> Scenes:
    """N images of 1 to `most` shapes, those further on hiding those before them."""

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    kind = torch.randint(len(SHAPES), (number, most), generator=generator)  # (N, M)
    radius = size * uniform(number, most, low=RADIUS[0], high=RADIUS[1])
    centre = radius[..., None] + (size - 1 - 2 * radius[..., None]) * uniform(number, most, 2)  # (N, M, 2)
    wanted = torch.randint(1, most + 1, (number, 1), generator=generator) > torch.arange(most)  # (N, M)
    flat = outlines(kind.flatten(), centre.flatten(0, 1), radius.flatten(), size)
    instances = seen(flat.view(number, most, size, size), wanted)
    labels = kind.where(instances.any((2, 3)), -1)
    images = backgrounds(number, size, generator)  # (N, C, H, W)
    grid = torch.arange(size) - (size - 1) / 2  # (H,)
    for i in range(most):
        colours = 255 * uniform(number, CANDIDATES, 3)
        unlike = (colours - images.mean((2, 3))[:, None]).square().sum(2).argmax(1)  # (N,)
        angle = uniform(number, 1, 1, high=2 * torch.pi)
        along = angle.cos() * grid + angle.sin() * grid[:, None] - shift(centre[:, i], angle, size)  # (N, H, W)
        light = 1 + SHADE * (along / radius[:, i, None, None]).clamp(-1, 1)
        shaded = colours[torch.arange(number), unlike][:, :, None, None] * light[:, None]  # (N, C, H, W)
        images = torch.where(instances[:, i, None], shaded, images)
    images += noise * torch.randn(images.shape, generator=generator)
    masks = (instances * (1 + kind)[..., None, None]).sum(1).to(torch.uint8)  # (N, H, W)
    return Scenes(images.round_().clamp_(0, 255).to(torch.uint8), masks, instances, boxes_around(instances), labels)


def shift(centre: Tensor, angle: Tensor, size: int) -> Tensor:
    """Where centres (N, 2), y and x, lie along directions (N, 1, 1), from the middle of the image."""
    y, x = (centre - (size - 1) / 2).unbind(1)
    return angle.cos() * x[:, None, None] + angle.sin() * y[:, None, None]


def seen(covered: Tensor, wanted: Tensor) -> Tensor:
    """(N, M, H, W) bool outlines, of which each hides those before it -> what is seen of those that are `wanted`.

    Of the shapes that would be hidden by more than `LEAST_SEEN` there is nothing.
    """
    hidden = torch.zeros_like(covered[:, 0])  # (N, H, W)
    found = torch.zeros_like(covered)
    for i in reversed(range(covered.shape[1])):
        left = covered[:, i] & ~hidden
        kept = wanted[:, i] & (left.sum((1, 2)) >= LEAST_SEEN * covered[:, i].sum((1, 2)))  # (N,)
        found[:, i] = left & kept[:, None, None]
        hidden |= found[:, i]
    return found


def backgrounds(number: int, size: int, generator: torch.Generator) -> Tensor:
    """(N, C, H, W) float grey levels: one colour that becomes another, a texture, and thin lines."""
    ends = 255 * torch.rand(number, 2, 3, 1, 1, generator=generator)
    angle = 2 * torch.pi * torch.rand(number, 1, 1, generator=generator)
    grid = torch.linspace(-0.7, 0.7, size)
    along = (0.5 + 0.5 * (angle.cos() * grid + angle.sin() * grid[:, None])).unsqueeze(1)  # (N, 1, H, W)
    images = ends[:, 0] * along + ends[:, 1] * (1 - along)
    patches = TEXTURE * torch.randn(number, 1, PATCHES, PATCHES, generator=generator)
    images = images + F.interpolate(patches, (size, size), mode="bicubic", align_corners=False)
    for _ in range(LINES):
        angle = torch.pi * torch.rand(number, 1, 1, generator=generator)
        place = torch.rand(number, 1, 1, generator=generator) - 0.5
        on = (angle.cos() * grid + angle.sin() * grid[:, None] - place).abs() < 1 / size  # (N, H, W)
        images = torch.where(on[:, None], 255 * torch.rand(number, 3, 1, 1, generator=generator), images)
    return images


def boxes_around(instances: Tensor) -> Tensor:
    """(..., H, W) bool -> (..., 4) float: left, top, right, bottom of what is True, 0 where nothing is."""
    ends = []
    for axis in (-2, -1):  # what is left is columns, then rows
        there = instances.any(axis)  # (..., size)
        place = torch.arange(there.shape[-1])
        first = torch.where(there, place, there.shape[-1]).amin(-1)
        last = torch.where(there, place + 1, 0).amax(-1)
        ends.append((first.minimum(last), last))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], -1).float()


class Shapes(DataModule):
    """Images of shapes with their masks or boxes.

    Args:
        targets: "masks" (a class for each pixel) or "boxes" (a box and a class for each shape).
        num_train, num_val, num_test: images of each part. Each part has random numbers of its own, so that none
            depends on the size of another.
        image_size: H and W.
        most: shapes in an image at most, M.
        noise: its standard deviation, in grey levels.
        batch_size, eval_batch_size, seed, fraction, overfit: see `DataModule`.
    """

    def __init__(
        self,
        *,
        targets: str = "masks",
        num_train: int = 2000,
        num_val: int = 300,
        num_test: int = 500,
        image_size: int = 48,
        most: int = 4,
        noise: float = 12.0,
        batch_size: int | str = 32,
        eval_batch_size: int = 128,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, fraction=fraction, overfit=overfit
        )
        if targets not in TARGETS:
            raise UserError(f"There is no data.targets={targets}{suggest(targets, TARGETS)}")
        self.sizes = dict(zip(PARTS, (num_train, num_val, num_test), strict=True))
        for part, size in self.sizes.items():
            check_size(f"num_{part}", size, 1)
        check_size("image_size", image_size, 16)
        check_size("most", most, 1)
        if not 0 <= noise <= 100:
            raise UserError(f"data.noise={noise} must be a number from 0 to 100.")
        self.targets, self.image_size, self.most, self.noise = targets, image_size, most, noise

    def made(self, part: str) -> Scenes:
        """What is to be seen in a part."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + PARTS.index(part))
        sizes = [min(PIECE, self.sizes[part] - start) for start in range(0, self.sizes[part], PIECE)]
        pieces = [draw_scenes(size, self.image_size, self.most, self.noise, generator) for size in sizes]
        return Scenes(*map(torch.cat, zip(*pieces, strict=True)))

    def load(self) -> Loaded:
        made = {part: self.made(part) for part in PARTS}
        images = made["train"].images
        prepare = ImagePreprocessing.from_dict(self.earlier) if self.earlier else ImagePreprocessing.fit(images)
        prepare.check(images)
        with_masks = self.targets == "masks"
        parts: dict[str, InMemory] = {
            part: MaskedImages(prepare, scenes.images, scenes.masks)
            if with_masks
            else BoxedImages(prepare, scenes.images, scenes.boxes, scenes.labels)
            for part, scenes in made.items()
        }
        names: Sequence[str] = ["background", *SHAPES] if with_masks else SHAPES
        return Loaded(
            parts=dict(parts),
            facts={
                "kind": self.targets,
                "image_shape": list(images.shape[1:]),
                "mask_classes" if with_masks else "box_classes": len(names),
            },
            preprocessing=prepare.to_dict(),
            class_names=list(names),
            fingerprint=fingerprint(tensor for scenes in made.values() for tensor in scenes),
        )
