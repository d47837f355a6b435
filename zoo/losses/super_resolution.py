"""Small images and large ones: how an image is made small, and how near what is made of it comes to the original.

    PSNR = 10 log10(1 / mean squared error)                   in dB, for pixels in [0, 1]
    bicubic interpolation: Keys, "Cubic convolution interpolation for digital image processing", 1981; with a wider
    kernel where it makes small, so that fine stripes fade instead of turning into coarse ones

Axes: B batch, C channels, H height, W width, s factor
"""

import math

from torch import Tensor
from torch.nn import functional


def made_small(images: Tensor, factor: int) -> Tensor:
    """(B, C, H, W) -> (B, C, H / s, W / s), bicubic and antialiased; H and W are multiples of s."""
    size = (images.shape[2] // factor, images.shape[3] // factor)
    return functional.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def made_large(images: Tensor, factor: int) -> Tensor:
    """(B, C, h, w) -> (B, C, s h, s w), bicubic: what a network has to beat."""
    return functional.interpolate(images, scale_factor=factor, mode="bicubic", align_corners=False).clamp(0, 1)


def psnr(mean_squared_error: float) -> float:
    """In dB, of pixels in [0, 1]; infinite where there is no error."""
    return 10 * math.log10(1 / mean_squared_error) if mean_squared_error > 0 else math.inf
