"""YOLO: every cell of a grid says at once which boxes lie around its place, and what is in them.

Redmon, Divvala, Girshick, Farhadi, "You only look once: unified, real-time object detection", 2016 (arXiv 1506.02640),
section 2. Convolutions halve the image until one place of the maps is one of G x G cells; of each, the network gives P
boxes of five numbers and the chances of K classes. What they mean, and the loss, is in `zoo.losses.detection`.

Departures from the paper
1. A convolution of 1 x 1 answers for each cell, not two dense layers for all: so a net of this size sees enough of the
   neighbourhood, takes images of any size, and has a hundredth of the weights.
2. Six convolutions of 3 x 3 with batch normalization (as of YOLOv2, 2017), in place of 24 trained on ImageNet first.
3. A sigmoid after the last layer, which is linear in the paper: every number that is asked for lies between 0 and 1.

Axes: B batch, C channels, H height, W width, G cells along a side, P boxes of a cell, K classes
Trained by: detection    Data: boxed_shapes
Equal to: the same layers in torch.nn (tests)
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.errors import UserError


def convolution(in_channels: int, out_channels: int) -> list[nn.Module]:
    """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(0.1),
    ]


class YOLO(nn.Module):
    """Boxes and chances of classes for each cell of a grid.

    Args:
        in_channels: C.
        num_classes: K.
        channels: maps of the convolutions before each halving; a cell is 2 ** their number pixels wide.
        num_boxes: P, of each cell.
        dropout: before the last layer.

    Raises:
        UserError: there is no convolution.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        channels: Sequence[int] = (16, 32, 64),
        num_boxes: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not channels or num_boxes < 1:
            raise UserError("model.channels must name a convolution or more, and model.num_boxes be at least 1.")
        self.cell = 2 ** len(channels)
        layers: list[nn.Module] = []
        for before, after in zip([in_channels, *channels], channels, strict=False):
            layers += [*convolution(before, after), nn.MaxPool2d(2)]
        wide = 2 * channels[-1]
        for before, after in ((channels[-1], wide), (wide, wide), (wide, wide)):  # how far a cell sees around itself
            layers += convolution(before, after)
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.answer = nn.Conv2d(wide, 5 * num_boxes + num_classes, kernel_size=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # Deviation sqrt(2 / inputs) keeps the variance through leaky rectifiers, nearly; the answers start near 1/2.
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.1, mode="fan_in", nonlinearity="leaky_relu")
        nn.init.normal_(self.answer.weight, std=0.01)
        nn.init.zeros_(self.answer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, G, G, 5 P + K) in [0, 1]. Raises UserError for an image smaller than a cell."""
        if min(x.shape[2:]) < self.cell:
            raise UserError(f"An image of {x.shape[2]} x {x.shape[3]} is smaller than a cell of {self.cell} pixels.")
        x = self.dropout(self.features(x))  # (B, D, G, G)
        return torch.sigmoid(self.answer(x)).permute(0, 2, 3, 1)  # (B, G, G, 5 P + K)
