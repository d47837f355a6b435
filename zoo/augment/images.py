"""Augmentation of images: training samples changed at random, each in its own way; see `zoo.augment.draws`.

The operations, in the order in which they are done

    flip, vertical_flip         mirrored, exactly
    brightness, contrast        in this order, clipped once; what comes in from outside later on stays black
    shear, scale, rotate,       one affine warp, interpolated once, black outside; `zoo.augment.warp` has the
    translate and shift, crop   conventions. A shift alone is exact
    noise                       on each pixel of each channel
    cutout                      a square of zeros

Pixels are rounded to whole levels once, before the cutout. Whether the label survives depends on the data: a mirrored 2
is no 2, and a 6 turned by 180 degrees is a 9.

Axes: B batch, C channels, H height, W width
"""

import math

import torch
from torch import Tensor

from zoo.augment.draws import Draws
from zoo.augment.warp import View, sources, warp
from zoo.errors import UserError

# The number of each draw of a sample. Those of noise start at 16, as many as an image needs; the others lie beyond.
FLIP, DOWN, RIGHT, HOLE_ROW, HOLE_COLUMN = range(5)
(
    VERTICAL_FLIP, BRIGHTNESS, CONTRAST, SHEAR, SCALE, ROTATE, TRANSLATE_X, TRANSLATE_Y, CROP_AREA, CROP_RATIO,
    CROP_X, CROP_Y,
) = range(2**40, 2**40 + 12)  # fmt: skip

# The greatest limit of each operation; of scale, shift, noise and cutout any number will do.
MOST = {
    **{"flip": 1, "vertical_flip": 1, "brightness": 1, "contrast": 1},
    **{"shear": 80, "rotate": 180, "translate": 1, "crop": 1},
}
RATIO = 4 / 3  # how much a crop may be stretched along one axis against the other
PIECE = 2**18  # values changed at a time: calls cost nothing then, and the allocator keeps the memory
GREY = (299, 587, 114)  # weights of red, green and blue in a thousand (ITU-R BT.601)


