"""AlexNet: five convolutions and three dense layers with rectifiers and dropout.

Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012, section 3:

    conv 11x11 / 4 -> pool -> conv 5x5 -> pool -> conv 3x3 -> conv 3x3 -> conv 3x3 -> pool -> dense -> dense -> output

where every pool takes the largest of 3x3 with stride 2, so that the windows overlap (section 3.4).

Departures from the paper
1. The large variant has the layout of Krizhevsky, "One weird trick for parallelizing convolutional neural networks",
   2014: one tower in place of two that see each other twice, 64-192-384-256-256 maps, no response normalization.
2. The small variant, for images of 28 to 64 pixels, starts with a 5x5 convolution of stride 1, and has half the maps
   and an eighth of the dense units.
3. Hidden layers start from He's distribution and all biases at 0 (the paper: deviation 0.01, some biases 1).
4. The large variant averages (or repeats) its last maps to 6x6 places, so that the same weights take any size.
5. The nonlinearity is of choice (the paper: ReLU).

Axes: B batch, C channels, H height, W width, D maps of the last convolution, P places a side after it, K classes
Trained by: classification    Data: fashion_mnist, cifar10, image_folder    Equal to: torchvision's AlexNet (tests)
"""

from collections.abc import Sequence

from torch import Tensor, nn

from zoo.errors import UserError, suggest
from zoo.layers.by_name import activation as activation_by_name
from zoo.layers.init import he_normal, normal

SMALLEST = {"small": 15, "large": 63}  # pixels a side


def check_sizes(variant: str, image_size: int, num_widths: int, num_hidden: int) -> None:
    """Raises UserError where the settings do not make an AlexNet."""
    if (num_widths, num_hidden) != (5, 2):
        raise UserError(
            f"AlexNet takes 5 model.widths and 2 model.hidden_features; there are {num_widths} and {num_hidden}."
        )
    if image_size < SMALLEST[variant]:
        size = "28" if variant == "small" else "224, or take model.variant=small"
        raise UserError(
            f"The {variant} AlexNet needs images of at least {SMALLEST[variant]} pixels a side; these have "
            f"{image_size}. Make them larger, for instance with data.image_size={size}."
        )


class AlexNet(nn.Module):
    """Classifier of square images.

    Args:
        in_channels: C of the input.
        image_size: H and W of the input, at least 15 (small) or 63 (large).
        num_classes: K.
        variant: small, or large for 224 pixels.
        widths: maps of the five convolutions; None for 32-96-192-128-128 (small) or 64-192-384-256-256 (large).
        hidden_features: units of the two hidden dense layers; None for 512-512 (small) or 4096-4096 (large).
        dropout: share of the inputs of each hidden dense layer set to 0 in training.
        activation: name in torch.nn.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: int,
        variant: str = "small",
        widths: Sequence[int] | None = None,
        hidden_features: Sequence[int] | None = None,
        dropout: float = 0.5,
        activation: str = "ReLU",
    ) -> None:
        super().__init__()
        if variant not in SMALLEST:
            raise UserError(f"AlexNet has no variant '{variant}'{suggest(variant, SMALLEST)}")
        small = variant == "small"
        widths = tuple(widths or ((32, 96, 192, 128, 128) if small else (64, 192, 384, 256, 256)))
        hidden_features = tuple(hidden_features or ((512, 512) if small else (4096, 4096)))
        check_sizes(variant, image_size, len(widths), len(hidden_features))
        (a, b, c, d, e), (f, g) = widths, hidden_features
        kernel_size, stride = (5, 1) if small else (11, 4)
        places = (image_size + 1) // 8 - 1 if small else 6  # three pools, each n -> (n - 1) // 2

        def act() -> nn.Module:
            return activation_by_name(activation)

        self.features = nn.Sequential(
            nn.Conv2d(in_channels, a, kernel_size, stride, padding=2), act(), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(a, b, 5, padding=2), act(), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(b, c, 3, padding=1), act(),
            nn.Conv2d(c, d, 3, padding=1), act(),
            nn.Conv2d(d, e, 3, padding=1), act(), nn.MaxPool2d(3, stride=2),
        )  # fmt: skip
        self.avgpool = nn.Identity() if small else nn.AdaptiveAvgPool2d(places)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(e * places * places, f), act(),
            nn.Dropout(dropout), nn.Linear(f, g), act(),
            nn.Linear(g, num_classes),
        )  # fmt: skip
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # He keeps the variance of the activations through rectifiers, which drop half of it, at any width. The output
        # keeps the paper's deviation of 0.01: all classes are about equally likely at first, the loss is near log K.
        he_normal(self)
        normal(self.classifier[-1], std=0.01)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, K)."""
        x = self.features(image)  # (B, D, P, P)
        x = self.avgpool(x).flatten(1)  # (B, D * P * P); in the large variant P is 6 from here on
        return self.classifier(x)  # (B, K)
