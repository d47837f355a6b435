"""SRCNN: bicubic interpolation first, then a network of three convolutions that mends it.

Dong, Loy, He, Tang, "Learning a deep convolutional network for image super-resolution", 2014; "Image super-resolution
using deep convolutional networks", 2015 (arXiv 1501.00092), equations 1 to 3:

    Y = bicubic(x)    h_1 = max(0, W_1 * Y + b_1)    h_2 = max(0, W_2 * h_1 + b_2)    F(Y) = W_3 * h_2 + b_3
                      9x9, 64 maps: patches          1x1, 32 maps: other patches     5x5: put together

Departures from the paper
1. What it says is added to Y (as in Kim, Lee, Lee, "Accurate image super-resolution using very deep convolutional
   networks", 2016), so that training begins at bicubic interpolation; the paper needs 10^8 steps of small rates.
2. Borders are padded with zeros; the paper loses them.
3. All channels are made larger, where the paper takes the luminance alone; one rate for all layers.

Axes: B batch, C channels, h, w of the small image, H = s h, W = s w of the large one
Trained by: super_resolution    Data: any images    Equal to: the same layers in torch.nn (tests)
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.errors import UserError


class SRCNN(nn.Module):
    """Three convolutions on an image that interpolation has made large.

    Args:
        in_channels: C.
        factor: s.
        channels: maps of the first two layers.
        kernel_sizes: of the three layers, odd.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        factor: int = 2,
        channels: Sequence[int] = (64, 32),
        kernel_sizes: Sequence[int] = (9, 1, 5),
    ) -> None:
        super().__init__()
        if len(channels) != 2 or len(kernel_sizes) != 3 or any(size % 2 == 0 for size in kernel_sizes):
            raise UserError("SRCNN has model.channels of two layers and odd model.kernel_sizes of three; use [9,1,5].")
        self.factor = factor
        depths = [in_channels, *channels, in_channels]
        self.conv1, self.conv2, self.conv3 = (
            nn.Conv2d(depths[i], depths[i + 1], kernel_size=size, padding=size // 2)
            for i, size in enumerate(kernel_sizes)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # Before a rectifier He's variance, which makes up for the half that it drops; what is added is small at first.
        for layer in (self.conv1, self.conv2):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.xavier_uniform_(self.conv3.weight, gain=0.1)
        nn.init.zeros_(self.conv3.bias)  # type: ignore[arg-type]

    def forward(self, small: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, H, W)."""
        large = functional.interpolate(small, scale_factor=self.factor, mode="bicubic", align_corners=False)
        x = torch.relu(self.conv1(large))  # (B, 64, H, W)
        x = torch.relu(self.conv2(x))  # (B, 32, H, W)
        return large + self.conv3(x)  # (B, C, H, W)
