"""U-Net: down to few large-seeing places and up again, with what each size saw on the way down beside it.

Ronneberger, Fischer, Brox, "U-Net: convolutional networks for biomedical image segmentation", 2015 (arXiv 1505.04597),
figure 1. Two convolutions at each size, halved by max-pooling on the way down, doubled by a transposed convolution of
2 x 2 on the way up; there the maps of the same size from the way down are put beside those that come up, so that the
last ones know both what is there and where exactly its border runs. A convolution of 1 x 1 scores each pixel's classes.

Departures from the paper
1. Convolutions are padded by one, so that the answer has the size of the image and nothing is cropped.
2. Batch normalization (Ioffe, Szegedy 2015) follows each convolution of 3 x 3, which then needs no bias.
3. Fewer sizes and maps, for small images; the paper's are channels = [64, 128, 256, 512, 1024].
4. A size that does not halve evenly is met again by one more row or column of the transposed convolution.

Axes: B batch, C channels, H height, W width, K classes
Trained by: segmentation    Data: shapes
Equal to: the same layers in torch.nn (tests)
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from zoo.errors import UserError


def double_convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """The class of each pixel.

    Args:
        in_channels: C.
        num_classes: K.
        channels: maps at each size, from the whole image down; each size is half the one before.
        dropout: at the end of the way down, as in the paper's section 3.1.

    Raises:
        UserError: there are no two sizes.
    """

    def __init__(
        self, *, in_channels: int, num_classes: int, channels: Sequence[int] = (16, 32, 64, 128), dropout: float = 0.0
    ) -> None:
        super().__init__()
        if len(channels) < 2:
            raise UserError(
                f"model.channels={list(channels)} must name two sizes or more, for instance [16,32,64,128]."
            )
        self.smallest = 2 ** (len(channels) - 1)
        self.down = nn.ModuleList(double_convolution(*pair) for pair in pairwise([in_channels, *channels]))
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(dropout)
        upwards = list(pairwise(reversed(channels)))  # (64, 32), (32, 16)
        self.up = nn.ModuleList(nn.ConvTranspose2d(*pair, kernel_size=2, stride=2) for pair in upwards)
        self.merge = nn.ModuleList(double_convolution(2 * few, few) for _, few in upwards)
        self.classify = nn.Conv2d(channels[0], num_classes, kernel_size=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # Deviation sqrt(2 / inputs of a unit) keeps the maps of a rectified net at one variance (section 3). A unit of
        # the transposed convolution of stride 2 has a kernel of its own for each place, and one product per channel.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            elif isinstance(module, nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=(2 / module.in_channels) ** 0.5)
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, K, H, W). Raises UserError for an image that cannot be halved so often."""
        if min(x.shape[2:]) < self.smallest:
            raise UserError(
                f"An image of {x.shape[2]} x {x.shape[3]} is too small to be halved {len(self.up)} times; use fewer "
                "model.channels."
            )
        seen: list[Tensor] = []  # maps of each size on the way down, (B, 16, H, W), (B, 32, H / 2, W / 2), ...
        for convolve in self.down:
            x = convolve(self.pool(x) if seen else x)
            seen.append(x)
        x = self.dropout(seen.pop())  # the smallest
        for grow, convolve in zip(self.up, self.merge, strict=True):
            beside = seen.pop()
            x = torch.cat([beside, grow(x, output_size=beside.shape[2:])], dim=1)  # twice the maps, twice the size
            x = convolve(x)
        return self.classify(x)  # (B, K, H, W)
