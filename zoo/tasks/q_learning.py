"""Q-learning with a network: the value of each action in a state, from which the best one follows.

Watkins, "Learning from delayed rewards", 1989; with a memory and a target network Mnih et al., "Human-level control
through deep reinforcement learning", Nature 518, 2015, algorithm 1 (DQN). Q is the network, Q- the target network:

    loss = huber(y - Q(s, a))        y = r + discount max_a' Q-(s', a')        y = r where s' is an end

The greatest of several values that are each a little wrong is too great on average. Double Q-learning (van Hasselt,
Guez, Silver, "Deep reinforcement learning with double Q-learning", 2016, arXiv 1509.06461) lets one network choose and
the other one say what the choice is worth:

    y = r + discount Q-(s', argmax_a' Q(s', a'))

Actions are the best that is known, and with probability epsilon any. Of a batch are shown

    td_error    mean |y - Q(s, a)|        value    mean Q(s, a)        epsilon

Departures from the paper
1. Several environments side by side, a step in each between two updates; the paper has one, and 4 steps.
2. An update draws from what is remembered before the step at hand, not after it.
3. Rewards and values are as the world has them, and an error counts squared up to a `delta` of 100. The paper cuts off
   rewards below -1 and above 1, and errors as a Huber loss with a delta of 1 does; with values of about 100, an end
   then counts too little against all that lets them grow.

Axes: B batch, F values of a state, K actions
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UserError
from zoo.losses.reinforcement import bellman_target, value_of
from zoo.tasks.reinforcement import Reinforcement


class QLearning(Reinforcement):
    """DQN and double DQN.

    Args:
        model: states (B, F) -> values (B, K).
        optimizer, scheduler, seed, discount, target_every, target_rate: see `Reinforcement`.
        double: the network that learns chooses the next action, and the target network values it.
        delta: where the Huber loss turns from squared to linear.
        epsilon_start, epsilon_end: how often an action is any, at first and in the end.
        epsilon_steps: steps in all environments together over which it falls evenly, those before learning included.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        seed: int = 0,
        discount: float = 0.99,
        target_every: int = 50,
        target_rate: float = 1.0,
        double: bool = False,
        delta: float = 100.0,
        epsilon_start: float = 1.0,
        epsilon_end: float = 0.05,
        epsilon_steps: int = 100_000,
    ) -> None:
        super().__init__(
            model,
            optimizer,
            scheduler,
            seed=seed,
            discount=discount,
            target_every=target_every,
            target_rate=target_rate,
        )
        for name, value in (("epsilon_start", epsilon_start), ("epsilon_end", epsilon_end)):
            if not 0 <= value <= 1:
                raise UserError(f"task.{name}={value} must be from 0 to 1.")
        self.is_double, self.delta = double, delta  # a module's own `double` changes its precision
        self.epsilon_start, self.epsilon_end, self.epsilon_steps = epsilon_start, epsilon_end, epsilon_steps

    def losses(self, batch: Any) -> dict[str, Tensor]:
        value = value_of(self.model(batch.state), batch.action)  # (B,)
        with torch.no_grad():
            after = self.target(batch.next_state)  # (B, K)
            best = (self.model(batch.next_state) if self.is_double else after).argmax(1)  # (B,)
            goal = bellman_target(batch.reward, batch.terminated, value_of(after, best), self.discount)  # (B,)
        return {
            "loss": F.huber_loss(value, goal, delta=self.delta),
            "td_error": F.l1_loss(value.detach(), goal),
            "value": value.detach().mean(),
        }

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.latest["epsilon"] = torch.tensor(self.epsilon)
        return loss

    @property
    def epsilon(self) -> float:
        """How often an action is any, by now."""
        share = min(1.0, self.data.num_steps / self.epsilon_steps)
        return self.epsilon_start + share * (self.epsilon_end - self.epsilon_start)

    def policy(self, state: Tensor) -> Tensor:
        return self.model(state).argmax(1)

    def explore(self, state: Tensor, generator: torch.Generator) -> Tensor:
        any_action = self.data.environment.random_action(len(state), generator)  # (E,)
        explores = torch.rand(len(state), generator=generator) < self.epsilon  # (E,)
        return torch.where(explores, any_action, self.policy(state).cpu())

    def value(self, state: Tensor) -> Tensor:
        return self.model(state).amax(1)
