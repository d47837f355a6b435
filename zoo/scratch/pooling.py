"""Pooling written out: twins of torch.nn's, over sequences and images.

Each output is the largest value, or the mean of the values, under one place of the window.

Axes: B batch, C channels, *N one axis or two, *N' the places of the window, *k the window
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AvgPoolNd, _MaxPoolNd

from zoo.scratch.windows import pad, per_axis, windows


class MaxPooling(_MaxPoolNd):
    """The largest value under the window; the gradient goes to that value alone, of several to the first."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *N) -> (B, C, *N')."""
        num_axes = x.ndim - 2
        kernel_size, stride, dilation, padding = (
            per_axis(size, num_axes) for size in (self.kernel_size, self.stride, self.dilation, self.padding)
        )
        x = pad(x, [(p, p) for p in padding], value=-torch.inf)
        return windows(x, kernel_size, stride, dilation).flatten(-num_axes).max(-1).values


class MaxPool1d(MaxPooling, nn.MaxPool1d):
    """(B, C, L) -> (B, C, L')."""


class MaxPool2d(MaxPooling, nn.MaxPool2d):
    """(B, C, H, W) -> (B, C, H', W')."""


class AvgPooling(_AvgPoolNd):
    """The mean under the window; zeros of the padding count as values, unless `count_include_pad` is off."""

    kernel_size: Any
    stride: Any
    padding: Any
    count_include_pad: bool
    divisor_override: int | None = None  # torch has it for images alone

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *N) -> (B, C, *N')."""
        sums = self.sums(x)
        if self.divisor_override:
            return sums / self.divisor_override
        counts = self.sums(torch.ones_like(x[:1, :1]))  # (1, 1, *N'): how many values are no padding
        whole = torch.tensor(per_axis(self.kernel_size, x.ndim - 2)).prod()
        return sums / (whole if self.count_include_pad else counts)

    def sums(self, x: Tensor) -> Tensor:
        num_axes = x.ndim - 2
        kernel_size, stride, padding = (
            per_axis(size, num_axes) for size in (self.kernel_size, self.stride, self.padding)
        )
        x = pad(x, [(p, p) for p in padding])
        return windows(x, kernel_size, stride, (1,) * num_axes).flatten(-num_axes).sum(-1)


class AvgPool1d(AvgPooling, nn.AvgPool1d):
    """(B, C, L) -> (B, C, L')."""


class AvgPool2d(AvgPooling, nn.AvgPool2d):
    """(B, C, H, W) -> (B, C, H', W')."""


class AdaptiveAvgPooling(_AdaptiveAvgPoolNd):
    """The mean of each of `output_size` parts of an axis; of the whole axis, where it is 1 (global pooling).

    Part i of m goes from floor(i n / m) to ceil((i + 1) n / m), so neighbours overlap where m does not divide n.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *N) -> (B, C, *output_size)."""
        for axis, m in enumerate(per_axis(self.output_size, x.ndim - 2), start=2):
            n = x.shape[axis]
            parts = n if m is None else m
            means = [
                x.narrow(axis, i * n // parts, -(-(i + 1) * n // parts) - i * n // parts).mean(axis)
                for i in range(parts)
            ]
            x = torch.stack(means, axis)
        return x


class AdaptiveAvgPool1d(AdaptiveAvgPooling, nn.AdaptiveAvgPool1d):
    """(B, C, L) -> (B, C, output_size)."""


class AdaptiveAvgPool2d(AdaptiveAvgPooling, nn.AdaptiveAvgPool2d):
    """(B, C, H, W) -> (B, C, *output_size)."""
