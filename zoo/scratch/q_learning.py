"""Values of actions in worlds that are small enough for tables: from Bellman's equation, and learnt step by step.

Bellman, "Dynamic programming", 1957; Watkins, "Learning from delayed rewards", 1989; Sutton and Barto, "Reinforcement
learning", 2018, sections 4.4 and 6.5.

    Q*(s, a) = sum_s' P(s' | s, a) (R(s, a, s') + discount max_a' Q*(s', a'))

`value_iteration` knows the world and puts the right side in place of the left one until nothing moves. `q_update` knows
one step of it, and moves towards what that step says.

Equal to: zoo.tasks.q_learning with one weight for each value (tests/scratch/test_q_learning.py)

Axes: S states, K actions
"""

import torch
from torch import Tensor


def value_iteration(
    chances: Tensor, rewards: Tensor, discount: float, *, ends: Tensor | None = None, tolerance: float = 1e-10
) -> Tensor:
    """Q* (S, K) of a world that is known.

    Args:
        chances: (S, K, S), P(s' | s, a).
        rewards: (S, K, S), R(s, a, s').
        discount: from 0 on and below 1.
        ends: (S, K, S) bool, True where nothing follows; left out, something always does.
        tolerance: the greatest change of a value in the last round.
    """
    goes_on = torch.ones_like(chances) if ends is None else 1 - ends.to(chances.dtype)
    values = torch.zeros_like(chances[..., 0])  # (S, K)
    while True:
        best = values.amax(1)  # (S,)
        new = (chances * (rewards + discount * goes_on * best)).sum(2)  # (S, K)
        if (new - values).abs().max() <= tolerance:
            return new
        values = new


def q_update(
    values: Tensor,
    state: int,
    action: int,
    reward: float,
    next_state: int,
    terminated: bool,
    *,
    rate: float,
    discount: float,
) -> Tensor:
    """Q (S, K) after one step: Q(s, a) += rate (r + discount max_a' Q(s', a') - Q(s, a))."""
    follows = 0.0 if terminated else discount * float(values[next_state].max())
    learnt = values.clone()
    learnt[state, action] += rate * (reward + follows - values[state, action])
    return learnt
