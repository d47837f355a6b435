"""Worlds to act in, many episodes side by side, written from their equations.

A world is a pair of pure functions: where an episode starts, and what an action does in a state. A state is all that
there is to know of it, and it is what a network sees; who counts steps and begins anew is `zoo.data.control`.

Barto, Sutton, Anderson, "Neuronlike adaptive elements that can solve difficult learning control problems", IEEE
Transactions on Systems, Man and Cybernetics, 1983, is the cart with a pole. Numbers, starts and rewards are those of
gymnasium's CartPole-v1 and Pendulum-v1, to which both are equal, step by step (tests/data/test_environments.py).

Departures from gymnasium
1. A state is measured in units of which it has about one (`units`): an angle of 12 degrees is a 1, not a 0.2. A network
   that must see where the pole falls learns it several times faster.

Axes: N episodes, F values of a state, A values of an action, T steps, L lines of a drawing
"""

import math
from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.errors import UserError


class Step(NamedTuple):
    """What an action brings about.

    state: (N, F), the next one.
    reward: (N,) float.
    terminated: (N,) bool, True where the next state is an end: nothing follows it, so it is worth nothing.
    """

    state: Tensor
    reward: Tensor
    terminated: Tensor


class Environment:
    """Base of all worlds.

    Args:
        time_limit: steps after which an episode is cut short. That is no end of the world's own: the state that is
            reached is worth what it always is.

    Attributes:
        names: of the F values of a state.
        units: what a 1 of each of them is in the equations; none where they are as they are there.
        action_names: of the actions, where one of several is chosen; else of the A values of an action.
        action_limits: least and greatest value of an action; None where one of several is chosen.
    """

    names: tuple[str, ...]
    action_names: tuple[str, ...]
    action_limits: tuple[float, float] | None = None
    units: tuple[float, ...] = ()

    def __init__(self, *, time_limit: int) -> None:
        if not isinstance(time_limit, int) or time_limit < 1:
            raise UserError(f"data.environment.time_limit={time_limit} must be a whole number from 1 on.")
        self.time_limit = time_limit

    def measured(self, values: Tensor) -> Tensor:
        """Values (N, F) of the equations as a state."""
        return values / values.new_tensor(self.units)

    def of_the_equations(self, state: Tensor) -> Tensor:
        """The values (N, F) that a state stands for."""
        return state * state.new_tensor(self.units)

    @abstractmethod
    def start(self, number: int, generator: torch.Generator) -> Tensor:
        """(number, F) first states of episodes."""

    @abstractmethod
    def step(self, state: Tensor, action: Tensor) -> Step:
        """Acts in states (N, F); action: (N,) int64, or (N, A) float."""

    def random_action(self, number: int, generator: torch.Generator) -> Tensor:
        """(number,) or (number, A) actions, of which each is as likely as any other."""
        if self.action_limits is None:
            return torch.randint(len(self.action_names), (number,), generator=generator)
        low, high = self.action_limits
        return low + (high - low) * torch.rand(number, len(self.action_names), generator=generator)

    def lines(self, state: Tensor) -> Tensor | None:
        """A drawing of states (T, F): the two ends (x, y) of each line, (T, L, 2, 2). None: nothing can be drawn."""
        return None


class CartPole(Environment):
    """A cart on a rail, pushed to the left (0) or to the right (1), on which a pole stands on its end.

    With F the push, x the cart's place, a the pole's angle from upright, M the mass of both, m and l mass and half
    length of the pole:

        p   = (F + m l a'^2 sin a) / M
        a'' = (g sin a - p cos a) / (l (4/3 - m cos^2 a / M))        x'' = p - m l a'' cos a / M

    in steps of 0.02 s by Euler's rule. Each step brings a reward of 1; the episode ends where the pole leans more than
    12 degrees or the cart leaves 2.4 m to either side.
    """

    names = ("place of the cart / 2.4 m", "its speed / 2.4 m/s", "angle of the pole / 12°", "its speed / 120°/s")
    action_names = ("left", "right")
    units = (2.4, 2.4, math.radians(12), math.radians(120))
    gravity, mass, pole_mass, half_length, push, seconds = 9.8, 1.1, 0.1, 0.5, 10.0, 0.02
    scale: ClassVar = {"cart": 0.25, "rail": 2.4}  # of the drawing, in metres

    def __init__(self, *, time_limit: int = 500) -> None:
        super().__init__(time_limit=time_limit)

    def start(self, number: int, generator: torch.Generator) -> Tensor:
        return self.measured(0.1 * torch.rand(number, 4, generator=generator) - 0.05)

    def step(self, state: Tensor, action: Tensor) -> Step:
        values = self.of_the_equations(state)  # (N, 4)
        _, speed, angle, turning = values.unbind(1)  # (N,) each
        force = self.push * (2 * action.to(state.dtype) - 1)
        sine, cosine, lever = angle.sin(), angle.cos(), self.pole_mass * self.half_length
        pushed = (force + lever * turning**2 * sine) / self.mass
        angular = (self.gravity * sine - pushed * cosine) / (
            self.half_length * (4 / 3 - self.pole_mass * cosine**2 / self.mass)
        )
        change = torch.stack([speed, pushed - lever * angular * cosine / self.mass, turning, angular], 1)  # (N, 4)
        after = self.measured(values + self.seconds * change)  # (N, 4)
        return Step(after, torch.ones_like(speed), (after[:, 0].abs() > 1) | (after[:, 2].abs() > 1))

    def lines(self, state: Tensor) -> Tensor:
        place, _, angle, _ = self.of_the_equations(state).unbind(1)  # (T,) each
        zero, cart, rail = torch.zeros_like(place), self.scale["cart"], self.scale["rail"]
        top = torch.stack([place + 2 * self.half_length * angle.sin(), 2 * self.half_length * angle.cos()], 1)
        ends = [
            (torch.stack([zero - rail, zero], 1), torch.stack([zero + rail, zero], 1)),
            (torch.stack([place - cart, zero], 1), torch.stack([place + cart, zero], 1)),
            (torch.stack([place, zero], 1), top),
        ]
        return torch.stack([torch.stack(pair, 1) for pair in ends], 1)  # (T, 3, 2, 2)


