"""ResNet: layers that learn what to add to their input.

He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2016 (arXiv 1512.03385), equations 1 and 2:

    y = relu(F(x) + x)        where F changes the size, x is brought to it first:  y = relu(F(x) + s(x))

F is two 3x3 convolutions, or 1x1 - 3x3 - 1x1 (a bottleneck), each followed by batch normalization. The depth says which
of the paper's two families it is:
    20, 32, 44, 56, 110     small images (section 4.2): three stages of 16, 32, 64 maps, s without parameters (option A)
    18, 34, 50, 101, 152    large images (table 1): four stages of 64 to 512 maps, s a 1x1 convolution (option B)

Departures from the paper
1. A bottleneck halves the image in its 3x3 convolution, not in the first 1x1: so do the weights that are in use today.
2. Option A puts half of the new, empty maps before the old ones and half after them; the paper does not say where.
3. Kernels start with the variance 2 / fan-out; the paper's source allows fan-in and fan-out alike.
4. The nonlinearity is of choice (the paper: ReLU).

Axes: B batch, C channels, H height, W width, D maps of the last stage, K classes
Trained by: classification    Data: fashion_mnist, cifar10, image_folder    Equal to: torchvision's ResNet (tests)
"""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UserError, suggest
from zoo.layers.by_name import activation as activation_by_name


class PadShortcut(nn.Module):
    """Option A, (B, C, H, W) -> (B, C + 2 `padding`, H / `stride`, W / `stride`): skips pixels, adds maps of zeros."""

    def __init__(self, padding: int, stride: int) -> None:
        super().__init__()
        self.padding, self.stride = padding, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Option B: a learned mixture of the maps."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, (B, C_in, H, W) -> (B, `channels`, H / `stride`, W / `stride`)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: nn.Module, activation: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = activation_by_name(activation)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut
        self.relu2 = activation_by_name(activation)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.relu1(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        return self.relu2(residual + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1 to few maps, 3x3 there, 1x1 to many: (B, C_in, H, W) -> (B, 4 `channels`, H / `stride`, W / `stride`)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: nn.Module, activation: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = activation_by_name(activation)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = activation_by_name(activation)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.downsample = shortcut
        self.relu3 = activation_by_name(activation)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.relu1(self.bn1(self.conv1(x)))
        residual = self.relu2(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return self.relu3(residual + self.downsample(x))


SMALL = {6 * n + 2: (n, n, n) for n in (3, 5, 7, 9, 18)}  # blocks in each stage
LARGE: dict[int, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nn.Module):
    """Classifier of images of any size.

    Args:
        in_channels: C of the input.
        num_classes: K.
        depth: layers with weights; 20, 32, 44, 56 or 110 for small images, 18, 34, 50, 101 or 152 for large ones.
        activation: name in torch.nn.
        zero_init_residual: every block starts as its shortcut alone (Goyal et al. 2017, section 5.1).
    """

    also_known_as: ClassVar[dict[str, str]] = {"linear.": "fc."}  # in the weights for CIFAR-10 that are in use

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        depth: int = 20,
        activation: str = "ReLU",
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__()
        if depth not in SMALL and depth not in LARGE:
            raise UserError(f"There is no ResNet of depth {depth}{suggest(depth, sorted([*SMALL, *LARGE]))}")
        self.small, self.activation = depth in SMALL, activation
        self.block, num_blocks = (BasicBlock, SMALL[depth]) if self.small else LARGE[depth]
        width = 16 if self.small else 64
        if self.small:
            self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = activation_by_name(activation)
        self.maxpool = nn.Identity() if self.small else nn.MaxPool2d(3, stride=2, padding=1)
        self.out_channels = width  # of what has been built so far
        self.layer1 = self._stage(width, num_blocks[0], stride=1)
        self.layer2 = self._stage(2 * width, num_blocks[1], stride=2)
        self.layer3 = self._stage(4 * width, num_blocks[2], stride=2)
        self.layer4 = nn.Sequential() if self.small else self._stage(8 * width, num_blocks[3], stride=2)
        self.fc = nn.Linear(self.out_channels, num_classes)
        self.reset_parameters(zero_init_residual)

    def _stage(self, channels: int, num_blocks: int, stride: int) -> nn.Sequential:
        """Blocks of the same width, of which the first changes the size."""
        blocks, after = [], channels * self.block.expansion
        for i in range(num_blocks):
            before, step = self.out_channels, stride if i == 0 else 1
            if (step, before) == (1, after):
                shortcut: nn.Module = nn.Identity()
            elif self.small:
                shortcut = PadShortcut((after - before) // 2, step)
            else:
                shortcut = projection(before, after, step)
            blocks.append(self.block(before, channels, step, shortcut, self.activation))
            self.out_channels = after
        return nn.Sequential(*blocks)

    def reset_parameters(self, zero_init_residual: bool) -> None:
        # He keeps the variance of what flows back through rectifiers, at any depth. Batch normalization starts at scale
        # 1 and shift 0, the last layer at torch's default.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init_residual and isinstance(module, (BasicBlock, Bottleneck)):
                last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
                nn.init.zeros_(last.weight)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, K); n is 1 in a net for small images and 4 in one for large images."""
        x = self.relu(self.bn1(self.conv1(image)))
        x = self.layer1(self.maxpool(x))  # (B, 16 or 64 or 256, H / n, W / n)
        x = self.layer2(x)  # twice the maps, (H / 2n, W / 2n)
        x = self.layer3(x)  # twice the maps, (H / 4n, W / 4n)
        x = self.layer4(x)  # in a net for large images once more
        x = x.mean((2, 3))  # (B, D)
        return self.fc(x)  # (B, K)
