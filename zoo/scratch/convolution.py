"""Convolutions written out: twins of torch.nn's, over sequences and images.

Cross-correlation: each output is the inner product of a kernel with the patch under it; nothing is flipped. With stride
s, padding p and dilation d:

    y[o, i, j] = b[o] + sum_(c, u, v) W[o, c, u, v] x[c, s i + d u - p, s j + d v - p]

Transposed convolution goes the other way: each input pixel stamps the kernel, times its value, onto the output, and
stamps add up where they overlap. It is the gradient of the convolution by its input, and not its inverse:

    y[o, s i + d u - p, s j + d v - p] += x[c, i, j] W[c, o, u, v]        for all c, i, j, u, v

Dumoulin, Visin, "A guide to convolution arithmetic for deep learning", 2016, chapters 2 and 4.

Axes: B batch, C input channels, O output channels, G groups, *N one axis or two, *k the kernel, K all of its values
"""

from itertools import product
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from zoo.scratch.windows import pad, windows


def convolution_by_loops(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """The equation as it stands: x (B, C, H, W), weight (O, C/G, k, k) -> (B, O, H', W'). To read, and slow."""
    x = pad(x, [(padding, padding)] * 2)
    out_channels, depth, *kernel_size = weight.shape
    spans = [dilation * (k - 1) + 1 for k in kernel_size]
    height, width = ((n - span) // stride + 1 for n, span in zip(x.shape[2:], spans, strict=True))
    y = x.new_zeros(len(x), out_channels, height, width)
    for o, i, j in product(range(out_channels), range(height), range(width)):
        first, top, left = o // (out_channels // groups) * depth, i * stride, j * stride
        rows, columns = slice(top, top + spans[0], dilation), slice(left, left + spans[1], dilation)
        patch = x[:, first : first + depth, rows, columns]  # (B, C/G, k, k)
        y[:, o, i, j] = (patch * weight[o]).sum((1, 2, 3)) + (0 if bias is None else bias[o])
    return y


class Convolution(_ConvNd):
    """What one axis and two share: each patch is unfolded into a row of K values, as each kernel is."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *N) -> (B, O, *N')."""
        x = pad(x, self.sides(x), "constant" if self.padding_mode == "zeros" else self.padding_mode)
        patches = windows(x, self.kernel_size, self.stride, self.dilation)  # (B, C, *N', *k)
        patches = patches.flatten(x.ndim).unflatten(1, (self.groups, -1))  # (B, G, C/G, *N', K)
        kernels = self.weight.flatten(2).unflatten(0, (self.groups, -1))  # (G, O/G, C/G, K)
        y = torch.einsum("bgc...k,gock->bgo...", patches, kernels).flatten(1, 2)  # (B, O, *N')
        return y if self.bias is None else y + along_channels(self.bias, y)

    def sides(self, x: Tensor) -> list[tuple[int, int]]:
        """Values to add (before, after) each axis. "same" makes ceil(n / s) of n values: torch's own, where s is 1."""
        if self.padding == "valid":
            return [(0, 0)] * len(self.kernel_size)
        if self.padding != "same":
            return [(int(p), int(p)) for p in self.padding]
        sides = []
        for n, k, s, d in zip(x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True):
            total = max(0, (ceil(n / s) - 1) * s + d * (k - 1) + 1 - n)
            sides.append((total // 2, total - total // 2))
        return sides


class Conv1d(Convolution, nn.Conv1d):
    """(B, C, L) -> (B, O, L')."""


class Conv2d(Convolution, nn.Conv2d):
    """(B, C, H, W) -> (B, O, H', W')."""


def along_channels(values: Tensor, x: Tensor) -> Tensor:
    """One value a channel, (C,), in a shape that is spread over x (B, C, *N)."""
    return values.view(-1, *[1] * (x.ndim - 2))


def transposed_convolution_by_stamps(
    x: Tensor, weight: Tensor, *, stride: int = 1, padding: int = 0, dilation: int = 1
) -> Tensor:
    """One stamp for each input pixel: x (B, C, H, W), weight (C, O, k, k) -> (B, O, H', W'). To read, and slow."""
    height, width = x.shape[2:]
    spans = [dilation * (k - 1) + 1 for k in weight.shape[2:]]
    y = x.new_zeros(len(x), weight.shape[1], (height - 1) * stride + spans[0], (width - 1) * stride + spans[1])
    for i, j in product(range(height), range(width)):
        top, left = i * stride, j * stride
        stamp = torch.einsum("bc,couv->bouv", x[:, :, i, j], weight)
        y[:, :, top : top + spans[0] : dilation, left : left + spans[1] : dilation] += stamp
    return y[:, :, padding : y.shape[2] - padding, padding : y.shape[3] - padding]


class TransposedConvolution(_ConvTransposeNd):
    """What one axis and two share. All stamps at once: for each value of the kernel, where it falls in all of them."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, *N) -> (B, O, *N') with N' = (N - 1) s - 2 p + d (k - 1) + output_padding + 1."""
        sizes = list(zip(x.shape[2:], self.stride, self.dilation, self.kernel_size, strict=True))
        shape = [s * (n - 1) + d * (k - 1) + 1 for n, s, d, k in sizes]  # of all stamps together
        x = x.unflatten(1, (self.groups, -1))  # (B, G, C/G, *N)
        kernels = self.weight.unflatten(0, (self.groups, -1))  # (G, C/G, O/G, *k)
        y = x.new_zeros(len(x), self.groups, kernels.shape[2], *shape)  # (B, G, O/G, *shape)
        for place in product(*map(range, self.kernel_size)):
            value = kernels[(..., *place)]  # (G, C/G, O/G)
            under: list[Any] = [
                slice(d * u, d * u + s * (n - 1) + 1, s) for u, (n, s, d, _) in zip(place, sizes, strict=True)
            ]
            y[(..., *under)] += torch.einsum("bgc...,gco->bgo...", x, value)
        y = pad(y.flatten(1, 2), self.margins(shape, output_size))  # (B, O, *N')
        return y if self.bias is None else y + along_channels(self.bias, y)

    def margins(self, shape: list[int], output_size: list[int] | None) -> list[tuple[int, int]]:
        """What is cut off (below 0) or added (before, after) each axis: the padding goes, the output padding comes."""
        cut: list[Any] = list(self.padding)
        more: list[Any] = list(self.output_padding)
        if output_size is not None:
            more = [wanted - (n - 2 * p) for wanted, n, p in zip(output_size[-len(cut) :], shape, cut, strict=True)]
        return [(-p, extra - p) for p, extra in zip(cut, more, strict=True)]


class ConvTranspose1d(TransposedConvolution, nn.ConvTranspose1d):
    """(B, C, L) -> (B, O, L')."""


class ConvTranspose2d(TransposedConvolution, nn.ConvTranspose2d):
    """(B, C, H, W) -> (B, O, H', W')."""
