"""Outlines of shapes that data sets of the zoo are drawn with.

Axes: N shapes, H = W the size of an image
"""

import torch
from torch import Tensor

SHAPES = ("circle", "square", "triangle")


def outlines(shape: Tensor, centre: Tensor, radius: Tensor, size: int = 32) -> Tensor:
    """Which pixels each of N shapes covers: kinds (N,), centres (N, 2) in y and x, radii (N,) -> (N, H, W) bool."""
    grid = torch.arange(size, dtype=torch.float32)
    y = (grid[None, :, None] - centre[:, 0, None, None]) / radius[:, None, None]  # (N, H, 1), -1 to 1 within
    x = (grid[None, None, :] - centre[:, 1, None, None]) / radius[:, None, None]  # (N, 1, W)
    circle = y.square() + x.square() <= 1  # (N, H, W)
    square = torch.maximum(y.abs(), x.abs()) <= 0.9
    triangle = (x.abs() <= (y + 1) / 2) & (y <= 1)  # its tip is at the top
    kind = shape[:, None, None]
    return torch.where(kind == 0, circle, torch.where(kind == 1, square, triangle))
