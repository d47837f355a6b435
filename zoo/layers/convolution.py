"""Convolutions whose padding may be said by name, at any stride.

`"valid"` pads nothing. `"same"` is defined here, since torch refuses it beside a stride above 1: a kernel of k values
with dilation d and stride s turns n values into ceil(n / s), for every k (even ones too), d and s. It takes

    total = max((ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)

zeros: floor(total / 2) of them before the first value, the rest (one more, where total is odd) after the last one, that
is at the bottom and at the right. At stride 1 this is torch's `padding="same"`.

Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, sections 2.2 to 2.4, have the
arithmetic; the side that gets the odd zero is a convention.

Axes: B batch, C input channels, O output channels, H height, W width, L length
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UserError, suggest
from zoo.layers.window import same_padding, windows

Size = int | tuple[int, ...]


def numeric_padding(padding: Any, kernel_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Any:
    """The padding as torch takes it, the same before and after; None where "same" depends on the input's size."""
    if not isinstance(padding, str):
        if any(type(p) is not int or p < 0 for p in (padding if isinstance(padding, tuple) else (padding,))):
            raise UserError(f"The padding {padding} must be 'same', 'valid' or a whole number from 0 on.")
        return padding
    if padding == "valid":
        return 0
    if padding != "same":
        raise UserError(f"There is no padding '{padding}'{suggest(padding, ('same', 'valid'))} A number will do, too.")
    totals = [d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True)]
    fixed = all(s == 1 for s in stride) and all(total % 2 == 0 for total in totals)
    return tuple(total // 2 for total in totals) if fixed else None


class SamePadding(nn.Module):
    """Stands before a convolution of torch in the order of classes, and pads its input where that one cannot.

    Args:
        padding: zeros before and after each axis, "same" or "valid"; see the top of this file.
        in_channels, out_channels, kernel_size, stride, dilation, groups, bias: as torch has them.
    """

    num_axes: ClassVar[int]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Any
    dilation: tuple[int, ...]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        *,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        number = numeric_padding(padding, *(self.each(size) for size in (kernel_size, stride, dilation)))
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=0 if number is None else number,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )
        self.pads_by_size = number is None

    def each(self, size: Size) -> tuple[int, ...]:
        """A size for every axis."""
        return (size,) * self.num_axes if isinstance(size, int) else tuple(size)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.padded(x) if self.pads_by_size else x)

    def padded(self, x: Tensor) -> Tensor:
        """The input with the zeros of `"same"` around it."""
        sizes = zip(x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
        sides = [same_padding(*axis) for axis in sizes]
        return F.pad(x, [zeros for side in reversed(sides) for zeros in side])  # torch wants the last axis first

    def output_size(self, n: int, axis: int = 0) -> int:
        """What n values become along an axis (0 is the first after the channels); below 1, the kernel is larger."""
        return windows(self)[axis].size(n)

    def extra_repr(self) -> str:
        return super().extra_repr() + (", padding='same'" if self.pads_by_size else "")


class Conv1d(SamePadding, nn.Conv1d):
    """`torch.nn.Conv1d` with `"same"` at any stride: (B, C, L) -> (B, O, ceil(L / stride)). See `SamePadding`."""

    num_axes = 1


class Conv2d(SamePadding, nn.Conv2d):
    """`torch.nn.Conv2d` with `"same"` at any stride: (B, C, H, W) -> (B, O, ceil(H / stride), ceil(W / stride)).

    See `SamePadding`; a size is one number or a pair for height and width.
    """

    num_axes = 2
