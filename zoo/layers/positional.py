"""Where in its sequence a token stands: attention alone would see a bag of tokens.

    sinusoidal    PE(t, 2i) = sin(t w_i), PE(t, 2i + 1) = cos(t w_i), w_i = 10000^(-2i / D), added to the input:
                  Vaswani et al., "Attention is all you need", 2017 (arXiv 1706.03762), section 3.5. A shift by k turns
                  each pair by the same angle k w_i, wherever it stands.
    learned       a vector for each of max_len places, added to the input.
    rotary        queries and keys are turned, pair by pair, by t w_i, so that their product depends on how far apart
                  they are alone: Su, Lu, Pan, Murtadha, Wen, Liu, "RoFormer", 2021 (arXiv 2104.09864), equation 34.

All take an offset, the place of the first token, so that a sequence can be read piece by piece.

Departures: rotary pairs feature i with i + d / 2, not 2i with 2i + 1, as most of today's models do. That is the same
up to an order of the features, which W_q and W_k learn.

Axes: B batch, T tokens, D model width, H heads, d = D / H width of a head
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from zoo.errors import UserError

FEWEST = 64  # rows of a table, to begin with


def angles(length: int, size: int, base: float) -> Tensor:
    """t w_i as (length, size / 2), float64."""
    rates = base ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)  # w_i, (size / 2,)
    return torch.arange(length, dtype=torch.float64).unsqueeze(1) * rates


class Table(nn.Module):
    """Base of what is known for each place, whatever the length: a row is computed when it is first needed.

    It is no part of a checkpoint. It is rounded once, from float64, to the type of its input.
    """

    def __init__(self, size: int, base: float) -> None:
        super().__init__()
        if size % 2:
            raise UserError(
                f"Positions come in pairs of features, and {size} is odd; give an even model.d_model per head."
            )
        self.size, self.base = size, base
        self.table: Tensor | None = None

    @abstractmethod
    def compute(self, angles: Tensor) -> Tensor:
        """(length, size / 2) float64 -> the table (length, size)."""

    def rows(self, like: Tensor, offset: int) -> Tensor:
        """(T, size) for the last axis but one of `like`, in its type and on its device."""
        end, table = offset + like.shape[-2], self.table
        if table is None or len(table) < end or table.dtype != like.dtype or table.device != like.device:
            length = max(FEWEST, 1 << (end - 1).bit_length())
            with torch.inference_mode(False):  # else a table made while a text is written could not serve in training
                table = self.compute(angles(length, self.size, self.base)).to(like.dtype).to(like.device)
            self.table = table
        return table[offset:end]


class SinusoidalPositions(Table):
    """(B, T, D) -> (B, T, D) with sines and cosines of the place added."""

    def __init__(self, d_model: int, *, base: float = 10_000.0) -> None:
        super().__init__(d_model, base)

    def compute(self, angles: Tensor) -> Tensor:
        return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        return x + self.rows(x, offset)


class LearnedPositions(nn.Embedding):
    """(B, T, D) -> (B, T, D) with the vector of each place added.

    Args:
        max_len: places that there are.
        d_model: D.
    """

    def __init__(self, max_len: int, d_model: int) -> None:
        super().__init__(max_len, d_model)

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """Raises UserError for a place from max_len on."""
        end = offset + x.shape[1]
        check_length(end, self.num_embeddings)
        return x + self.weight[offset:end]


class Rotary(Table):
    """Queries or keys (B, H, T, d) -> the same, each pair of features turned by its place.

    Args:
        head_size: d, even.
        base: how slow the slowest pair turns.
    """

    def __init__(self, head_size: int, *, base: float = 10_000.0) -> None:
        super().__init__(head_size, base)

    def compute(self, angles: Tensor) -> Tensor:
        return torch.cat([angles.cos(), angles.sin()], 1)

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        cos, sin = self.rows(x, offset).chunk(2, 1)  # (T, d / 2) each
        first, second = x.chunk(2, 3)  # (B, H, T, d / 2) each
        return torch.cat([first * cos - second * sin, second * cos + first * sin], 3)  # (B, H, T, d)


def check_length(length: int, max_len: int | None) -> None:
    """Raises UserError for a sequence longer than a network has places for."""
    if max_len is not None and length > max_len:
        raise UserError(
            f"A sequence of {length} tokens is longer than model.max_len={max_len}; give shorter ones, or a larger "
            "model.max_len before training."
        )