class ImageAugment:
    """Changes raw images. Each argument limits one operation, and 0 turns it off; all draws are uniform.

    Args:
        flip: probability that an image is mirrored left to right (Krizhevsky, Sutskever, Hinton 2012, section 4.1).
        vertical_flip: probability that it is mirrored top to bottom.
        brightness: levels are multiplied by 1 - brightness to 1 + brightness.
        contrast: distances from the image's mean grey level are multiplied by 1 - contrast to 1 + contrast.
        shear: most degrees that an upright line leans to either side.
        scale: the content becomes up to 1 + scale times as large, or as small, the logarithm being uniform.
        rotate: most degrees that an image is turned to either side.
        translate: most that an image moves along each axis, as a share of its size; by fractions of pixels, too.
        shift: most whole pixels that an image moves along each axis, besides; what comes in from outside is 0. The
            same as to pad by `shift` and crop at random (Krizhevsky et al. 2012; with 4 pixels, He et al. 2016,
            section 4.2).
        crop: most of its area that an image loses; the rest, a rectangle anywhere in it, stretched by up to a third
            along one axis, is enlarged to the full size (Szegedy et al. 2015, section 6, who lose up to 0.92).
        noise: standard deviation of Gaussian noise on each value, on the scale 0 to 255, where it is clipped.
        cutout: side of a square of zeros in pixels; its centre is anywhere in the image, so that it may lie partly
            outside (DeVries, Taylor 2017, arXiv 1708.04552, section 3.2; they fill with the mean of the data).
    """

    suits_what, batch_type = "images", "ImageBatch"

    def __init__(
        self,
        *,
        flip: float = 0.0,
        vertical_flip: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        shear: float = 0.0,
        scale: float = 0.0,
        rotate: float = 0.0,
        translate: float = 0.0,
        shift: int = 0,
        crop: float = 0.0,
        noise: float = 0.0,
        cutout: int = 0,
    ) -> None:
        self.flip, self.vertical_flip, self.brightness, self.contrast = flip, vertical_flip, brightness, contrast
        self.shear, self.scale, self.rotate, self.translate = shear, scale, rotate, translate
        self.shift, self.crop, self.noise, self.cutout = shift, crop, noise, cutout
        for name, limit in vars(self).items():
            if not 0 <= limit <= MOST.get(name, math.inf):
                span = f"from 0 to {MOST[name]}" if name in MOST else "from 0 on"
                raise UserError(f"augment.{name}={limit} must be a number {span}.")

    @classmethod
    def suits(cls, batch_type: str, rows: Tensor) -> bool:
        """Whether raw samples `rows` that become a batch of this type can be augmented."""
        return batch_type == cls.batch_type and rows.ndim == 4 and rows.dtype == torch.uint8

    def __call__(self, images: Tensor, indices: Tensor, epoch: int, seed: int) -> Tensor:
        """(B, C, H, W) uint8 and the (B,) places of the samples in the training part -> (B, C, H, W) uint8."""
        if not len(images):  # the share of a process in a last batch that is smaller than their number
            return images
        draws = Draws(indices, epoch, seed)
        for share, number, axis in ((self.flip, FLIP, -1), (self.vertical_flip, VERTICAL_FLIP, -2)):
            if share:
                images = mirror(images, draws.uniform(number) < share, axis)
        relit = bool(self.brightness or self.contrast)
        bent = self.shear or self.scale or self.rotate or self.translate or self.crop
        # A shift of relit images is part of the warp, too: what comes in must stay black.
        warped = bool(bent or (self.shift and relit))
        if self.shift and not warped:
            images = self._move(images, draws)
        if relit or warped or self.noise:
            images = self._in_pieces(images, draws, relit, warped)
        if self.cutout:
            images = images * ~self._hole(images, draws)  # faster than masked_fill
        return images

    def _in_pieces(self, images: Tensor, draws: Draws, relit: bool, warped: bool) -> Tensor:
        """All that gives fractions of grey levels, some images at a time."""
        line = self.line(images, draws) if relit else None
        places = sources(self.view(draws, *images.shape[2:])) if warped else None
        made = torch.empty_like(images)
        step = max(1, PIECE // images[0].numel())
        for part in (slice(start, start + step) for start in range(0, len(images), step)):
            levels = images[part].float()
            if line is not None:
                levels = levels.mul_(line[0, part]).add_(line[1, part]).clamp_(0, 255)
            if places is not None:
                levels = warp(levels, places[part])
            if self.noise:
                levels.add_(draws[part].normal(tuple(images.shape[1:])), alpha=self.noise)
            # By way of 16 bits: straight to 8 takes five times as long.
            made[part] = levels.round_().clamp_(0, 255).to(torch.int16)
        return made

    def line(self, images: Tensor, draws: Draws) -> Tensor:
        """(2, B, 1, 1, 1), gain and offset that are brightness and then contrast."""
        channels, height, width = images.shape[1:]
        weights = torch.tensor(GREY if channels == 3 else [1] * channels, device=images.device)  # (C,)
        # Sums of whole numbers, exact in whatever order they are taken.
        grey = (images.sum((2, 3)) * weights).sum(1).double() / (weights.sum() * height * width)  # (B,)
        brighter, starker = 2 * draws.uniform([BRIGHTNESS, CONTRAST]).double() - 1  # (B,) each, in [-1, 1)
        brighter, starker = 1 + self.brightness * brighter, 1 + self.contrast * starker
        return torch.stack([brighter * starker, brighter * (1 - starker) * grey]).float().view(2, -1, 1, 1, 1)

    def view(self, draws: Draws, height: int, width: int) -> View:
        bits = draws.bits([
            SHEAR, SCALE, ROTATE, TRANSLATE_X, TRANSLATE_Y, CROP_AREA, CROP_RATIO, CROP_X, CROP_Y, RIGHT, DOWN,
        ])  # fmt: skip
        share = bits[:9].double() * 2.0**-24  # (9, B) in [0, 1)
        either_way = 2 * share - 1
        steps = self.shift - (bits[9:] * (2 * self.shift + 1) >> 24)  # (2, B), as `_move` has them
        size = torch.tensor([width, height], device=bits.device).view(2, 1)
        centre, sides = self._window(share[5:], size) if self.crop else (size * 0, size / size)
        return View(
            shear=self.shear * either_way[0],
            scale=(math.log1p(self.scale) * either_way[1]).exp(),
            rotate=self.rotate * either_way[2],
            move=self.translate * size * either_way[3:5] + steps,
            centre=centre,
            sides=sides,
        )

    def _window(self, share: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """Centre and sides of a crop, (2, B) each, from four uniform numbers, (4, B)."""
        area = 1 - self.crop * share[0]
        # No wider and no higher than the image: the more of it is kept, the less can be stretched.
        most = area.log().neg().clamp(max=math.log(RATIO))
        stretch = ((share[1] - 0.5) * most).exp()
        sides = area.sqrt() * torch.stack([stretch, 1 / stretch])
        return (share[2:] - 0.5) * (1 - sides) * size, sides

    def _move(self, images: Tensor, draws: Draws) -> Tensor:
        """Crops each padded image at a place of its own."""
        number, channels, height, width = images.shape
        padded = torch.nn.functional.pad(images, (self.shift,) * 4).contiguous()  # (B, C, H + 2 shift, W + 2 shift)
        top, left = (draws.below(2 * self.shift + 1, number) for number in (DOWN, RIGHT))  # (B,)
        of_image, of_channel, of_row, _ = padded.stride()
        first = torch.arange(number, device=images.device) * of_image + top * of_row + left  # (B,)
        # One window for each pixel that it may start from, a view; index_select copies a window in one go.
        starts = padded.numel() - (channels - 1) * of_channel - (height - 1) * of_row - (width - 1)
        windows = padded.as_strided((starts, channels, height, width), (1, of_channel, of_row, 1))
        return windows.index_select(0, first)  # (B, C, H, W)

    def _hole(self, images: Tensor, draws: Draws) -> Tensor:
        """(B, 1, H, W), True inside each image's square."""
        inside = []
        for size, number in zip(images.shape[2:], (HOLE_ROW, HOLE_COLUMN), strict=True):
            first = draws.below(size, number).unsqueeze(1) - self.cutout // 2  # (B, 1)
            place = torch.arange(size, device=images.device)  # (size,)
            inside.append((place >= first) & (place < first + self.cutout))  # (B, size)
        return (inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1)


def mirror(images: Tensor, chosen: Tensor, axis: int) -> Tensor:
    """Turns those of the images (B, C, H, W) round that are `chosen`, (B,) bool."""
    both = torch.cat([images, images.flip(axis)])  # (2 B, C, H, W); copies of whole images beat torch.where
    number = len(images)
    return both.index_select(0, torch.arange(number, device=images.device) + number * chosen)
