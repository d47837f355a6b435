"""MobileNetV2: blocks that are thin where they meet and wide in between, with one 3x3 kernel a map.

Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: inverted residuals and linear bottlenecks", 2018
(arXiv 1801.04381), section 3.3, tables 1 and 2:

    1x1 to t times the maps, ReLU6 -> 3x3 depthwise, ReLU6 -> 1x1 to few maps, no ReLU        (+ x, where sizes agree)

A 3x3 convolution of every map with every other would cost 9 C C' products a place; depthwise and 1x1 cost 9 C + C C'.

Departures from the paper
1. For small images `output_stride` 16 or 8 leaves out the first one or two of the five halvings.
2. Numbers of maps are rounded to multiples of 8, as the published weights of other widths are.
3. Kernels start from He's distribution; the paper does not say.

Axes: B batch, C channels, H height, W width, s output stride, D maps of the last convolution (1280), K classes
Trained by: classification    Data: image_folder, cifar10    Equal to: torchvision's MobileNetV2, on photos, too (tests)
"""

from torch import Tensor, nn

from zoo.errors import UserError, suggest

# Table 2: t (expansion), c (maps), n (blocks), s (stride of the first).
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
OUTPUT_STRIDES = (32, 16, 8)


def rounded(channels: float) -> int:
    """The nearest multiple of 8, but never less than 90 % of `channels`."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def convolution(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Module:
    """Convolution, batch normalization, min(max(x, 0), 6), (B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
    padding = kernel_size // 2
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """One block, (B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        self.is_residual = stride == 1 and in_channels == out_channels
        wide = in_channels * expansion
        self.conv = nn.Sequential(
            *([convolution(in_channels, wide, 1)] if expansion > 1 else []),
            convolution(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, out_channels, 1, bias=False),  # linear: a ReLU would lose what so few maps hold (3.2)
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.is_residual else self.conv(x)


class MobileNetV2(nn.Module):
    """Classifier of images of any size.

    Args:
        in_channels: C of the input.
        num_classes: K.
        width_multiplier: factor of all numbers of maps; the last convolution keeps at least 1280.
        output_stride: pixels a side that one place of the last maps stands for; 32, for small images 16 or 8.
        dropout: share of the inputs of the output layer set to 0 in training.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        width_multiplier: float = 1.0,
        output_stride: int = 32,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if output_stride not in OUTPUT_STRIDES:
            raise UserError(f"MobileNetV2 has no output stride {output_stride}{suggest(output_stride, OUTPUT_STRIDES)}")
        before = rounded(32 * width_multiplier)
        blocks = [convolution(in_channels, before, 3, stride=1 if output_stride < 32 else 2)]
        for expansion, channels, number, stride in STAGES:
            after = rounded(channels * width_multiplier)
            if channels == 24 and output_stride < 16:
                stride = 1
            for i in range(number):
                blocks.append(InvertedResidual(before, after, expansion=expansion, stride=stride if i == 0 else 1))
                before = after
        last = rounded(1280 * max(1.0, width_multiplier))
        self.features = nn.Sequential(*blocks, convolution(before, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # He's fan-in is right for depthwise kernels as well: each output sees 9 values. Batch normalization starts at
        # scale 1 and shift 0, the output layer at torch's default.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, K)."""
        x = self.features(image)  # (B, D, H / s, W / s)
        x = x.mean((2, 3))  # (B, D)
        return self.classifier(x)  # (B, K)
