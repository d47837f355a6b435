"""Layers written out from their equations: twins of torch.nn, with the same parameters under the same names.

`scratch=true` on the command line trains any model with them. Each is equal to torch's layer forward and backward
(tests/scratch/test_layers.py); they are for reading, and slower.

Axes: B batch, C input channels, O output channels, H height, W width, k kernel, L places of the kernel in the image
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """y = x W^T + b."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum("...i,oi->...o", x, self.weight)
        return y if self.bias is None else y + self.bias


class Conv2d(nn.Conv2d):
    """Cross-correlation: each output is the inner product of the kernel with the patch under it; nothing is flipped."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H', W') with H' = floor((H + 2 padding - dilation (k - 1) - 1) / stride) + 1."""
        patches = F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)  # type: ignore[arg-type]
        y = torch.einsum("bpl,op->bol", patches, self.weight.flatten(1))  # (B, O, L)
        y = y if self.bias is None else y + self.bias[:, None]
        return y.unflatten(2, self.places(x))  # (B, O, H', W')

    def places(self, x: Tensor) -> tuple[int, int]:
        """H' and W'."""
        padding: Any = self.padding
        height, width = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(x.shape[2:], padding, self.dilation, self.kernel_size, self.stride, strict=True)
        )
        return height, width


def windows(x: Tensor, size: Any, stride: Any) -> Tensor:
    """(B, C, H, W) -> the values under each place of a square window, (B, C, H', W', size * size)."""
    return x.unfold(2, size, stride).unfold(3, size, stride).flatten(-2)


class MaxPool2d(nn.MaxPool2d):
    """The largest value under the window; the gradient goes to that value alone."""

    def forward(self, x: Tensor) -> Tensor:
        return windows(x, self.kernel_size, self.stride).max(-1).values


class AvgPool2d(nn.AvgPool2d):
    """The mean under the window."""

    def forward(self, x: Tensor) -> Tensor:
        return windows(x, self.kernel_size, self.stride).mean(-1)


class Sigmoid(nn.Sigmoid):
    """1 / (1 + e^-x)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1 / (1 + torch.exp(-x.clamp(min=-80)))  # further out exp overflows, and its gradient is no number


class Tanh(nn.Tanh):
    """(e^x - e^-x) / (e^x + e^-x) = 2 sigmoid(2x) - 1."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 / (1 + torch.exp(-2 * x.clamp(min=-40))) - 1


class ReLU(nn.ReLU):
    """max(x, 0); its derivative at 0 is taken as 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.0)


class Dropout(nn.Dropout):
    """Inverted dropout: in training each value is 0 with probability p, and the others are divided by 1 - p."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return x * torch.empty_like(x).bernoulli_(1 - self.p) / (1 - self.p)


TWINS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: Linear,
    nn.Conv2d: Conv2d,
    nn.MaxPool2d: MaxPool2d,
    nn.AvgPool2d: AvgPool2d,
    nn.Sigmoid: Sigmoid,
    nn.Tanh: Tanh,
    nn.ReLU: ReLU,
    nn.Dropout: Dropout,
}


def plain(module: nn.Module) -> bool:
    """Whether the twin covers the module's settings."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    if isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)):
        square = isinstance(module.kernel_size, int) and isinstance(module.stride, int)
        return square and module.padding == 0 and not module.ceil_mode and getattr(module, "dilation", 1) == 1
    return True


def from_scratch(model: nn.Module) -> tuple[list[str], list[str]]:
    """Turns the layers of a model into their twins, in place; parameters and their names stay.

    Returns:
        The kinds of layers that were turned, and those that have no twin.
    """
    turned, left = set(), set()
    for module in model.modules():
        twin = TWINS.get(type(module))
        if twin is not None and plain(module):
            turned.add(type(module).__name__)
            module.__class__ = twin
        elif type(module).__module__.startswith("torch.nn.modules") and not list(module.children()):
            left.add(type(module).__name__)
    return sorted(turned), sorted(left)
