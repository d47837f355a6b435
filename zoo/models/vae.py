"""Variational autoencoder: a code that is a distribution, and a decoder that makes new samples from any code.

Kingma and Welling, "Auto-Encoding Variational Bayes", 2014 (arXiv 1312.6114), sections 2.3 and 3, appendix C:

    q(z|x) = N(mean(x), diag var(x))        p(z) = N(0, I)
    p(x|z) = Bernoulli(sigmoid(f(z)))  or  N(f(z), s^2 I)

Encoder and decoder are multilayer perceptrons. With classes it is the conditional VAE of Sohn, Lee, Yan, "Learning
Structured Output Representation using Deep Conditional Generative Models", 2015: q(z|x, y) and p(x|z, y), where both
networks see the label, one of K, beside their input; p(z) does not depend on it (their section 4.1 lets it).

Departures from the paper
1. Any number of hidden layers and any activation (the paper: one, tanh); a layer of 400 by default.
2. s is one number for all values, fixed or learnt as in Rybkin, Daniilidis, Levine 2021 (the paper: a network's).
3. `forward` decodes the mean of the code, so that it does not draw. What is drawn in training is the task's.

Axes: B batch, C channels, H height, W width, F values of a sample, Z latent variables, K classes
Trained by: variational    Data: any image set with pixels in [0, 1], any table
Equal to: probabilistic PCA, where encoder and decoder are linear (tests)
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UserError, suggest
from zoo.layers.by_name import activation as activation_by_name

LIKELIHOODS = ("auto", "bernoulli", "gaussian")
RECTIFIERS = ("ReLU", "LeakyReLU", "GELU", "SiLU", "ELU")


class Posterior(NamedTuple):
    """q(z|x): mean and logarithm of the variance, (B, Z) each."""

    mean: Tensor
    log_var: Tensor


class VAEOutput(NamedTuple):
    """What is decoded from the mean of the code, like x: logits (Bernoulli) or means (Gaussian); and the posterior."""

    output: Tensor
    mean: Tensor
    log_var: Tensor


def hidden_layers(widths: Sequence[int], activation: str) -> nn.Sequential:
    """An affine map and a nonlinearity from each width to the next, (..., widths[0]) -> (..., widths[-1])."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), activation_by_name(activation)]
    return nn.Sequential(*layers)


