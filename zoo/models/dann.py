"""One trunk, two heads: a network that tells classes apart by features that do not betray where an image is from.

Ganin, Ustinova, Ajakan, Germain, Larochelle, Laviolette, Marchand, Lempitsky, "Domain-adversarial training of neural
networks", 2016 (arXiv 1505.07818), figure 1. The head of the domain learns to tell source from target, and its gradient
reaches the trunk reversed, so that the trunk learns to leave it nothing to tell by:

    reverse(x) = x        d reverse / dx = -strength        equations 17 and 18

Departures from the paper
1. The trunk is smaller than that of figure 4a, for images as small as 8x8: two 3x3 convolutions, one pooling, one dense
   layer. No dropout.
2. The head of the classes is one dense layer, that of the domain has one hidden layer.

Axes: B batch, C channels, H height, W width, F features, K classes
Trained by: domain_adaptation    Data: shifted_digits    Equal to: the same layers in torch.nn (tests)
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError


class Reverse(torch.autograd.Function):
    """The identity, whose gradient is turned round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


class DANN(nn.Module):
    """Classifier of small images with a second head for the domain.

    Args:
        image_shape: (C, H, W), at least 2 pixels a side.
        num_classes: K.
        channels: maps of the two convolutions.
        num_features: F, what both heads see.
        domain_features: units of the hidden layer of the domain's head.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        num_classes: int,
        channels: tuple[int, int] = (32, 48),
        num_features: int = 64,
        domain_features: int = 64,
    ) -> None:
        super().__init__()
        depth, height, width = image_shape
        if min(height, width) < 2:
            raise UserError(f"DANN needs images of at least 2 pixels a side; use larger ones than {height}x{width}.")
        self.conv1 = nn.Conv2d(depth, channels[0], kernel_size=3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(channels[0], channels[1], kernel_size=3, padding=1)
        self.dense = nn.Linear(channels[1] * (height // 2) * (width // 2), num_features)
        self.domain_head = nn.Sequential(
            nn.Linear(num_features, domain_features), nn.ReLU(), nn.Linear(domain_features, 1)
        )
        self.output = nn.Linear(num_features, num_classes)
        # Layers keep torch's own start, which is smaller than He's: the features' size decides how much a distance of
        # their covariances weighs.

    def features(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, F)."""
        x = self.pool(torch.relu(self.conv1(image)))  # (B, 32, H/2, W/2)
        x = torch.relu(self.conv2(x))  # (B, 48, H/2, W/2)
        return torch.relu(self.dense(x.flatten(1)))  # (B, F)

    def classify(self, features: Tensor) -> Tensor:
        """(B, F) -> logits (B, K)."""
        return self.output(features)  # (B, K)

    def domain(self, features: Tensor, strength: float = 1.0) -> Tensor:
        """(B, F) -> logits (B,) of being of the target; what comes back to the features is reversed."""
        return self.domain_head(Reverse.apply(features, strength))[:, 0]  # (B,)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, K)."""
        return self.classify(self.features(image))
