"""A convolutional network for series of numbers: a kernel slides along one axis.

Greydanus and Kobak, "Scaling down deep learning", 2020 (arXiv 2011.14439), the CNN of section 2:

    three convolutions of 25 channels, kernels of 5, 3 and 3 values, each with stride 2 and followed by ReLU -> dense

A series of L values is one row of a table, (B, L), so that a dense net can take it, too; here it gets its one channel.

Departures from the paper
1. None: 5,210 parameters at 40 values and 10 classes, torch's initialization. The activation is of choice.

Axes: B batch, L length of the series, L' length after the convolutions, C channels, K classes
Trained by: classification, binary, regression    Data: mnist1d, any table whose columns have an order
Equal to: the same layers in torch.nn (tests)
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from zoo.errors import UserError
from zoo.layers.by_name import activation as activation_by_name
from zoo.layers.convolution import Conv1d


class CNN1d(nn.Module):
    """Convolutions along the series, then one dense layer.

    Args:
        length: L.
        num_classes: K.
        channels: C of each convolution.
        kernel_size: of each convolution.
        stride: of every convolution.
        padding: zeros before and after the input of every convolution, "same" or "valid".
        activation: name in torch.nn.
    """

    def __init__(
        self,
        *,
        length: int,
        num_classes: int,
        channels: Sequence[int] = (25, 25, 25),
        kernel_size: Sequence[int] = (5, 3, 3),
        stride: int = 2,
        padding: int | str = 1,
        activation: str = "ReLU",
    ) -> None:
        super().__init__()
        if len(kernel_size) != len(channels):
            raise UserError(
                f"model.kernel_size has {len(kernel_size)} values and model.channels {len(channels)}; give one for "
                "each convolution."
            )
        self.blocks = nn.Sequential()
        for i, (before, after) in enumerate(pairwise([1, *channels])):
            conv = Conv1d(before, after, kernel_size[i], stride=stride, padding=padding)
            shorter = conv.output_size(length)
            if shorter < 1:
                raise UserError(
                    f"blocks.{i}.conv reaches over {kernel_size[i]} values and gets {length + 2 * conv.padding[0]} "
                    "with its padding; use model.padding=same, fewer or smaller kernels, or a longer series."
                )
            length = shorter
            block = nn.Sequential()
            block.add_module("conv", conv)
            block.add_module("activation", activation_by_name(activation))
            self.blocks.append(block)
        self.output = nn.Linear(channels[-1] * length, num_classes)

    def forward(self, series: Tensor) -> Tensor:
        """(B, ...) with L values in all but the first axis -> logits (B, K)."""
        x = series.flatten(1).unsqueeze(1)  # (B, 1, L)
        x = self.blocks(x)  # (B, C, L')
        return self.output(x.flatten(1))  # (B, K)
