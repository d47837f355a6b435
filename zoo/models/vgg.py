"""VGG: 3x3 convolutions in stages, with a halving of the image after each.

Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition", 2015 (arXiv 1409.1556),
section 2, table 1:

    stage: (conv 3x3, padding 1 -> ReLU) once or more -> max pool 2x2        then dense layers with dropout between them

`depth` counts the layers with weights: 11, 13, 16, 19 are the paper's A, B, D, E for images of 224 pixels (five stages,
three dense layers), 6 and 8 the same idea for small images (three stages, two dense layers).

Departures from the paper
1. Batch normalization before each nonlinearity is an option; it came later, and makes deep nets easy to train.
2. Hidden layers start from He's distribution. The paper trains A first and starts the deeper ones from its layers.
3. At depth 11 and more, images of another size than 224 are averaged (or repeated) to the 7x7 places of the first dense
   layer, so that the same weights take any size.
4. The nonlinearity is of choice (the paper: ReLU).

Axes: B batch, C channels, H height, W width, D maps of the last stage, K classes
Trained by: classification    Data: fashion_mnist, cifar10, image_folder    Equal to: torchvision's VGG (tests)
"""

from collections.abc import Sequence

from torch import Tensor, nn

from zoo.errors import UserError, suggest
from zoo.layers.by_name import activation as activation_by_name
from zoo.layers.init import he_normal, normal

CONVOLUTIONS = {  # in each stage
    6: (1, 1, 2),
    8: (2, 2, 2),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


def check_sizes(depth: int, image_size: int, num_widths: int, num_hidden: int) -> None:
    """Raises UserError where the settings do not make a VGG of this depth."""
    stages = CONVOLUTIONS[depth]
    dense = depth - sum(stages) - 1
    if (num_widths, num_hidden) != (len(stages), dense):
        raise UserError(
            f"VGG-{depth} takes {len(stages)} model.widths and {dense} model.hidden_features; there are {num_widths} "
            f"and {num_hidden}."
        )
    smallest = 2 ** len(stages)
    if image_size < smallest:
        mend = "data.image_size=28" if depth < 11 else "data.image_size=224, or take model.depth=6"
        raise UserError(
            f"VGG-{depth} needs images of at least {smallest} pixels a side; these have {image_size}. Make them "
            f"larger, for instance with {mend}."
        )


def stage(in_channels: int, width: int, number: int, *, batch_norm: bool, activation: str) -> list[nn.Module]:
    """The layers of one stage, (B, C_in, H, W) -> (B, `width`, H / 2, W / 2)."""
    layers: list[nn.Module] = []
    for _ in range(number):
        layers.append(nn.Conv2d(in_channels, width, 3, padding=1))
        layers += [nn.BatchNorm2d(width)] if batch_norm else []
        layers.append(activation_by_name(activation))
        in_channels = width
    return [*layers, nn.MaxPool2d(2)]


class VGG(nn.Module):
    """Classifier of square images.

    Args:
        in_channels: C of the input.
        image_size: H and W of the input, at least 8 at depth 6 and 8 and at least 32 above.
        num_classes: K.
        depth: layers with weights; 6 or 8 for small images, 11, 13, 16 or 19 for large ones.
        widths: maps in each stage; None for 32-64-128 at depth 6 and 8, and the paper's 64-128-256-512-512 above.
        hidden_features: units of each dense layer but the last; None for 256, and the paper's 4096-4096 above.
        batch_norm: normalize before each nonlinearity of a stage.
        dropout: share of each hidden dense layer set to 0 in training.
        activation: name in torch.nn.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: int,
        depth: int = 6,
        widths: Sequence[int] | None = None,
        hidden_features: Sequence[int] | None = None,
        batch_norm: bool = True,
        dropout: float = 0.5,
        activation: str = "ReLU",
    ) -> None:
        super().__init__()
        if depth not in CONVOLUTIONS:
            raise UserError(f"There is no VGG of depth {depth}{suggest(depth, CONVOLUTIONS)}")
        small = depth < 11
        widths = tuple(widths or ((32, 64, 128) if small else (64, 128, 256, 512, 512)))
        hidden_features = tuple(hidden_features or ((256,) if small else (4096, 4096)))
        check_sizes(depth, image_size, len(widths), len(hidden_features))
        layers: list[nn.Module] = []
        for width, number in zip(widths, CONVOLUTIONS[depth], strict=True):
            layers += stage(in_channels, width, number, batch_norm=batch_norm, activation=activation)
            in_channels = width
        self.features = nn.Sequential(*layers)
        places = image_size // 8 if small else 7
        self.avgpool = nn.Identity() if small else nn.AdaptiveAvgPool2d(places)
        layers, size = [], widths[-1] * places * places
        for hidden in hidden_features:
            layers += [nn.Linear(size, hidden), activation_by_name(activation), nn.Dropout(dropout)]
            size = hidden
        self.classifier = nn.Sequential(*layers, nn.Linear(size, num_classes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # He keeps the variance of the activations through rectifiers, which drop half of it; without it (and without
        # batch normalization) the signal of the deeper nets dies out. The output keeps the paper's deviation of 0.01:
        # at first all classes are about equally likely, and the loss is near log K.
        he_normal(self)
        normal(self.classifier[-1], std=0.01)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, K)."""
        x = self.features(image)  # (B, D, H / 8, W / 8), at depth 11 and more (B, D, H / 32, W / 32)
        x = self.avgpool(x).flatten(1)  # (B, D * H / 8 * W / 8) or (B, D * 7 * 7)
        return self.classifier(x)  # (B, K)
