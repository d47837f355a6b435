"""A generator and a discriminator as one network: what the dense pair and the convolutional pair have in common.

Axes: B batch, Z latent, F features, C channels, H height, W width, K classes
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UserError, suggest

PRIORS = ("normal", "uniform")


def one_hot(label: Tensor | None, num_classes: int, like: Tensor) -> Tensor:
    """(B,) int64 -> (B, K) of the dtype of `like`; None is no class, a row of zeros for each row of `like`."""
    if label is None:
        return like.new_zeros(len(like), num_classes)
    return F.one_hot(label, num_classes).to(like.dtype)


def with_label(x: Tensor, label: Tensor | None, num_classes: int | None) -> Tensor:
    """The label beside the features (B, F) -> (B, F + K), or as K maps that are 0 or 1 throughout beside (B, C, H, W).

    Mirza and Osindero, "Conditional generative adversarial nets", 2014 (arXiv 1411.1784), figure 1. Without classes x
    stays as it is.
    """
    if not num_classes:
        return x
    beside = one_hot(label, num_classes, x)  # (B, K)
    if x.ndim == 4:
        beside = beside[:, :, None, None].expand(-1, -1, *x.shape[2:])  # (B, K, H, W)
    return torch.cat([x, beside], 1)


class Adversaries(nn.Module):
    """Base of both pairs.

    Args:
        generator: (z (B, Z), label (B,) or None) -> (B, *shape).
        discriminator: (x (B, *shape), label (B,) or None) -> logits (B,), above 0 for what it takes for real.
        latent_size: Z.
        prior: of z, "normal" N(0, 1) or "uniform" in [-1, 1).
        num_classes: K of a conditional pair, or None.
    """

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, *, latent_size: int, prior: str, num_classes: int | None
    ) -> None:
        super().__init__()
        if prior not in PRIORS:
            raise UserError(f"There is no model.prior={prior}{suggest(prior, PRIORS)}")
        self.generator, self.discriminator = generator, discriminator
        self.latent_size, self.prior, self.num_classes = latent_size, prior, num_classes

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) -> logits (B,); of a conditional pair those for no class in particular."""
        return self.discriminator(x)  # (B,)

    def latent(self, n: int, *, generator: torch.Generator) -> Tensor:
        """(n, Z) of the prior, on the CPU."""
        if self.prior == "uniform":
            return 2 * torch.rand(n, self.latent_size, generator=generator) - 1
        return torch.randn(n, self.latent_size, generator=generator)

    @torch.no_grad()
    def from_latent(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, Z) -> (B, *shape). A conditional pair takes the classes in turn where no label is given."""
        first = next(self.generator.parameters())
        if self.num_classes and label is None:
            label = torch.arange(len(z)) % self.num_classes
        label = label.to(first.device) if self.num_classes and label is not None else None
        return self.generator(z.to(first), label)

    def sample(self, n: int, *, generator: torch.Generator, label: Tensor | None = None) -> Tensor:
        """(n, *shape): images with values in [0, 1], rows of a table as they are."""
        return self.from_latent(self.latent(n, generator=generator), label)


def check_sizes(sizes: Sequence[int], name: str) -> None:
    """Raises UserError unless all are whole numbers from 1 on."""
    if not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise UserError(f"model.{name}={list(sizes)} must hold whole numbers from 1 on.")
