"""Tables of values: from Bellman's equation, learnt step by step, and learnt by the task that networks have."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from zoo.data.control import Control
from zoo.data.environments import Chain
from zoo.models.mlp import MLP
from zoo.scratch.q_learning import q_update, value_iteration
from zoo.tasks.q_learning import QLearning

DISCOUNT = 0.9


def world_of(chain):
    """Chances, rewards and ends (S, K, S) of a chain, told by the chain itself."""
    size = chain.length
    chances, rewards, ends = (torch.zeros(size, 2, size, dtype=torch.float64) for _ in range(3))
    places = torch.arange(size)
    for action in (0, 1):
        after = chain.step(chain.one_hot(places), torch.full((size,), action))
        chances[places, action, after.state.argmax(1)] = 1
        rewards[places, action, after.state.argmax(1)] = after.reward.double()
        ends[places, action, after.state.argmax(1)] = after.terminated.double()
    return chances, rewards, ends.bool()


def true_values(chain):
    chances, rewards, ends = world_of(chain)
    return value_iteration(chances, rewards, DISCOUNT, ends=ends)


def test_value_iteration_finds_what_is_known_of_a_chain():
    """Right: discount^(steps left). Left: one step to the left, or against the wall, and then right."""
    found = true_values(Chain(length=4))
    right = [DISCOUNT**3, DISCOUNT**2, DISCOUNT, 1]
    assert found[:, 1].tolist() == pytest.approx(right)
    assert found[:, 0].tolist() == pytest.approx([DISCOUNT * right[max(0, place - 1)] for place in range(4)])


def test_value_iteration_solves_bellmans_equation_of_a_world_by_chance():
    generator = torch.Generator().manual_seed(0)
    chances = torch.rand(5, 3, 5, generator=generator, dtype=torch.float64)
    chances /= chances.sum(2, keepdim=True)
    rewards = torch.randn(5, 3, 5, generator=generator, dtype=torch.float64)
    found = value_iteration(chances, rewards, DISCOUNT)
    best = found.argmax(1)  # the policy's own values follow from a linear system
    rows = torch.arange(5)
    moves, gains = chances[rows, best], (chances * rewards).sum(2)[rows, best]
    exact = torch.linalg.solve(torch.eye(5, dtype=torch.float64) - DISCOUNT * moves, gains)
    torch.testing.assert_close(found.amax(1), exact, rtol=0, atol=1e-8)


def test_step_by_step_one_learns_what_bellmans_equation_says():
    chain, generator = Chain(length=5), torch.Generator().manual_seed(0)
    values = torch.zeros(5, 2, dtype=torch.float64)
    state = chain.start(1, generator)
    for _ in range(3000):
        action = chain.random_action(1, generator)
        after = chain.step(state, action)
        step = int(state.argmax()), int(action), float(after.reward), int(after.state.argmax()), bool(after.terminated)
        values = q_update(values, *step, rate=0.5, discount=DISCOUNT)
        state = chain.start(1, generator) if after.terminated else after.state
    torch.testing.assert_close(values, true_values(chain), rtol=0, atol=1e-3)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("time_limit", [100, 2])
def test_the_task_learns_what_bellmans_equation_says_however_short_its_episodes(time_limit, double):
    """One weight for each value. Cut short after two steps, nobody who starts on the left ever sees the goal.

    Who took a time limit for an end would hold these places to be worth nothing.
    """
    torch.manual_seed(0)
    chain = Chain(length=6, time_limit=time_limit)
    data = Control(environment=chain, num_envs=8, num_train=400, capacity=2000, batch_size=64)
    model = MLP(in_features=6, out_features=2, hidden_features=[])
    sgd = partial(torch.optim.SGD, lr=1.0)
    task = QLearning(model, sgd, discount=DISCOUNT, target_every=5, double=double, epsilon_steps=4000, delta=10.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    task.trainer = SimpleNamespace(datamodule=data, global_step=0)
    for step, places in enumerate(draws(data)):
        task.trainer.global_step = step
        batch = data.part("train")[places]
        task.on_train_batch_start(batch, step)
        optimizer.zero_grad()
        task.losses(batch)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        found = model(torch.eye(6)).double()
    torch.testing.assert_close(found, true_values(chain), rtol=0, atol=1e-3)


def draws(data):
    data.num_updates = 1500
    return data.train_dataloader().order
