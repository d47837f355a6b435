"""Small images in one picture, as TensorBoard's projector takes them for its points."""

from __future__ import annotations

from io import BytesIO
from math import ceil, sqrt

import torch
from torch import Tensor
from torch.nn import functional

MOST_SIDE = 32  # pixels of an image


def sprite(images: Tensor) -> tuple[bytes, tuple[int, int]]:
    """images (N, C, H, W) of any range -> a PNG with ceil(sqrt(N)) of them a row, and the width and height of one."""
    from matplotlib.image import imsave

    images = images.detach().float().cpu()
    low = images.amin((1, 2, 3), keepdim=True)
    images = (images - low) / (images.amax((1, 2, 3), keepdim=True) - low).clamp(min=1e-8)
    if max(images.shape[2:]) > MOST_SIDE:
        scale = MOST_SIDE / max(images.shape[2:])
        height, width = (max(1, round(side * scale)) for side in images.shape[2:])
        images = functional.interpolate(images, (height, width), mode="area")
    number, channels, height, width = images.shape
    if channels != 3:
        images = images[:, :1].expand(-1, 3, -1, -1)
    columns = ceil(sqrt(number))
    empty = columns**2 - number
    grid = torch.cat([images, images.new_ones(empty, 3, height, width)])  # (columns columns, 3, H, W)
    grid = grid.unflatten(0, (columns, columns)).permute(0, 3, 1, 4, 2).reshape(columns * height, columns * width, 3)
    file = BytesIO()
    imsave(file, grid.numpy(), format="png")
    return file.getvalue(), (width, height)
