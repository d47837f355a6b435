"""Data that do not lie there but come about: what is learnt from is what was seen while acting in a world.

The training part is a memory of transitions. It begins with those of random actions and grows while it is learnt from:
before each update somebody acts (`act`), a step in each of the environments, and once it is full the newest transitions
take the place of the oldest. An iteration draws one batch from what there is by then; an epoch is a number of
iterations. Validation and test have the first transitions of other episodes, always the same: whoever knows a policy
plays them to their end.

Lin, "Self-improving reactive agents based on reinforcement learning, planning and teaching", Machine Learning 8, 1992,
has the memory; Mnih et al., "Human-level control through deep reinforcement learning", Nature 518, 2015, that it begins
with random actions.

What is drawn is a function of the seed and of where it is drawn, and what has come about is part of a checkpoint. All
processes act alike, and each learns from its own rows of a batch.

Axes: E environments, N transitions of a part, B batch, F values of a state, A values of an action
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from zoo.batches import TransitionBatch
from zoo.data.base import BatchOrder, DataModule, InMemory, Loaded
from zoo.data.environments import Environment
from zoo.data.images import check_size, fingerprint
from zoo.errors import UserError
from zoo.noise import generator_at


class Memory(InMemory):
    """The last `capacity` transitions, as a data set that grows.

    Attributes:
        written: transitions that were ever remembered.
    """

    def __init__(self, capacity: int, like: TransitionBatch) -> None:
        super().__init__(TransitionBatch, *(x.new_empty(capacity, *x.shape[1:]) for x in like))
        self.capacity, self.written = capacity, 0

    def __len__(self) -> int:
        return min(self.written, self.capacity)

    def add(self, batch: TransitionBatch) -> None:
        places = (self.written + torch.arange(len(batch.reward))) % self.capacity  # (B,)
        for kept, new in zip(self.tensors, batch, strict=True):
            kept[places] = new
        self.written += len(batch.reward)

    def state_dict(self) -> dict[str, Any]:
        return {"written": self.written, "tensors": [kept[: len(self)].clone() for kept in self.tensors]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.written = state["written"]
        for kept, saved in zip(self.tensors, state["tensors"], strict=True):
            kept[: len(saved)] = saved


class Draws(BatchOrder):
    """An epoch of batches that are drawn from a memory with replacement, each from what is there when it is asked for.

    Args:
        num_batches: of an epoch.
        memory, batch_size, seed, rank, world_size: see `BatchOrder`.
    """

    def __init__(self, memory: Memory, num_batches: int, batch_size: int, **options: Any) -> None:
        super().__init__(len(memory), batch_size, **options)
        self.memory, self.num_batches = memory, num_batches

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Tensor]:
        for number in range(self.first_batch, self.num_batches):
            generator = generator_at(self.seed, "memory", self.epoch, number)
            drawn = torch.randint(len(self.memory), (self.batch_size,), generator=generator)  # (B,)
            yield drawn[self.rank :: self.world_size]


class Control(DataModule):
    """A world, those who act in it, and what they have seen.

    Args:
        environment: the world's rules.
        num_envs: E, environments in which one step is taken before each update.
        num_train: transitions of random actions that the memory begins with.
        capacity: transitions that it holds.
        num_updates: iterations of an epoch.
        num_val, num_test: episodes of validation and test.
        batch_size, eval_batch_size, seed, overfit: see `DataModule`; overfitting, nobody acts.

    Attributes:
        state: (E, F), where those who act stand.
        num_steps: steps that were taken, those of random actions among them, in all environments together.
    """

    def __init__(
        self,
        *,
        environment: Environment,
        num_envs: int = 10,
        num_train: int = 10_000,
        capacity: int = 10_000,
        num_updates: int = 500,
        num_val: int = 20,
        num_test: int = 100,
        batch_size: int | str = 128,
        eval_batch_size: int = 1000,
        seed: int = 0,
        overfit: bool = False,
    ) -> None:
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, overfit=overfit)
        sizes = {"num_envs": num_envs, "num_train": num_train, "num_updates": num_updates}
        for name, size in (sizes | {"num_val": num_val, "num_test": num_test}).items():
            check_size(name, size, 1)
        check_size("capacity", capacity, num_envs)
        if num_train > capacity:
            raise UserError(f"data.num_train={num_train} transitions are more than data.capacity={capacity} holds.")
        self.environment, self.num_envs, self.num_updates = environment, num_envs, num_updates
        self.num_train, self.capacity = num_train, capacity
        self.finished = torch.zeros(3, dtype=torch.float64)
        self.num_episodes = {"val": num_val, "test": num_test}

    # ---- acting

    def begin(self) -> None:
        """The first states, and a memory of what random actions did from there on."""
        self.num_steps = 0
        self.state = self.environment.start(self.num_envs, generator_at(self.seed, "start"))  # (E, F)
        self.lengths, self.returns = torch.zeros(self.num_envs), torch.zeros(self.num_envs)  # of episodes so far, (E,)
        self.forget()
        self.memory = Memory(self.capacity, self.first_of("train", 1))
        while len(self.memory) < self.num_train:
            generator = generator_at(self.seed, "random action", self.num_steps)
            self.act(self.environment.random_action(self.num_envs, generator))
        self.forget()

    def act(self, action: Tensor) -> None:
        """One step in each environment, which is remembered; an episode that is over makes place for the next.

        Only where the world itself has ended is nothing to follow; a time limit leaves what it was worth to go on.

        Args:
            action: (E,) int64, or (E, A) float.
        """
        state, reward, terminated = self.environment.step(self.state, action)
        self.memory.add(TransitionBatch(self.state, action, reward, state, terminated))
        self.lengths, self.returns = self.lengths + 1, self.returns + reward
        over = terminated | (self.lengths >= self.environment.time_limit)  # (E,)
        if over.any():
            ended = torch.stack([over, self.returns * over, self.lengths * over])  # (3, E)
            self.finished = self.finished + ended.double().sum(1)
            fresh = self.environment.start(self.num_envs, generator_at(self.seed, "start", self.num_steps))
            state = torch.where(over[:, None], fresh, state)
            self.lengths, self.returns = self.lengths * ~over, self.returns * ~over
        self.state, self.num_steps = state, self.num_steps + self.num_envs

    def forget(self) -> None:
        """Begins to count finished episodes anew: number, sum of returns, sum of lengths."""
        self.finished = torch.zeros(3, dtype=torch.float64)

    def mean_episode(self) -> dict[str, float]:
        """Of the episodes that came to an end since; empty where none did."""
        number, returns, lengths = self.finished.tolist()
        return {"return": returns / number, "length": lengths / number} if number else {}

    def random_return(self, state: Tensor) -> float:
        """The mean return of episodes from states (N, F) that go by chance."""
        total, generator = torch.zeros(len(state)), generator_at(self.seed, "by chance")
        running = torch.ones(len(state), dtype=torch.bool)
        for _ in range(self.environment.time_limit):
            state, reward, terminated = self.environment.step(
                state, self.environment.random_action(len(state), generator)
            )
            total, running = total + reward * running, running & ~terminated
            if not running.any():
                break
        return float(total.mean())

    @property
    def grows(self) -> bool:
        return self.part("train") is self.memory

    # ---- as any other data

    def first_of(self, part: str, number: int) -> TransitionBatch:
        """Random actions in the first states of a part's episodes."""
        state = self.environment.start(number, generator_at(self.seed, "start", part))
        action = self.environment.random_action(number, generator_at(self.seed, "random action", part))
        after = self.environment.step(state, action)
        return TransitionBatch(state, action, after.reward, after.state, after.terminated)

    def load(self) -> Loaded:
        self.begin()
        parts = {part: InMemory(TransitionBatch, *self.first_of(part, n)) for part, n in self.num_episodes.items()}
        chosen = self.environment.action_limits is None
        names = list(self.environment.action_names)
        facts: dict[str, Any] = {"kind": "control", "num_features": self.state.shape[1]}
        facts |= {"num_actions": len(names)} if chosen else {"action_size": len(names)}
        facts["baseline_return"] = self.random_return(parts["test"].tensors[0])
        drawn = [self.memory.tensors[1][: len(self.memory)], *(part.tensors[1] for part in parts.values())]
        return Loaded(
            parts={"train": self.memory, **parts},
            facts=facts,
            preprocessing={"kind": "control"},
            class_names=names,
            notes=[f"Random actions have a mean return of {facts['baseline_return']:.4g} here."],
            # Of actions alone: states are computed, on another machine perhaps with another last digit.
            fingerprint=fingerprint(drawn),
        )

    def make_order(self, dataset: Any, batch_size: int, **options: Any) -> BatchOrder:
        if isinstance(dataset, Memory) and options.get("shuffle"):
            return Draws(dataset, self.num_updates, batch_size, **options)
        return super().make_order(dataset, batch_size, **options)

    def state_dict(self) -> dict[str, Any]:
        """What has come about, for a checkpoint."""
        own = {name: getattr(self, name) for name in ("state", "lengths", "returns", "finished", "num_steps")}
        return own | {"memory": self.memory.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            if name != "memory":
                setattr(self, name, value)
        self.memory.load_state_dict(state_dict["memory"])
