"""Geometry of images: any chain of affine maps as one warp, an own one for each image, interpolated once.

Coordinates are pixels from the centre of the image, x to the right and y down; the centre of a 4 x 4 image lies between
its pixels. What is done to an image, in this order:

    shear      x moves by -y tan(shear): a positive angle leans the top to the right
    scale      a factor; above 1 the content grows
    rotate     counter-clockwise, as `torch.rot90`
    move       to the right and down
    crop       a window, its centre and its sides given, is made as large as the image

Angles are in degrees. The first four are those of torchvision's `affine` (there with the rotation's sign turned), the
fifth its `resized_crop` without antialiasing.

Axes: B batch, C channels, H height, W width
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class View(NamedTuple):
    """How the images of a batch are seen; float64, one value for each image.

    shear, scale, rotate: (B,)
    move: (2, B) pixels to the right and down.
    centre: (2, B) of the window, x and y.
    sides: (2, B) width and height of the window as shares of those of the image.
    """

    shear: Tensor
    scale: Tensor
    rotate: Tensor
    move: Tensor
    centre: Tensor
    sides: Tensor


def sources(view: View) -> Tensor:
    """(B, 3, 2) float64 `a, b, c`: the pixel at (x, y) of the result is what lies at x a + y b + c in the image."""
    angle, lean = view.rotate.deg2rad(), view.shear.deg2rad().tan()
    cos, sin = angle.cos(), angle.sin()
    # The way back: rotation, then scale, then shear undone.
    a, b = torch.stack([cos + lean * sin, sin, lean * cos - sin, cos]).div(view.scale).view(2, 2, -1)  # (2, B) each
    x, y = view.centre - view.move  # (B,) each, where the centre of the window was before the move
    width, height = view.sides
    return torch.stack([a * width, b * height, a * x + b * y]).permute(2, 0, 1)


def warp(images: Tensor, places: Tensor) -> Tensor:
    """Takes each pixel from where `sources` says: bilinear, and black outside.

    Args:
        images: (B, C, H, W) float32.
        places: (B, 3, 2) float64.
    """
    height, width = images.shape[2:]
    # grid_sample counts from -1 to 1, edge to edge.
    places = (places * 2 / torch.tensor([width, height], device=images.device)).float().contiguous()
    # A point as one complex number: sums of pairs, along an axis of two, would take ten times as long.
    a, b, c = torch.view_as_complex(places).unsqueeze(2).unbind(1)  # (B, 1) each
    points = (b * steps(height, images.device)).unsqueeze(2) + (a * steps(width, images.device) + c).unsqueeze(1)
    grid = torch.view_as_real(points)  # (B, H, W, 2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def steps(size: int, device: torch.device) -> Tensor:
    """(size,) the pixels along an axis, counted from its middle."""
    return torch.arange(size, device=device) - (size - 1) / 2
