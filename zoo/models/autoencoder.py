"""Autoencoder: says its input again through a few numbers, its codes, from which alone the input is rebuilt.

Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313, 2006, figure 1:

    z  = W_L h_(L-1) + b_L         h_l = f(W_l h_(l-1) + b_l),  h_0 = x          encode, the last layer linear
    x' = g(V_1 k_1 + c_1)          k_l = f(V_(l+1) k_(l+1) + c_(l+1)),  k_L = z  decode, the same widths backwards

Without hidden layers and with f, g the identity it is linear, and its best codes span the subspace of PCA.

Departures from the paper
1. The weights start at random; the paper pre-trains each layer as a restricted Boltzmann machine.
2. f is of choice (the paper: logistic), and so is an activation of the codes (the paper: none), which sparse and
   contractive autoencoders have.
3. `tied` makes V_l the transpose of W_l for good (Vincent et al. 2010, section 3.1); the paper only starts there.

Axes: B batch, F values of a sample, D width of a hidden layer, Z codes
Trained by: reconstruction    Data: any table or image set
Equal to: PCA where it is linear, and the same layers in torch.nn (tests)
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UserError
from zoo.layers.by_name import activation as activation_by_name


class TiedLinear(nn.Module):
    """The way back through a linear layer, with its weight W (D_out, D_in): y = x W + b, (B, D_out) -> (B, D_in)."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = (layer,)  # in a tuple: its weight is not this module's, too
        self.bias = nn.Parameter(torch.zeros(layer.in_features))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.layer[0].weight.T, self.bias)


class Autoencoder(nn.Module):
    """Dense layers down to the codes, and the same widths up again.

    Args:
        in_features: F, the size of one flattened input; None where image_shape says it.
        image_shape: (C, H, W) of images, which are given back in this shape; None for rows of a table.
        hidden_features: D of each hidden layer of the encoder; empty leaves one layer each way.
        latent_size: Z.
        activation: f, a name in torch.nn, for instance ReLU, Tanh, Sigmoid.
        code_activation: the same for the codes; None leaves them linear.
        output_activation: g, the same for what is said, such as Sigmoid for pixels in [0, 1]; None leaves it linear.
        tied: the decoder's weights are those of the encoder, transposed.

    Raises:
        UserError: an activation is unknown, or the sizes do not agree.
    """

    def __init__(
        self,
        *,
        in_features: int | None = None,
        image_shape: Sequence[int] | None = None,
        hidden_features: Sequence[int] = (128, 64),
        latent_size: int = 8,
        activation: str = "SiLU",
        code_activation: str | None = None,
        output_activation: str | None = None,
        tied: bool = False,
    ) -> None:
        super().__init__()
        num_features = in_features if image_shape is None else math.prod(image_shape)
        if num_features is None or in_features not in (None, num_features):
            raise UserError(f"model.in_features={in_features} does not agree with model.image_shape={image_shape}.")
        self.shape = (num_features,) if image_shape is None else tuple(image_shape)
        self.latent_size, self.code_activation, self.output_activation = latent_size, code_activation, output_activation
        widths = [num_features, *hidden_features, latent_size]
        down = [nn.Linear(before, after) for before, after in pairwise(widths)]
        up = [TiedLinear(layer) if tied else nn.Linear(layer.out_features, layer.in_features) for layer in down[::-1]]
        self.encoder = stacked(down, activation, code_activation)
        self.decoder = stacked(up, activation, output_activation)
        self.reset_parameters(activation)

    def reset_parameters(self, activation: str) -> None:
        # Keeps the variance from layer to layer: He before a rectifier, which drops half of it, Xavier elsewhere, as
        # before the codes and the output.
        rectified = activation in ("ReLU", "LeakyReLU", "GELU", "SiLU", "ELU")
        for stack in (self.encoder, self.decoder):
            layers = [layer for layer in stack if isinstance(layer, nn.Linear)]
            for layer in layers:
                if rectified and layer is not layers[-1]:
                    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
                else:
                    nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    @property
    def one_sigmoid_layer(self) -> Tensor | None:
        """W (Z, F) where the codes are sigmoid(W x + b), whose Jacobian has a closed form; None else."""
        first = self.encoder[0]
        return first.weight if len(self.encoder) == 2 and self.code_activation == "Sigmoid" else None  # type: ignore[return-value]

    def encode(self, x: Tensor) -> Tensor:
        """(B, ...) with F values in all but the first axis -> codes (B, Z)."""
        return self.encoder(x.flatten(1))  # (B, Z)

    def decode(self, codes: Tensor) -> Tensor:
        """(B, Z) -> (B, F), or (B, C, H, W) of images."""
        return self.decoder(codes).unflatten(1, self.shape)  # (B, F), or (B, C, H, W)

    def forward(self, x: Tensor) -> Tensor:
        """Like x: what is left of it."""
        return self.decode(self.encode(x))


def stacked(layers: Sequence[nn.Module], activation: str, last: str | None) -> nn.Sequential:
    """The layers with an activation between them, and another after the last one."""
    parts: list[nn.Module] = []
    for layer in layers[:-1]:
        parts += [layer, activation_by_name(activation)]
    return nn.Sequential(*parts, layers[-1], *([activation_by_name(last)] if last else []))
