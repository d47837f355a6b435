"""Dense layer, embedding and dropout written out; further layers are in the files beside, named for what they hold.

A twin has torch's constructor, and the same parameters under the same names: only `forward` is its own. Each is equal
to torch's forward and backward (tests/scratch); they are for reading, and slower.
`scratch=true` on the command line trains any model with them (zoo.scratch.swap).
"""

from typing import cast

import torch
from torch import Tensor, nn


class Linear(nn.Linear):
    """y = x W^T + b."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum("...i,oi->...o", x, self.weight)
        return y if self.bias is None else y + self.bias


class Embedding(nn.Embedding):
    """Row x of the table, for each token x: one_hot(x) W, without the multiplications by 0."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.weight.index_select(0, x.flatten()).view(*x.shape, self.embedding_dim)  # (*, D)
        if self.padding_idx is None:
            return y
        return torch.where((x == self.padding_idx).unsqueeze(-1), y.detach(), y)  # padding learns nothing


def collapse(layers: nn.Sequential) -> nn.Linear:
    """The one dense layer that a stack of dense layers is: W_2 (W_1 x + b_1) + b_2 = (W_2 W_1) x + (W_2 b_1 + b_2).

    Depth without a nonlinearity adds no function that one layer does not have; fewer units between may take some away.

    Raises:
        ValueError: a layer of the stack is not dense.
    """
    for layer in layers:
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"a {type(layer).__name__} between dense layers keeps them from being one.")
    first, *others = (cast(nn.Linear, layer) for layer in layers)
    with torch.no_grad():
        weight, bias = first.weight, intercept(first)
        for layer in others:
            weight, bias = layer.weight @ weight, layer.weight @ bias + intercept(layer)
    whole = nn.Linear(first.in_features, len(weight)).to(weight)
    whole.load_state_dict({"weight": weight, "bias": bias})
    return whole


def intercept(layer: nn.Linear) -> Tensor:
    """The bias of a dense layer, (O,); zeros where it has none."""
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias


class Dropout(nn.Dropout):
    """Inverted dropout: in training each value is 0 with probability p, and the others are divided by 1 - p."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        keep = 1 - self.p
        return x * torch.empty_like(x).bernoulli_(keep) / (keep or 1)


class ClassicDropout(nn.Module):
    """Dropout as it was published: values are dropped in training, and all are multiplied by 1 - p in evaluation.

    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, "Dropout: a simple way to prevent neural networks from
    overfitting", 2014, section 4. The expectation is 1 - p times that of `Dropout`, in training and evaluation alike.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        keep = 1 - self.p
        return x * torch.empty_like(x).bernoulli_(keep) if self.training else x * keep
