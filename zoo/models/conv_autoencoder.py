"""Convolutional autoencoder: convolutions of stride 2 down to the codes, transposed convolutions up again.

Masci, Meier, Ciresan, Schmidhuber, "Stacked convolutional auto-encoders for hierarchical feature extraction", 2011;
Zeiler, Krishnan, Taylor, Fergus, "Deconvolutional networks", 2010. A kernel of odd size k, padded by (k - 1) / 2, turns

    n values at stride 2 into m = ceil(n / 2)          and transposed, m values into 2 m - 1, and one more if asked to

(Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, relations 6 and 14), so the way up
asks for one more where n was even, and meets the sizes of the way down whatever they were.

Departures from the paper
1. Strides take the place of max-pooling, and kernels of their own that of the flipped ones.
2. A dense layer on each side makes one vector of the smallest maps; the paper's codes are the maps.
3. All layers are trained at once, from random weights.

Axes: B batch, C channels, H height, W width, c x h x w the smallest maps, Z codes
Trained by: reconstruction    Data: digits, mnist, fashion_mnist, cifar10
Equal to: the same layers in torch.nn (tests)
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from zoo.errors import UserError
from zoo.layers.by_name import activation as activation_by_name


class ConvAutoencoder(nn.Module):
    """Convolutions and a dense layer down to the codes, a dense layer and transposed convolutions up again.

    Args:
        image_shape: (C, H, W).
        channels: maps of each convolution; each halves height and width, rounding up.
        latent_size: Z.
        kernel_size: k, odd.
        activation: a name in torch.nn, after each layer but those of the codes and of the output.
        code_activation: the same for the codes; None leaves them linear.
        output_activation: the same for what is said, such as Sigmoid for pixels in [0, 1]; None leaves it linear.

    Raises:
        UserError: the kernel is even, there is no convolution, or an activation is unknown.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        channels: Sequence[int] = (16, 32),
        latent_size: int = 8,
        kernel_size: int = 3,
        activation: str = "SiLU",
        code_activation: str | None = None,
        output_activation: str | None = None,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise UserError(f"model.kernel_size={kernel_size} must be odd, so that a kernel has a middle.")
        if not channels:
            raise UserError("model.channels=[] leaves no convolution; give at least one, or use model=autoencoder.")
        self.latent_size, self.code_activation, self.output_activation = latent_size, code_activation, output_activation
        depths, sizes = [image_shape[0], *channels], [tuple(image_shape[1:])]  # of the maps, on the way down
        for _ in channels:
            height, width = sizes[-1]
            sizes.append(((height + 1) // 2, (width + 1) // 2))
        smallest = (depths[-1], *sizes[-1])  # c, h, w
        options: dict[str, Any] = {"kernel_size": kernel_size, "stride": 2, "padding": kernel_size // 2}
        down: list[nn.Module] = []
        up: list[nn.Module] = [nn.Linear(latent_size, math.prod(smallest)), activation_by_name(activation)]
        up.append(nn.Unflatten(1, smallest))
        for before, after in pairwise(depths):
            down += [nn.Conv2d(before, after, **options), activation_by_name(activation)]
        for i in reversed(range(len(channels))):
            one_more = (1 - sizes[i][0] % 2, 1 - sizes[i][1] % 2)  # where it was even
            up.append(nn.ConvTranspose2d(depths[i + 1], depths[i], **options, output_padding=one_more))
            up += [activation_by_name(activation)] if i else []
        down += [nn.Flatten(), nn.Linear(math.prod(smallest), latent_size)]
        self.encoder = nn.Sequential(*down, *([activation_by_name(code_activation)] if code_activation else []))
        self.decoder = nn.Sequential(*up, *([activation_by_name(output_activation)] if output_activation else []))
        self.reset_parameters(rectified=activation in ("ReLU", "LeakyReLU", "GELU", "SiLU", "ELU"))

    def reset_parameters(self, *, rectified: bool) -> None:
        # Keeps the variance of what goes forward from layer to layer; a rectifier drops half of it. A place of the way
        # up gets a quarter of a transposed kernel's products, since at stride 2 its neighbours get the others.
        for stack in (self.encoder, self.decoder):
            layers = [m for m in stack if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))]
            for layer in layers:
                transposed = isinstance(layer, nn.ConvTranspose2d)
                products = layer.weight[:, 0].numel() / 4 if transposed else layer.weight[0].numel()
                gain = 2 if rectified and layer is not layers[-1] else 1
                bound = math.sqrt(3 * gain / products)  # of a uniform draw with variance gain / products
                nn.init.uniform_(layer.weight, -bound, bound)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> codes (B, Z)."""
        return self.encoder(x)  # (B, Z)

    def decode(self, codes: Tensor) -> Tensor:
        """(B, Z) -> (B, C, H, W)."""
        return self.decoder(codes)  # (B, C, H, W)

    def forward(self, x: Tensor) -> Tensor:
        """Like x: what is left of it."""
        return self.decode(self.encode(x))
