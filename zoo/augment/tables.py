"""Augmentation of tables: noise on the features of training samples; see `zoo.augment.draws`.

Axes: B batch, F features
"""

from torch import Tensor

from zoo.augment.draws import Draws
from zoo.errors import UserError


class TableAugment:
    """Adds Gaussian noise to every feature of a table, those that encode text included.

    Args:
        noise: standard deviation, in units of the features; a column of numbers has deviation 1.
    """

    suits_what, batch_type = "tables", "TableBatch"

    def __init__(self, *, noise: float = 0.0) -> None:
        if noise < 0:
            raise UserError(f"augment.noise={noise} must be a number from 0 on.")
        self.noise = noise

    @classmethod
    def suits(cls, batch_type: str, rows: Tensor) -> bool:
        """Whether raw samples `rows` that become a batch of this type can be augmented."""
        return batch_type == cls.batch_type and rows.ndim == 2 and rows.is_floating_point()

    def __call__(self, rows: Tensor, indices: Tensor, epoch: int, seed: int) -> Tensor:
        """(B, F) floats and the (B,) places of the samples in the training part -> (B, F)."""
        if not self.noise:
            return rows
        return rows + self.noise * Draws(indices, epoch, seed).normal(tuple(rows.shape[1:])).to(rows.dtype)
