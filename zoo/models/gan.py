"""Generative adversarial network of dense layers: one net makes samples, another tells them from real ones.

Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio, "Generative adversarial nets", 2014 (arXiv
1406.2661), equation 1:

    min_G max_D  E_x log D(x) + E_z log(1 - D(G(z)))        z ~ p(z)
    best D for a given G:  p(x) / (p(x) + p_G(x)),  1/2 everywhere once p_G = p

A maxout unit is the largest of k affine maps (Goodfellow et al. 2013, arXiv 1302.4389):  h = max_j (W_j x + b_j).

Departures from the paper
1. Sizes are the authors' for MNIST, as they published them: 100-1200-1200 rectifiers, two layers of 240 maxout units of
   5 pieces, dropout 0.2 on the input and 0.5 on what follows. They are settings here, and so is the nonlinearity.
2. Weights start as He et al. 2015 have it (Glorot and Bengio 2010 for tanh), not uniform within +-0.05 and +-0.005, so
   that small nets for points of a plane start to move, too. Biases start at 0, not at the marginals of the pixels.
3. No column of weights is held below a norm.
4. `num_classes` gives both nets the label beside their input (Mirza and Osindero 2014).

The discriminator gives logits: the sigmoid belongs to the loss, and a critic has none.

Axes: B batch, Z latent, F values of a sample, K classes
Trained by: adversarial    Data: any images or tables; ring and grid for its diseases
Equal to: the same nets in plain torch.nn (tests)
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from zoo.errors import UserError, suggest
from zoo.layers.adversaries import Adversaries, check_sizes, with_label

ACTIVATIONS = ("maxout", "LeakyReLU", "ReLU", "Tanh")


class Maxout(nn.Module):
    """The largest of `pieces` affine maps, (B, in_features) -> (B, units)."""

    def __init__(self, in_features: int, units: int, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(in_features, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(1, (-1, self.pieces)).amax(2)  # (B, units)


def hidden_layers(
    sizes: Sequence[int], activation: str, *, pieces: int = 1, input_dropout: float = 0.0, dropout: float = 0.0
) -> list[nn.Module]:
    """Layers from sizes[0] to sizes[-1], each with its nonlinearity and, where it is above 0, dropout."""
    if activation not in ACTIVATIONS:
        raise UserError(f"There is no activation '{activation}'{suggest(activation, ACTIVATIONS)}")
    layers: list[nn.Module] = [nn.Dropout(input_dropout)] if input_dropout else []
    for before, after in pairwise(sizes):
        if activation == "maxout":
            layers.append(Maxout(before, after, pieces))
        else:
            function = nn.LeakyReLU(0.2) if activation == "LeakyReLU" else getattr(nn, activation)()
            layers += [nn.Linear(before, after), function]
        layers += [nn.Dropout(dropout)] if dropout else []
    return layers


def reset_parameters(layers: nn.Module, activation: str) -> None:
    # Keeps the variance from layer to layer. The largest of several draws needs no factor 2 to do so.
    for layer in layers.modules():
        if isinstance(layer, nn.Linear):
            if activation in ("ReLU", "LeakyReLU"):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            else:
                bound = math.sqrt(3 / layer.in_features)
                nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)


class Generator(nn.Module):
    """From noise to samples.

    Args:
        sizes: Z (with K added to it for a conditional net), then the hidden layers.
        shape: of one sample.
        activation: of the hidden layers.
        output_activation: Sigmoid or None.
        num_classes: K, or None.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        shape: Sequence[int],
        *,
        activation: str,
        pieces: int,
        output_activation: str | None,
        num_classes: int | None,
    ) -> None:
        super().__init__()
        self.shape, self.num_classes = tuple(shape), num_classes
        layers = [*hidden_layers(sizes, activation, pieces=pieces), nn.Linear(sizes[-1], math.prod(shape))]
        self.layers = nn.Sequential(*layers, *([nn.Sigmoid()] if output_activation else []))
        reset_parameters(self.layers, activation)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, Z) and (B,) int64 -> (B, *shape)."""
        x = self.layers(with_label(z, label, self.num_classes))  # (B, F)
        return x.unflatten(1, self.shape)  # (B, *shape)


class Discriminator(nn.Module):
    """From samples to logits.

    Args:
        sizes: F (with K added to it for a conditional net), then the hidden layers.
        activation, pieces: of the hidden layers.
        dropout, input_dropout: shares of hidden units and of inputs set to 0 in training.
        num_classes: K, or None.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str,
        pieces: int,
        dropout: float,
        input_dropout: float,
        num_classes: int | None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        hidden = hidden_layers(sizes, activation, pieces=pieces, input_dropout=input_dropout, dropout=dropout)
        self.layers = nn.Sequential(*hidden, nn.Linear(sizes[-1], 1))
        reset_parameters(self.layers, activation)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, *shape) and (B,) int64 -> logits (B,)."""
        x = with_label(x.flatten(1), label, self.num_classes)  # (B, F)
        return self.layers(x).squeeze(1)  # (B,)


class GAN(Adversaries):
    """A dense generator and a dense discriminator; see `Adversaries` for how they are used.

    Args:
        image_shape: (C, H, W) of images; None for rows of a table.
        num_features: F of such a row; of images it follows.
        latent_size: Z.
        prior: of the noise, normal or uniform.
        num_classes: K of a conditional pair; None: labels are left aside.
        generator_features: units of the generator's hidden layers.
        generator_activation: maxout, LeakyReLU (slope 0.2), ReLU or Tanh.
        discriminator_features, discriminator_activation: the same of the discriminator.
        pieces: affine maps of a maxout unit.
        dropout, input_dropout: of the discriminator; see `Discriminator`.
        output_activation: Sigmoid for values in [0, 1], None for any, auto: Sigmoid where there is an image_shape.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int] | None = None,
        num_features: int | None = None,
        latent_size: int = 100,
        prior: str = "normal",
        num_classes: int | None = None,
        generator_features: Sequence[int] = (1200, 1200),
        generator_activation: str = "ReLU",
        discriminator_features: Sequence[int] = (240, 240),
        discriminator_activation: str = "maxout",
        pieces: int = 5,
        dropout: float = 0.5,
        input_dropout: float = 0.2,
        output_activation: str | None = "auto",
    ) -> None:
        check_sizes([latent_size], "latent_size")
        if output_activation not in ("auto", "Sigmoid", None):
            raise UserError(f"There is no model.output_activation={output_activation}; there is auto, Sigmoid, null.")
        if output_activation == "auto":
            output_activation = "Sigmoid" if image_shape else None
        shape = tuple(image_shape or (num_features or 1,))
        beside = num_classes or 0
        generator = Generator(
            [latent_size + beside, *generator_features],
            shape,
            activation=generator_activation,
            pieces=pieces,
            output_activation=output_activation,
            num_classes=num_classes,
        )
        discriminator = Discriminator(
            [math.prod(shape) + beside, *discriminator_features],
            activation=discriminator_activation,
            pieces=pieces,
            dropout=dropout,
            input_dropout=input_dropout,
            num_classes=num_classes,
        )
        super().__init__(generator, discriminator, latent_size=latent_size, prior=prior, num_classes=num_classes)
