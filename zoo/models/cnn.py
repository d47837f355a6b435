"""A convolutional network in which everything a course names can be chosen.

LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998, in today's form:

    convolution -> [batch norm] -> activation -> [batch norm] -> [pooling] -> [dropout]     once for each block
    flatten, or one value a map (global pooling) -> [dense -> activation] -> dense

The size after a layer is floor((n + 2p - d(k - 1) - 1) / s) + 1; `padding=same` gives ceil(n / s), as
zoo/layers/convolution.py says.

Departures from the paper
1. It is no net of the paper's (that is lenet5) but its building plan; batch norm is of Ioffe and Szegedy 2015, dropout
   of Srivastava et al. 2014, global average pooling of Lin et al. 2013.

Axes: B batch, C channels, H height, W width, F features, K classes
Trained by: classification, binary, multilabel, regression    Data: any image set
Equal to: the same layers in torch.nn (tests)
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from zoo.errors import UserError, suggest
from zoo.layers.by_name import activation as activation_by_name
from zoo.layers.by_name import output_activation as output_activation_by_name
from zoo.layers.convolution import Conv2d

POOLING = {"AvgPool2d": nn.AvgPool2d, "MaxPool2d": nn.MaxPool2d}
GLOBAL_POOLING = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}
RECTIFIERS = ("ReLU", "LeakyReLU", "GELU", "SiLU", "ELU")
PerBlock = float | str | Sequence[float | str]


class Block(nn.Sequential):
    """Convolution, activation and what goes with them, (B, C_in, H, W) -> (B, C_out, H', W')."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        stride: int,
        padding: int | str,
        dilation: int,
        activation: str,
        batch_norm: str | None,
        pooling: str | None,
        pool_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        # A bias right before batch norm does nothing: the norm subtracts it with the mean.
        bias = batch_norm != "before"
        self.conv = Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, dilation=dilation, bias=bias
        )
        if batch_norm == "before":
            self.norm = nn.BatchNorm2d(out_channels)
        self.activation = activation_by_name(activation)
        if batch_norm == "after":
            self.norm = nn.BatchNorm2d(out_channels)
        if pooling and pool_size > 1:
            self.pool = POOLING[pooling](pool_size)
        if dropout:
            self.dropout = nn.Dropout(dropout)

    def size_after(self, size: int, name: str) -> int:
        """H' from H. Raises UserError, with the layer's name, where no pixel is left."""
        conv = self.conv
        after = conv.output_size(size)
        if after < 1:
            raise UserError(
                f"{name}.conv reaches over {conv.dilation[0] * (conv.kernel_size[0] - 1) + 1} pixels a side and gets "
                f"{size + 2 * conv.padding[0]} with its padding; use model.padding=same, fewer or smaller kernels, or "
                "larger images (data.image_size=...)."
            )
        window: int = getattr(getattr(self, "pool", None), "kernel_size", 1)
        if after < window:
            raise UserError(
                f"{name}.pool pools {window} pixels a side and gets {after}; use fewer blocks, less stride, "
                "model.pooling=null, or larger images (data.image_size=...)."
            )
        return after // window


class Dense(nn.Sequential):
    """Dropout, affine map and nonlinearity, (B, F) -> (B, F')."""

    def __init__(self, in_features: int, out_features: int, *, activation: str, dropout: float) -> None:
        super().__init__()
        if dropout:
            self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(in_features, out_features)
        self.activation = activation_by_name(activation)


