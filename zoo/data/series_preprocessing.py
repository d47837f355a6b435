"""How the columns of a time series become numbers that a network takes; see `zoo.data.series`.

Axes: N steps of the whole series, L steps of the past, H steps ahead (the horizon), C columns
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import UserError


@dataclass(frozen=True)
class SeriesPreprocessing:
    """(value - mean) / std of each column; plain containers, so that it can lie in a checkpoint.

    Args:
        columns: C names.
        mean, std: C numbers each.
        past, horizon: L and H.
        commas: names of the columns that had decimal commas in the file of training.
    """

    columns: list[str]
    mean: list[float]
    std: list[float]
    past: int
    horizon: int
    commas: list[str] = field(default_factory=list)

    @classmethod
    def fit(cls, train: np.ndarray, columns: Sequence[str], *, past: int, horizon: int) -> "SeriesPreprocessing":
        """From the training part (N, C)."""
        std = np.where(np.ptp(train, axis=0) > 0, train.std(0), 1.0)  # a column that never changes stays 0
        return cls(list(columns), train.mean(0).tolist(), std.tolist(), past, horizon)

    def __call__(self, values: np.ndarray) -> Tensor:
        """(N, C) in their own units -> (N, C) float32, standardized."""
        return torch.from_numpy(((values - self.mean) / self.std).astype(np.float32))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "series", **asdict(self)}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "SeriesPreprocessing":
        """The inverse of `to_dict`. Raises UserError for what was learnt from something else."""
        if state.get("kind") != "series":
            raise UserError(
                f"This model was trained on data of kind '{state.get('kind')}'; give it that, not a series."
            )
        return cls(**{key: value for key, value in state.items() if key != "kind"})
