"""A restricted Boltzmann machine as a layer, and stacks of them: deep belief nets and denoising autoencoders alike.

Smolensky, "Information processing in dynamical systems: foundations of harmony theory", 1986. Binary hidden units h and
visible units v, without connections inside either side, have the energy

    E(v, h) = -v W h - b v - c h                          Bernoulli: v in {0, 1}
    E(v, h) = |v - b|^2 / 2 - v W h - c h                 Gaussian: v real, of variance 1 (Hinton 2012, section 13.2)

and p(v, h) = e^-E / Z. Given one side, the units of the other are independent: P(h_j = 1 | v) = s(c_j + v W_j) with the
sigmoid s, and P(v_i = 1 | h) = s(b_i + W_i h), or v_i normal about b_i + W_i h. Summing one side out of e^-E leaves the
free energy of the other, p(v) = e^-F(v) / Z:

    F(v) = -b v - sum_j softplus(c_j + v W_j)             Gaussian: |v - b|^2 / 2 in place of -b v

Hinton, "A practical guide to training restricted Boltzmann machines", 2012.

Axes: B batch, V visible units, H hidden units, K classes
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UserError, suggest

KINDS = ("bernoulli", "gaussian")
LEAST = 2.0**-25  # half the step between two uniform numbers of float32: a draw of 0 would be a value of -infinity


class RBMLayer(nn.Module):
    """One restricted Boltzmann machine, pure: what is drawn is drawn by noise that the caller brings.

    Args:
        num_visible: V.
        num_hidden: H.
        visible: "bernoulli" or "gaussian".
        std: deviation of the weights at the start; None takes 4 sqrt(2 / (V + H)), Xavier's for sigmoids, which lets
            gradients through a stack (Glorot and Bengio 2010).
    """

    def __init__(
        self, num_visible: int, num_hidden: int, *, visible: str = "bernoulli", std: float | None = 0.01
    ) -> None:
        super().__init__()
        if visible not in KINDS:
            raise UserError(f"There is no model.visible={visible}{suggest(visible, KINDS)}")
        self.visible = visible
        self.weight = nn.Parameter(torch.empty(num_visible, num_hidden))
        self.visible_bias = nn.Parameter(torch.empty(num_visible))
        self.hidden_bias = nn.Parameter(torch.empty(num_hidden))
        self.reset_parameters(std)

    def reset_parameters(self, std: float | None) -> None:
        # Small weights: at first all units are as likely on as off, and none is alike another (Hinton 2012, section 8).
        num_visible, num_hidden = self.weight.shape
        nn.init.normal_(self.weight, std=4 * math.sqrt(2 / (num_visible + num_hidden)) if std is None else std)
        nn.init.zeros_(self.visible_bias)
        nn.init.zeros_(self.hidden_bias)

    @property
    def is_binary(self) -> bool:
        """Whether the visible units are."""
        return self.visible == "bernoulli"

    def hidden_logits(self, v: Tensor) -> Tensor:
        """(..., V) -> (..., H)."""
        return F.linear(v, self.weight.T, self.hidden_bias)

    def visible_logits(self, h: Tensor) -> Tensor:
        """(..., H) -> (..., V), of Gaussian units their means."""
        return F.linear(h, self.weight, self.visible_bias)

    def visible_means(self, h: Tensor) -> Tensor:
        """(..., H) -> (..., V), probabilities or means."""
        return self.means(self.visible_logits(h))

    def means(self, logits: Tensor) -> Tensor:
        """Logits of visible units (..., V) -> their probabilities; means stay what they are."""
        return logits.sigmoid() if self.is_binary else logits

    def sample_hidden(self, v: Tensor, noise: Tensor) -> Tensor:
        """(..., V) and uniform noise (..., H) -> (..., H) of 0 and 1."""
        return (noise < self.hidden_logits(v).sigmoid()).to(v.dtype)

    def sample_visible(self, h: Tensor, noise: Tensor) -> Tensor:
        """(..., H) and uniform noise (..., V) -> (..., V)."""
        return self.drawn(self.visible_means(h), noise)

    def drawn(self, means: Tensor, noise: Tensor) -> Tensor:
        """Visible units (..., V) of which the probabilities or means are known, by uniform noise (..., V)."""
        if self.is_binary:
            return (noise < means).to(means.dtype)
        noise = noise.to(torch.promote_types(noise.dtype, torch.float32))  # 16 bits are too few near 1
        return means + torch.special.ndtri(noise.clamp(LEAST, 1 - torch.finfo(noise.dtype).eps / 2)).to(means.dtype)

    def visible_energy(self, v: Tensor, bias: Tensor) -> Tensor:
        """The part of the energy that knows no hidden unit, (..., V) -> (...)."""
        return -(v @ bias) if self.is_binary else 0.5 * (v - bias).square().sum(-1)

    def free_energy(self, v: Tensor) -> Tensor:
        """F(v), (..., V) -> (...), in nats."""
        return self.visible_energy(v, self.visible_bias) - F.softplus(self.hidden_logits(v)).sum(-1)

    def hidden_free_energy(self, h: Tensor) -> Tensor:
        """The same of the other side, p(h) = e^-F(h) / Z, (..., H) -> (...)."""
        logits = self.visible_logits(h)  # (..., V)
        if self.is_binary:
            return -(h @ self.hidden_bias) - F.softplus(logits).sum(-1)
        # The integral over v of a normal density of variance 1, moved from b to b + W h.
        moved = 0.5 * (logits.square().sum(-1) - self.visible_bias.square().sum())
        return -(h @ self.hidden_bias) - moved - 0.5 * logits.shape[-1] * math.log(2 * math.pi)

    def dream(self, number: int, steps: int, generator: torch.Generator) -> Tensor:
        """What the machine takes for likely: hidden units (number, H) after Gibbs sampling from fair coins.

        Args:
            steps: how often both sides are drawn.
            generator: on the CPU.
        """

        def noise(size: int) -> Tensor:
            return torch.rand(number, size, generator=generator).to(self.weight)

        num_visible, num_hidden = self.weight.shape
        h = (noise(num_hidden) < 0.5).to(self.weight)  # (number, H)
        for _ in range(steps):
            v = self.sample_visible(h, noise(num_visible))  # (number, V)
            h = self.sample_hidden(v, noise(num_hidden))  # (number, H)
        return h

    def forward(self, v: Tensor) -> Tensor:
        """(B, V) -> P(h = 1 | v), (B, H)."""
        return self.hidden_logits(v).sigmoid()


def visible_kind(visible: str | None, image_shape: Sequence[int] | None) -> str:
    """What is asked for, else Bernoulli units for the pixels of images and Gaussian ones for the columns of a table."""
    return visible or ("gaussian" if image_shape is None else "bernoulli")


def size_of(in_features: int | None) -> int:
    """V. Raises UserError where a sample is not so many numbers and nothing else."""
    if in_features is None:
        raise UserError(
            "Restricted Boltzmann machines are for images and tables alone; use data=digits or data=iris, for instance."
        )
    return in_features


class SigmoidStack(nn.Module):
    """Layers on top of one another, each the hidden units of a machine that sees those below it, and perhaps classes.

    As a classifier (`num_outputs`) it has no use for visible biases, which stay as they are.

    Args:
        in_features: V of the first layer, the size of one flattened sample.
        hidden_features: H of each layer.
        image_shape: (C, H, W) of the images, None for rows of a table.
        num_outputs: K, None for no head.
        visible: of the first layer, "bernoulli" or "gaussian"; None: as `visible_kind` has it. All others are binary.
        std: see `RBMLayer`.
    """

    def __init__(
        self,
        *,
        in_features: int | None,
        hidden_features: Sequence[int],
        image_shape: Sequence[int] | None = None,
        num_outputs: int | None = None,
        visible: str | None = None,
        std: float | None = None,
    ) -> None:
        super().__init__()
        if not hidden_features:
            raise UserError("model.hidden_features is empty; give the units of each layer, for instance [256,256].")
        sizes = [size_of(in_features), *hidden_features]
        kinds = [visible_kind(visible, image_shape)] + ["bernoulli"] * len(hidden_features)
        self.image_shape = tuple(image_shape) if image_shape is not None else (sizes[0],)  # of one sample
        self.layers: Any = nn.ModuleList(
            RBMLayer(below, above, visible=kind, std=std)
            for below, above, kind in zip(sizes, sizes[1:], kinds, strict=False)
        )
        self.classify = nn.Linear(sizes[-1], num_outputs) if num_outputs else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.classify is not None:
            # At 0 all classes are as likely; a random head would first of all push the layers below about.
            nn.init.zeros_(self.classify.weight)
            nn.init.zeros_(self.classify.bias)
            for layer in self.layers:
                layer.visible_bias.requires_grad_(False)

    def up(self, x: Tensor, depth: int | None = None) -> Tensor:
        """(B, ...) -> what the first `depth` layers make of it, probabilities; all of them where none is said."""
        x = x.flatten(1)  # (B, V)
        for layer in list(self.layers)[:depth]:
            x = layer(x)  # (B, H)
        return x

    def down(self, h: Tensor, depth: int | None = None) -> Tensor:
        """Units (B, H) of the `depth`-th layer -> probabilities or means of a sample, (B, *image_shape)."""
        for layer in reversed(list(self.layers)[:depth]):
            h = layer.visible_means(h)  # (B, V)
        return h.unflatten(1, self.image_shape)  # (B, *image_shape)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> logits (B, K), or the units of the top layer (B, H)."""
        h = self.up(x)  # (B, H)
        return h if self.classify is None else self.classify(h)  # (B, K)
