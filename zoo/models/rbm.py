"""Restricted Boltzmann machine: binary hidden units that learn what in the data goes together.

Hinton, "Training products of experts by minimizing contrastive divergence", 2002:

    p(v) = 1/Z sum_h e^-E(v,h)        E(v, h) = -v W h - b v - c h        P(h_j = 1 | v) = sigmoid(c_j + v W_j)

Each hidden unit is an opinion on the whole of v, and p(v) is proportional to the product of all opinions. The energy of
Gaussian visible units, for columns of a table, stands in `zoo.layers.boltzmann`.

Departures from the paper
1. The division of work: the machine says what is likely and what is drawn, the task learns it (zoo.tasks). Nothing here
   knows of contrastive divergence.
2. Gaussian units have variance 1, that of standardized columns, and do not learn it.

Axes: B batch, V visible units, H hidden units
Trained by: contrastive_divergence    Data: images with pixels in [0, 1]; any table
Equal to: enumeration of all states: free energies, conditional probabilities, samples (tests)
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError
from zoo.layers.boltzmann import RBMLayer, size_of, visible_kind


class RBM(nn.Module):
    """One machine.

    Args:
        in_features: V, the size of one flattened sample.
        hidden_features: H.
        image_shape: (C, H, W) of the images, None for rows of a table.
        visible: "bernoulli" or "gaussian"; None: Bernoulli for images, Gaussian for tables.
        std: deviation of the weights at the start.
        gibbs_steps: of a sample, from fair coins on.
    """

    def __init__(
        self,
        *,
        in_features: int | None,
        hidden_features: int = 128,
        image_shape: Sequence[int] | None = None,
        visible: str | None = None,
        std: float = 0.01,
        gibbs_steps: int = 1000,
    ) -> None:
        super().__init__()
        size, kind = size_of(in_features), visible_kind(visible, image_shape)
        self.image_shape = tuple(image_shape) if image_shape is not None else (size,)  # of one sample
        self.layers: Any = nn.ModuleList([RBMLayer(size, hidden_features, visible=kind, std=std)])
        self.gibbs_steps = gibbs_steps

    def up(self, x: Tensor, depth: int | None = None) -> Tensor:
        """(B, ...) -> (B, H); with `depth` 0 the sample itself, (B, V)."""
        x = x.flatten(1)  # (B, V)
        return x if depth == 0 else self.layers[0](x)  # (B, H)

    def down(self, h: Tensor, depth: int | None = None) -> Tensor:
        """Hidden units (B, H) -> probabilities or means of a sample, (B, *image_shape)."""
        h = h if depth == 0 else self.layers[0].visible_means(h)  # (B, V)
        return h.unflatten(1, self.image_shape)  # (B, *image_shape)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) with V values in all but the first axis -> features P(h = 1 | v), (B, H)."""
        return self.up(x)  # (B, H)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator, label: Tensor | None = None) -> Tensor:
        """(n, *image_shape): probabilities of the pixels, or drawn rows of a table, after Gibbs sampling.

        Raises:
            UserError: a label is asked for, of which the machine knows nothing.
        """
        if label is not None:
            raise UserError("model=rbm learns without labels and cannot draw one class; leave label= out.")
        layer = self.layers[0]
        h = layer.dream(n, self.gibbs_steps, generator)  # (n, H)
        if layer.is_binary:
            return self.down(h)  # (n, *image_shape)
        noise = torch.rand(n, len(layer.visible_bias), generator=generator)
        return layer.sample_visible(h, noise.to(h)).unflatten(1, self.image_shape)
