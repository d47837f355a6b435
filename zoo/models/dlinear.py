"""DLinear: one linear map over time, which no forecasting transformer of its day could beat.

Zeng, Chen, Zhang, Xu, "Are transformers effective for time series forecasting?", 2022 (arXiv 2205.13504), section 4 and
figure 2. Each column of the series is mapped by itself, from its L past steps to the H that come, by weights that all
columns share; the variants differ in what is taken out first:

    linear     y = W x
    nlinear    y = W (x - x_L) + x_L                     x_L: the last known value
    dlinear    y = W_s (x - trend) + W_t trend           trend: a moving average, its ends repeated

Departures from the paper
1. No maps of their own for each column (the paper's "individual"; its main table shares them).
2. Weights begin at 1/L and biases at 0 (nlinear: all at 0), not at random.

Axes: B batch, L steps of the past, H steps ahead, C columns
Trained by: forecasting    Data: waves, etth1, series_csv    Equal to: the formulas above, written out (tests)
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UserError, suggest

VARIANTS = ("dlinear", "nlinear", "linear")


class DLinear(nn.Module):
    """Forecaster, (B, L, C) -> (B, H, C).

    Args:
        seq_len: L.
        horizon: H.
        variant: "dlinear", "nlinear" or "linear".
        kernel_size: steps of the moving average, odd.
    """

    def __init__(self, *, seq_len: int, horizon: int, variant: str = "dlinear", kernel_size: int = 25) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise UserError(f"There is no model.variant={variant}{suggest(variant, VARIANTS)}")
        if kernel_size % 2 == 0:
            raise UserError(f"model.kernel_size={kernel_size} must be odd, so that the average has a middle.")
        self.variant, self.kernel_size = variant, kernel_size
        self.rest = nn.Linear(seq_len, horizon)
        self.trend = nn.Linear(seq_len, horizon) if variant == "dlinear" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # The first forecast is the mean of the past, or for nlinear the last value: sensible ones, of no random weight.
        for layer in filter(None, (self.rest, self.trend)):
            nn.init.constant_(layer.weight, 0.0 if self.variant == "nlinear" else 1 / layer.in_features)
            nn.init.zeros_(layer.bias)

    def forward(self, past: Tensor) -> Tensor:
        x = past.transpose(1, 2)  # (B, C, L)
        if self.trend is not None:
            trend = self.moving_average(x)
            future = self.rest(x - trend) + self.trend(trend)  # (B, C, H)
        else:
            level = x[..., -1:] if self.variant == "nlinear" else torch.zeros_like(x[..., -1:])  # (B, C, 1)
            future = self.rest(x - level) + level  # (B, C, H)
        return future.transpose(1, 2)  # (B, H, C)

    def moving_average(self, x: Tensor) -> Tensor:
        """(B, C, L) -> (B, C, L), the mean over `kernel_size` steps around each; first and last value are repeated."""
        margin = self.kernel_size // 2
        return F.avg_pool1d(F.pad(x, (margin, margin), mode="replicate"), self.kernel_size, stride=1)
