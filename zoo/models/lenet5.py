"""LeNet-5: convolution and subsampling, twice, then three dense layers.

LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998, section II.B, figure 2:

    C1 conv 5x5 -> S2 subsample 2x2 -> C3 conv 5x5 -> S4 subsample 2x2 -> C5 dense 120 -> F6 dense 84 -> output

Departures from the paper
1. C3 sees all six maps of S2; the paper's table I leaves some connections out.
2. Subsampling is plain average (or max) pooling, without a trainable coefficient and bias.
3. The output is an affine layer with softmax cross-entropy in place of radial basis functions.
4. tanh and sigmoid are torch's, not the paper's 1.7159 tanh(2/3 a).
   `activation=Sigmoid pooling=AvgPool2d` is the 1998 net, `activation=ReLU pooling=MaxPool2d` the one of today.

Axes: B batch, C channels, H height, W width, K classes
Trained by: classification    Data: digits, mnist, fashion_mnist    Equal to: the same layers in torch.nn (tests)
"""

from torch import Tensor, nn

from zoo.errors import UserError, suggest
from zoo.layers.by_name import activation as activation_by_name

POOLING = {"AvgPool2d": nn.AvgPool2d, "MaxPool2d": nn.MaxPool2d}


class LeNet5(nn.Module):
    """Classifier of small images.

    Args:
        in_channels: C of the input.
        image_size: H and W of the input; 28 and 32 are usual.
        num_classes: K.
        padding: zeros around the input; 2 turns 28 pixels into the paper's 32.
        channels: maps of C1 and C3.
        features: units of C5 and F6.
        activation: name in torch.nn.
        pooling: AvgPool2d or MaxPool2d.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: int,
        padding: int = 2,
        channels: tuple[int, int] = (6, 16),
        features: tuple[int, int] = (120, 84),
        activation: str = "Tanh",
        pooling: str = "AvgPool2d",
    ) -> None:
        super().__init__()
        if pooling not in POOLING:
            raise UserError(f"There is no pooling '{pooling}'{suggest(pooling, POOLING)}")
        size = ((image_size + 2 * padding - 4) // 2 - 4) // 2  # H and W after S4
        if size < 1:
            raise UserError(
                f"LeNet-5 needs images of at least {16 - 2 * padding} pixels a side; these have {image_size}. "
                "Make them larger, for instance with data.image_size=28."
            )
        self.c1 = nn.Conv2d(in_channels, channels[0], kernel_size=5, padding=padding)
        self.s2 = POOLING[pooling](2)
        self.c3 = nn.Conv2d(channels[0], channels[1], kernel_size=5)
        self.s4 = POOLING[pooling](2)
        self.c5 = nn.Linear(channels[1] * size * size, features[0])
        self.f6 = nn.Linear(features[0], features[1])
        self.output = nn.Linear(features[1], num_classes)
        self.activation = activation_by_name(activation)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # Xavier keeps the variance in both directions; without it the saturating 1998 net stays on its first plateau.
        for layer in (self.c1, self.c3, self.c5, self.f6, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, K)."""
        x = self.s2(self.activation(self.c1(image)))  # (B, 6, 14, 14)
        x = self.s4(self.activation(self.c3(x)))  # (B, 16, 5, 5)
        x = self.activation(self.c5(x.flatten(1)))  # (B, 120)
        x = self.activation(self.f6(x))  # (B, 84)
        return self.output(x)  # (B, K)
