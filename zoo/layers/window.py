"""The arithmetic of what slides over an axis: kernels of convolutions, windows of pooling layers.

Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016. n values become

    convolution, pooling       floor((n + 2p - d(k - 1) - 1) / s) + 1         rounded up with `ceil_mode`, see `Window`
    transposed convolution     (n - 1)s - 2p + d(k - 1) + output_padding + 1
    padding "same", "valid"    ceil(n / s), and p = 0

with kernel k, stride s, padding p and dilation d. There are as many output channels as kernels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
POOLING = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
ADAPTIVE = tuple(getattr(nn, f"Adaptive{kind}Pool{axes}d") for kind in ("Avg", "Max") for axes in (1, 2, 3))


def same_padding(n: int, kernel_size: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """Zeros (before, after) an axis of n values such that the output has ceil(n / stride) values."""
    total = max((-(-n // stride) - 1) * stride + dilation * (kernel_size - 1) + 1 - n, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True)
class Window:
    """What slides along one axis: the kernel of a convolution or the window of a pooling layer.

    Args:
        padding: values before and after, "same" or "valid".
        transposed: the kernel is stamped once for each input value, at distances of `stride`.
        output_padding: values added after the last, for a transposed convolution.
        ceil_mode: a last window that is partly outside counts, if it starts inside (padding included).
    """

    kernel_size: int
    stride: int = 1
    padding: int | str = 0
    dilation: int = 1
    transposed: bool = False
    output_padding: int = 0
    ceil_mode: bool = False

    def padding_of(self, n: int) -> tuple[int, int]:
        """Values before and after an axis of n."""
        if self.padding == "same":
            return same_padding(n, self.kernel_size, self.stride, self.dilation)
        p = 0 if self.padding == "valid" else int(self.padding)
        return p, p

    @property
    def span(self) -> int:
        """d (k - 1), the distance from the first to the last value under the window."""
        return self.dilation * (self.kernel_size - 1)

    def size(self, n: int) -> int:
        """What n values become; below 1, the window is larger than they are."""
        before, after = self.padding_of(n)
        if self.transposed:
            return (n - 1) * self.stride - before - after + self.span + self.output_padding + 1
        places = n + before + after - self.span - 1
        if not self.ceil_mode:
            return places // self.stride + 1
        size = -(-places // self.stride) + 1
        return size - 1 if (size - 1) * self.stride >= n + before else size

    def formula(self, n: int) -> str:
        """The arithmetic of `size` with the numbers filled in."""
        k, s, d = self.kernel_size, self.stride, self.dilation
        if self.padding == "same":
            return f"ceil({n} / {s}) = {self.size(n)}"
        p, _ = self.padding_of(n)
        if self.transposed:
            return f"({n} - 1)*{s} - 2*{p} + {d}*({k} - 1) + {self.output_padding} + 1 = {self.size(n)}"
        return f"floor(({n} + 2*{p} - {d}*({k} - 1) - 1) / {s}) + 1 = {self.size(n)}"


def windows(layer: nn.Module) -> list[Window]:
    """The window of a layer along each of its axes; none for a layer without one."""
    if not isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED, *POOLING)):
        return []
    axes = int(type_of(layer).__name__[-2])

    def each(name: str, default: int | bool) -> Sequence[Any]:
        value = getattr(layer, name, default)
        return value if isinstance(value, tuple) else (value,) * axes

    padding = ("same",) * axes if getattr(layer, "pads_by_size", False) else each("padding", 0)
    return [
        Window(
            kernel_size=each("kernel_size", 1)[i],
            stride=each("stride", 1)[i],
            padding=padding[i],
            dilation=each("dilation", 1)[i],
            transposed=isinstance(layer, TRANSPOSED),
            output_padding=each("output_padding", 0)[i],
            ceil_mode=bool(getattr(layer, "ceil_mode", False)),
        )
        for i in range(axes)
    ]


def type_of(layer: nn.Module) -> type[nn.Module]:
    """The class of torch.nn that a layer is, or is derived from."""
    return next(kind for kind in type(layer).__mro__ if kind.__module__.startswith("torch.nn.modules"))
