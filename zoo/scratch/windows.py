"""The places of a window on an image: what convolution and pooling have in common.

Along each axis of n values, a window of k values with dilation d spans d (k - 1) + 1 of them and moves by s. With p
values of padding on both sides it has floor((n + 2 p - d (k - 1) - 1) / s) + 1 places.

Axes: B batch, C channels, *N one axis (a sequence) or two (an image), *N' the places of the window, *k the window
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F


def per_axis(size: Any, num_axes: int) -> tuple[int, ...]:
    """A size for each axis: torch.nn takes a single number for all of them."""
    return (size,) * num_axes if isinstance(size, int) else tuple(size)


def windows(x: Tensor, kernel_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """(B, C, *N) -> the values under each place of the window, (B, C, *N', *k); nothing is copied."""
    first = x.ndim - len(kernel_size)
    for axis, (k, s, d) in enumerate(zip(kernel_size, stride, dilation, strict=True), start=first):
        x = x.unfold(axis, d * (k - 1) + 1, s)[..., ::d]
    return x


def pad(x: Tensor, sides: Sequence[tuple[int, int]], mode: str = "constant", value: float | None = None) -> Tensor:
    """x with (before, after) more values along each of its last axes."""
    in_torchs_order = [size for side in reversed(sides) for size in side]  # the last axis first
    return F.pad(x, in_torchs_order, mode=mode, value=value) if any(in_torchs_order) else x
