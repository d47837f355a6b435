"""What the value of an action ought to be: Bellman's equation, one step ahead.

    Q(s, a) = E[r + discount Q(s', a')]        and Q(s, a) = E[r] where s' is an end

Axes: B transitions, K actions
"""

from torch import Tensor


def bellman_target(reward: Tensor, terminated: Tensor, next_value: Tensor, discount: float) -> Tensor:
    """(B,) what each transition says of the value of its action.

    Args:
        reward: (B,).
        terminated: (B,) bool, True where nothing follows. Not where a time limit cut an episode short.
        next_value: (B,) what the next state is held to be worth.
    """
    return reward + discount * next_value.masked_fill(terminated, 0.0)


def value_of(values: Tensor, action: Tensor) -> Tensor:
    """(B,) the values (B, K) of the actions (B,) that were chosen."""
    return values.gather(1, action[:, None])[:, 0]
