"""Augmentation of music: whole pieces in another key; see `zoo.augment.draws`.

Axes: B batch, T steps, K keys
"""

import torch
from torch import Tensor

from zoo.augment.draws import Draws
from zoo.errors import UserError

KEY = 0  # number of the draw


class Transpose:
    """Moves each piece up or down by as many keys as the draw says, all of its notes alike.

    Args:
        semitones: at most that many, in either direction; each number is as probable as another.
    """

    suits_what, batch_type = "piano rolls", "Rolls"

    def __init__(self, *, semitones: int = 0) -> None:
        if semitones < 0:
            raise UserError(f"augment.semitones={semitones} must be a whole number from 0 on.")
        self.semitones = semitones

    @classmethod
    def suits(cls, batch_type: str, rows: Tensor) -> bool:
        """Whether raw samples `rows` that become a batch of this type can be augmented."""
        return batch_type == cls.batch_type and rows.ndim == 3

    def __call__(self, rolls: Tensor, indices: Tensor, epoch: int, seed: int) -> Tensor:
        """(B, T, K) and the (B,) places of the pieces in the training part -> (B, T, K).

        What goes beyond the last key is lost, at either end.
        """
        if not self.semitones or not len(rolls):
            return rolls
        steps = Draws(indices, epoch, seed).below(2 * self.semitones + 1, KEY) - self.semitones  # (B,)
        keys = rolls.shape[2]
        sources = torch.arange(keys, device=rolls.device) - steps.unsqueeze(1)  # (B, K), where each key comes from
        there = ((sources >= 0) & (sources < keys)).unsqueeze(1)  # (B, 1, K)
        moved = rolls.gather(2, sources.clamp(0, keys - 1).unsqueeze(1).expand_as(rolls))
        return moved * there
