"""What the tasks that learn from acting have in common.

    data (zoo.data.control)                            task
    the world, those who act in it,     state  ->      chooses actions, some of them to explore
    what they have seen: a memory    <-  action
                                        batch  ->      loss, gradient, update, as in any other task

An iteration is one step in each environment and one update from a batch of what is remembered. A target network, which
follows the one that learns, says what the next state is worth: else each update would move its own goal.

Validation and test play episodes to their end, always from the same first states, without exploring:

    return               sum of the rewards, the mean over episodes
    length               steps
    discounted_return    sum of discount^t reward
    expected_return      what the network thought of that at the first state: by how much it is too high shows how much
                         the values are overestimated (van Hasselt, Guez, Silver 2016, section 4)

Axes: B batch or episodes, F values of a state, T steps
"""

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.errors import UserError
from zoo.noise import generator_at
from zoo.pictures.control import episode, frames
from zoo.tasks.base import Task


class Episodes(NamedTuple):
    """What was played.

    states: (T, B, F), before each step.
    actions: (T, B), or (T, B, A).
    rewards: (T, B), 0 once an episode is over.
    running: (T, B) bool, True where an episode is not yet over.
    """

    states: Tensor
    actions: Tensor
    rewards: Tensor
    running: Tensor


class Reinforcement(Task):
    """Base of the algorithms.

    Args:
        model, optimizer, scheduler: see `Task`.
        seed: of exploration.
        discount: what a reward is worth a step later, from 0 on and below 1.
        target_every: iterations between two moves of the target network.
        target_rate: how far each goes, in (0, 1]; 1 is a copy.
    """

    batches = ("TransitionBatch",)
    monitor, mode = "val/return", "max"

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        *,
        seed: int = 0,
        discount: float = 0.99,
        target_every: int = 1,
        target_rate: float = 1.0,
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        if not 0 <= discount < 1:
            raise UserError(f"task.discount={discount} must be from 0 on and below 1.")
        if not 0 < target_rate <= 1:
            raise UserError(f"task.target_rate={target_rate} must be above 0 and at most 1.")
        self.seed, self.discount = seed, discount
        self.target_every, self.target_rate = target_every, target_rate
        self.target: Any = copy.deepcopy(model).requires_grad_(False)

    # ---- what an algorithm says

    @abstractmethod
    def policy(self, state: Tensor) -> Tensor:
        """The best actions (B,) or (B, A) that are known for states (B, F)."""

    @abstractmethod
    def explore(self, state: Tensor, generator: torch.Generator) -> Tensor:
        """Actions in training, some of them for what may be learnt from them."""

    @abstractmethod
    def value(self, state: Tensor) -> Tensor:
        """What states (B, F) are held to be worth, (B,)."""

    # ---- acting

    @property
    def data(self) -> Any:
        """The world and what was seen of it; a trainer must be there."""
        return self.trainer.datamodule

    def taken_in(self, state: Tensor) -> Tensor:
        """States as the model takes them."""
        return state.to(next(self.model.parameters()))

    @torch.no_grad()
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """The target network follows, and everybody takes a step: not in training_step, see `Task`."""
        if self.trainer.global_step % self.target_every == 0:
            for slow, fast in zip(self.target.state_dict().values(), self.model.state_dict().values(), strict=True):
                if slow.is_floating_point() and self.target_rate < 1:
                    slow.lerp_(fast, self.target_rate)
                else:
                    slow.copy_(fast)
        if self.data.grows:
            generator = generator_at(self.seed, "explore", self.data.num_steps)
            self.model.eval()
            self.data.act(self.explore(self.taken_in(self.data.state), generator).cpu())
            self.model.train()

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.data.forget()

    def train_means(self) -> dict[str, float]:
        """Beside the losses: return and length of the training episodes that came to an end in this epoch."""
        return super().train_means() | self.data.mean_episode()

    # ---- how good it is

    @torch.no_grad()
    def play(self, state: Tensor) -> Episodes:
        """Episodes from states (B, F) to their end, without exploring; on the CPU."""
        environment, seen = self.data.environment, []
        state = state.cpu()
        running = torch.ones(len(state), dtype=torch.bool)
        for _ in range(environment.time_limit):
            action = self.policy(self.taken_in(state)).cpu()
            after, reward, terminated = environment.step(state, action)
            seen.append((state, action, reward * running, running))
            running = running & ~terminated
            state = torch.where(running[:, None], after, state)
            if not running.any():
                break
        return Episodes(*(torch.stack(parts) for parts in zip(*seen, strict=True)))

    def evaluate(self, stage: str, batch: Any) -> None:
        played, start = self.play(batch.state), self.taken_in(batch.state)
        worth = self.discount ** torch.arange(len(played.rewards))[:, None]  # (T, 1)
        found = {
            "return": played.rewards.sum(0).mean(),
            "length": played.running.sum(0).float().mean(),
            "discounted_return": (worth * played.rewards).sum(0).mean(),
            "expected_return": self.value(start).float().mean(),
        }
        self.means[stage].add(self.losses(batch) | found, self.count_items(batch))

    # ---- what is worth seeing

    def show(self, batch: Any) -> dict[str, Any]:
        """One episode of those that are played: states, actions and values step by step, and as a drawing."""
        played, environment = self.play(batch.state[:1]), self.data.environment
        states = played.states[:, 0]  # (T, F)
        with torch.no_grad():
            values = self.value(self.taken_in(states)).float().cpu()  # (T,)
        shown: dict[str, Any] = {
            "episode": episode(
                states, played.actions[:, 0], played.rewards[:, 0], values, environment.names, environment.action_names
            )
        }
        lines = environment.lines(states)
        if lines is not None:
            shown["frames"] = frames(lines)
        return shown
