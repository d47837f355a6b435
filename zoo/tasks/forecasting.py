"""The steps that come after a window of a time series.

Axes: B batch, L steps of the past, H steps ahead, C columns
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.batches import SeriesBatch
from zoo.errors import UserError, suggest
from zoo.losses.supervised import mean_absolute_error, mean_squared_error
from zoo.pictures.series import forecasts
from zoo.tasks.base import Task

ERRORS = {"mse": mean_squared_error, "mae": mean_absolute_error}
SHORT = {"mean_squared_error": "mse", "mean_absolute_error": "mae"}  # names of losses
SHOWN = 3  # windows


class Forecasting(Task):
    """Errors are means over windows, steps and columns, on standardized values, as papers report them.

    Validation and test also say what saying the last known value again and again would have come to (repeat_mse,
    repeat_mae): who is not better has learnt nothing.

    Args:
        model: (B, L, C) -> (B, H, C).
        horizon: H.
        loss: "mean_squared_error" or "mean_absolute_error".
        target_names: names of the C columns, for pictures.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        horizon: int,
        loss: str = "mean_squared_error",
        target_names: Sequence[str] = (),
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        if loss not in SHORT:
            raise UserError(f"There is no task.loss={loss}{suggest(loss, SHORT)}")
        self.loss, self.horizon, self.target_names = loss, horizon, list(target_names)

    def losses(self, batch: SeriesBatch) -> dict[str, Tensor]:
        forecast = self.model(*batch.inputs)  # (B, H, C)
        errors = {name: error(forecast, batch.future) for name, error in ERRORS.items()}
        return {"loss": errors[SHORT[self.loss]], **errors}

    def evaluate(self, stage: str, batch: SeriesBatch) -> None:
        repeated = batch.past[:, -1:].expand(-1, self.horizon, -1)  # (B, H, C)
        naive = {f"repeat_{name}": error(repeated, batch.future) for name, error in ERRORS.items()}
        self.means[stage].add(self.losses(batch) | naive, self.count_items(batch))

    def show(self, batch: SeriesBatch) -> dict[str, Any]:
        # The first windows of a part lie one step apart; those far apart show more.
        chosen = torch.linspace(0, len(batch.past) - 1, min(SHOWN, len(batch.past))).long()
        few = SeriesBatch(*(tensor[chosen] for tensor in batch))
        with torch.no_grad():
            forecast = self.model(*few.inputs)
        return {"forecasts": forecasts(few.past, few.future, forecast, self.target_names)}