class Pendulum(Environment):
    """A rod hangs on a motor too weak to lift it in one go: swing it up, and hold it there.

    With a the angle from upright and u the torque, from -2 to 2, in steps of 0.05 s:

        a'' = 3 g / (2 l) sin a + 3 u / (m l^2),  g = 10, l = m = 1        reward = -(a^2 + 0.1 a'^2 + 0.001 u^2)

    with a between -pi and pi and a' kept within 8. It never ends by itself. A state is (cos a, sin a, a' / 8).
    """

    names = ("cosine of the angle", "sine of the angle", "angular speed / 8")
    units = (1.0, 1.0, 8.0)
    action_names = ("torque",)
    action_limits = (-2.0, 2.0)
    most_speed, seconds = 8.0, 0.05

    def __init__(self, *, time_limit: int = 200) -> None:
        super().__init__(time_limit=time_limit)

    def start(self, number: int, generator: torch.Generator) -> Tensor:
        angle, speed = (2 * torch.rand(2, number, generator=generator) - 1).unbind()  # (N,) each
        return self.seen(math.pi * angle, speed)

    def seen(self, angle: Tensor, speed: Tensor) -> Tensor:
        return self.measured(torch.stack([angle.cos(), angle.sin(), speed], 1))  # (N, 3)

    def step(self, state: Tensor, action: Tensor) -> Step:
        torque = action[:, 0].clamp(*self.action_limits)  # (N,)
        cosine, sine, speed = self.of_the_equations(state).unbind(1)  # (N,) each
        angle = torch.atan2(sine, cosine)  # (N,)
        reward = -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)
        speed = (speed + (15 * sine + 3 * torque) * self.seconds).clamp(-self.most_speed, self.most_speed)
        after = self.seen(angle + speed * self.seconds, speed)  # (N, 3)
        return Step(after, reward, torch.zeros_like(reward, dtype=torch.bool))

    def lines(self, state: Tensor) -> Tensor:
        tip = torch.stack([state[:, 1], state[:, 0]], 1)  # (T, 2)
        return torch.stack([torch.zeros_like(tip), tip], 1)[:, None]  # (T, 1, 2, 2)


class Chain(Environment):
    """Places in a row, each a state of its own: to the left (0) or to the right (1).

    Right of the last place is the goal: a reward of 1, and the end. Left of the first place is a wall. All else brings
    nothing, so the value of going right is discount^(length - 1 - place), and whoever knows the discount knows all.
    An episode starts anywhere. Small enough for tables (zoo/scratch/q_learning.py).

    Args:
        length: F, the number of places; a state is one-hot.
        time_limit: see `Environment`.
    """

    action_names = ("left", "right")

    def __init__(self, *, length: int = 6, time_limit: int = 50) -> None:
        super().__init__(time_limit=time_limit)
        if not isinstance(length, int) or length < 2:
            raise UserError(f"data.environment.length={length} must be a whole number from 2 on.")
        self.length = length
        self.names = tuple(f"place {place}" for place in range(length))

    def start(self, number: int, generator: torch.Generator) -> Tensor:
        return self.one_hot(torch.randint(self.length, (number,), generator=generator))

    def one_hot(self, place: Tensor) -> Tensor:
        return F.one_hot(place, self.length).float()  # (N, F)

    def step(self, state: Tensor, action: Tensor) -> Step:
        place = state.argmax(1) + 2 * action - 1  # (N,)
        arrived = place == self.length
        after = self.one_hot(place.clamp(0, self.length - 1)).to(state.dtype)
        return Step(after, arrived.to(state.dtype), arrived)