class VAE(nn.Module):
    """Dense encoder and decoder, each the other's mirror image.

    Args:
        in_features: F, the size of one flattened input.
        image_shape: (C, H, W), or None for rows of a table.
        num_classes: K of a conditional model, or None.
        hidden_features: widths of the encoder's hidden layers; the decoder has them the other way round. Empty: linear.
        latent_size: Z.
        activation: name in torch.nn.
        likelihood: "bernoulli", "gaussian", or "auto": the first for images, the second for rows.
        std: s of the Gaussian, or where it starts.
        learn_std: whether s is learnt.

    Attributes:
        output_log_var: log s^2, (); of a Gaussian alone.
    """

    output_log_var: Tensor

    def __init__(
        self,
        *,
        in_features: int | None,
        image_shape: Sequence[int] | None = None,
        num_classes: int | None = None,
        hidden_features: Sequence[int] = (400,),
        latent_size: int = 20,
        activation: str = "ReLU",
        likelihood: str = "auto",
        std: float = 1.0,
        learn_std: bool = False,
    ) -> None:
        super().__init__()
        if in_features is None:
            raise UserError(
                "A VAE codes images or rows of a table, and this data has neither; use data=digits, for instance."
            )
        if likelihood not in LIKELIHOODS:
            raise UserError(f"There is no model.likelihood={likelihood}{suggest(likelihood, LIKELIHOODS)}")
        if not std > 0:
            raise UserError(f"model.std={std} must be above 0.")
        self.shape = tuple(image_shape) if image_shape else (in_features,)
        self.is_image = image_shape is not None
        self.latent_size, self.num_classes = latent_size, num_classes
        self.likelihood = likelihood if likelihood != "auto" else "bernoulli" if self.is_image else "gaussian"
        widths, told = [*hidden_features], num_classes or 0
        self.encoder = hidden_layers([in_features + told, *widths], activation)
        last = [in_features + told, *widths][-1]
        self.mean, self.log_var = nn.Linear(last, latent_size), nn.Linear(last, latent_size)
        self.decoder = hidden_layers([latent_size + told, *widths[::-1]], activation)
        self.output = nn.Linear([latent_size + told, *widths[::-1]][-1], in_features)
        if self.likelihood == "gaussian":
            log_var = 2 * torch.tensor(std).log()
            if learn_std:
                self.output_log_var = nn.Parameter(log_var)
            else:
                self.register_buffer("output_log_var", log_var)
        self.reset_parameters(activation)

    def reset_parameters(self, activation: str) -> None:
        # As in the MLP: He for rectifiers, Xavier for the others, and for what has no nonlinearity after it. Both
        # halves of the code then start near N(0, I), where the divergence from the prior is small.
        for half in (self.encoder, self.decoder):
            for layer in half:
                if isinstance(layer, nn.Linear) and activation in RECTIFIERS:
                    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
                elif isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
        for layer in (self.mean, self.log_var, self.output):
            nn.init.xavier_uniform_(layer.weight)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)

    def joined(self, x: Tensor, label: Tensor | None) -> Tensor:
        """x (B, ..., F) with its label, one of K, beside it: (B, ..., F + K). Of no label, all K are 0.

        Args:
            label: (B,) int64, or (B, K) float for several labels a sample.
        """
        if not self.num_classes:
            return x
        if label is None:
            told = x.new_zeros(x.shape[0], self.num_classes)  # (B, K)
        else:
            told = (F.one_hot(label, self.num_classes) if label.ndim == 1 else label).to(x.dtype)  # (B, K)
        told = told.view(x.shape[0], *[1] * (x.ndim - 2), -1)  # (B, 1, ..., K)
        return torch.cat([x, told.expand(*x.shape[:-1], -1)], dim=-1)

    def encode(self, x: Tensor, label: Tensor | None = None) -> Posterior:
        """x (B, C, H, W) or (B, F), label see `joined` -> q(z|x) or q(z|x, y)."""
        h = self.encoder(self.joined(x.flatten(1), label))  # (B, D)
        return Posterior(self.mean(h), self.log_var(h))  # (B, Z) each

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """z (B, ..., Z), label (B,) -> logits or means (B, ..., *shape)."""
        h = self.decoder(self.joined(z, label))  # (B, ..., D)
        return self.output(h).unflatten(-1, self.shape)  # (B, ..., C, H, W) or (B, ..., F)

    def forward(self, x: Tensor, label: Tensor | None = None) -> VAEOutput:
        """x (B, C, H, W) or (B, F) -> what is decoded from the mean of its code, and the posterior."""
        mean, log_var = self.encode(x, label)  # (B, Z) each
        return VAEOutput(self.decode(mean, label), mean, log_var)

    # ---- as a generator

    def latent(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n codes of the prior, (n, Z)."""
        return torch.randn(n, self.latent_size, generator=generator).to(self.output.weight)

    @torch.no_grad()
    def from_latent(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """What a code (n, Z) looks like, (n, *shape): the mean of p(x|z), of images in [0, 1]."""
        decoded = self.decode(z, label)
        if self.likelihood == "bernoulli":
            return decoded.sigmoid()
        return decoded.clamp(0, 1) if self.is_image else decoded

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator, label: Tensor | None = None) -> Tensor:
        """(n, *shape): means of p(x|z) for images, draws of it for the rows of a table.

        Args:
            generator: on the CPU.
            label: (n,) of a conditional model; without it, classes are drawn.
        """
        if self.num_classes and label is None:
            label = torch.randint(self.num_classes, (n,), generator=generator).to(self.output.weight.device)
        return self.observed(self.from_latent(self.latent(n, generator=generator), label), generator=generator)

    @torch.no_grad()
    def observed(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        """Means of p(x|z), (n, *shape) -> what `sample` makes of them."""
        if self.is_image:
            return x
        if self.likelihood == "bernoulli":
            return (torch.rand(x.shape, generator=generator).to(x) < x).to(x.dtype)
        return x + (0.5 * self.output_log_var).exp() * torch.randn(x.shape, generator=generator).to(x)
