"""The first artificial neuron, which computes but does not learn.

McCulloch, Pitts, "A logical calculus of the ideas immanent in nervous activity", 1943: a unit fires when no inhibitory
input is active and at least `threshold` of its excitatory inputs are.

Axes: B batch, E excitatory inputs, I inhibitory inputs
"""

import torch
from torch import Tensor


def mcculloch_pitts(excitatory: Tensor, inhibitory: Tensor, threshold: int) -> Tensor:
    """excitatory (B, E) and inhibitory (B, I), of 0 and 1 -> whether the unit fires, (B,) of 0 and 1."""
    enough = excitatory.sum(1) >= threshold
    return (enough & ~inhibitory.bool().any(1)).to(excitatory.dtype)  # (B,)


def logical_and(inputs: Tensor) -> Tensor:
    """(B, E) -> (B,): fires when all E inputs do."""
    return mcculloch_pitts(inputs, inputs[:, :0], threshold=inputs.shape[1])


def logical_or(inputs: Tensor) -> Tensor:
    """(B, E) -> (B,): fires when any input does."""
    return mcculloch_pitts(inputs, inputs[:, :0], threshold=1)


def logical_not(inputs: Tensor) -> Tensor:
    """(B,) -> (B,): its only input is inhibitory, and with threshold 0 it fires unless that is active."""
    return mcculloch_pitts(torch.zeros(len(inputs), 0, dtype=inputs.dtype), inputs.unsqueeze(1), threshold=0)