class CNN(nn.Module):
    """Blocks of convolution, then dense layers.

    What is said for a block is one value for all of them, or a list with one for each.

    Args:
        in_channels: C of the input.
        image_size: H and W of the input.
        num_classes: K.
        channels: maps of each block.
        kernel_size, stride, dilation: of each block's convolution.
        padding: zeros around each block's input, "same" (ceil(H / stride) pixels) or "valid" (none).
        activation: name in torch.nn.
        batch_norm: where it stands, "before" or "after" the activation; None for nowhere.
        pooling: MaxPool2d, AvgPool2d or None.
        pool_size: side and stride of the pooling window; 1 for a block without pooling.
        block_dropout: share of values set to 0 after each block, in training.
        global_pooling: "avg" or "max" keeps one value a map; None flattens.
        hidden_features: units of each dense layer before the last.
        dropout: share of values set to 0 before each dense layer, in training.
        output_activation: Softmax or Sigmoid for probabilities, None for logits.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: int,
        channels: Sequence[int] = (32, 64),
        kernel_size: PerBlock = 5,
        stride: PerBlock = 1,
        padding: PerBlock = "same",
        dilation: PerBlock = 1,
        activation: str = "ReLU",
        batch_norm: str | None = None,
        pooling: str | None = "MaxPool2d",
        pool_size: PerBlock = 2,
        block_dropout: PerBlock = 0.0,
        global_pooling: str | None = None,
        hidden_features: Sequence[int] = (),
        dropout: float = 0.0,
        output_activation: str | None = None,
    ) -> None:
        super().__init__()
        check_name("pooling", pooling, POOLING)
        check_name("global_pooling", global_pooling, GLOBAL_POOLING)
        check_name("batch_norm", batch_norm, ("before", "after"))
        self.gives_probabilities = output_activation is not None
        given = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
        given |= {"pool_size": pool_size, "block_dropout": block_dropout}
        each = {key: per_block(key, value, len(channels)) for key, value in given.items()}
        each["dropout"] = each.pop("block_dropout")
        everywhere = {"activation": activation, "batch_norm": batch_norm, "pooling": pooling}
        self.blocks = nn.Sequential(
            *(
                Block(before, after, **{key: values[i] for key, values in each.items()}, **everywhere)  # type: ignore[arg-type]
                for i, (before, after) in enumerate(pairwise([in_channels, *channels]))
            )
        )
        size = image_size
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            size = block.size_after(size, f"blocks.{i}")
        self.pool = GLOBAL_POOLING[global_pooling](1) if global_pooling else nn.Identity()
        maps = channels[-1] if channels else in_channels
        widths = [maps if global_pooling else maps * size * size, *hidden_features]
        self.hidden = nn.Sequential(
            *(Dense(before, after, activation=activation, dropout=dropout) for before, after in pairwise(widths))
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(widths[-1], num_classes)
        self.output_activation = output_activation_by_name(output_activation)
        self.reset_parameters(activation)

    def reset_parameters(self, activation: str) -> None:
        # Keeps the variance of the activations from layer to layer: He for rectifiers, which drop half of it, Xavier
        # for the others and for the output, which has no activation. Biases start at 0.
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                if activation in RECTIFIERS and layer is not self.output:
                    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
                else:
                    nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> logits, or probabilities, (B, K)."""
        x = self.blocks(image)  # (B, C', H', W')
        x = self.pool(x).flatten(1)  # (B, F)
        x = self.hidden(x)  # (B, F')
        x = self.output(self.dropout(x))  # (B, K)
        return self.output_activation(x)  # (B, K)


def check_name(setting: str, name: str | None, names: object) -> None:
    """Raises UserError where a setting is neither one of the names nor None."""
    if name is not None and name not in names:  # type: ignore[operator]
        raise UserError(f"model.{setting}={name} is not there{suggest(name, [*names, 'null'])}")  # type: ignore[misc]


def per_block(setting: str, value: PerBlock, num_blocks: int) -> list[float | str]:
    """One value for each block. Raises UserError where a list has another length."""
    if isinstance(value, (int, float, str)):
        return [value] * num_blocks
    if len(value) != num_blocks:
        raise UserError(
            f"model.{setting} has {len(value)} values and model.channels {num_blocks} blocks; give one value for all "
            "blocks, or one for each."
        )
    return list(value)
