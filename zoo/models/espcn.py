"""ESPCN: a network that makes images larger, and works on small ones until its last step.

Shi, Caballero, Huszar, Totz, Aitken, Bishop, Rueckert, Wang, "Real-time single image and video super-resolution using
an efficient sub-pixel convolutional neural network", 2016 (arXiv 1609.05158), equations 1 to 4, figure 1:

    h_1 = f(W_1 * x + b_1)     5x5, 64 maps        h_2 = f(W_2 * h_1 + b_2)     3x3, 32 maps
    y = PS(W_3 * h_2 + b_3)    3x3, C s^2 maps     PS(T)[c, s i + k, s j + l] = T[c s^2 + s k + l, i, j]

Each small pixel becomes s x s large ones, a map for each of them: a transposed convolution without overlap, and so
without its checkerboard.

Departures from the paper
1. The last layer starts with weights near 0 and adds to the nearest small pixel, so that training begins with an image
   and not with noise.
2. All channels are made larger, where the paper takes the luminance alone.

Axes: B batch, C channels, h, w of the small image, H = s h, W = s w of the large one
Trained by: super_resolution    Data: any images    Equal to: the same layers in torch.nn (tests)
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.errors import UserError


class ESPCN(nn.Module):
    """Three convolutions, and a shuffle from maps to pixels.

    Args:
        in_channels: C.
        factor: s.
        channels: maps of the first two layers.
    """

    def __init__(self, *, in_channels: int, factor: int = 2, channels: tuple[int, int] = (64, 32)) -> None:
        super().__init__()
        if len(channels) != 2:
            raise UserError(f"model.channels={list(channels)} must be the maps of two layers, for instance [64,32].")
        self.factor = factor
        self.conv1 = nn.Conv2d(in_channels, channels[0], kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(channels[0], channels[1], kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(channels[1], in_channels * factor**2, kernel_size=3, padding=1)
        self.shuffle = nn.PixelShuffle(factor)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # Xavier before tanh, which is steepest at 0; what is added to the image is small at first.
        for layer in (self.conv1, self.conv2, self.conv3):
            nn.init.xavier_uniform_(layer.weight, gain=0.1 if layer is self.conv3 else 1.0)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, small: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, H, W)."""
        x = torch.tanh(self.conv1(small))  # (B, 64, h, w)
        x = torch.tanh(self.conv2(x))  # (B, 32, h, w)
        x = self.shuffle(self.conv3(x))  # (B, C s^2, h, w) -> (B, C, H, W)
        return x + functional.interpolate(small, scale_factor=self.factor, mode="nearest")
