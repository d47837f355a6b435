"""Data that come about by acting: what is remembered, in which order it is drawn, and what a checkpoint holds of it."""

import copy

import pytest
import torch

from zoo.batches import TransitionBatch
from zoo.data.control import Control, Draws, Memory
from zoo.data.environments import CartPole, Chain, Pendulum
from zoo.errors import UserError


def small(environment=None, **settings):
    sizes = {"num_envs": 3, "num_train": 12, "capacity": 30, "num_updates": 5, "num_val": 4, "num_test": 6}
    return Control(environment=environment or CartPole(), **(sizes | {"batch_size": 8} | settings))


def numbered(*numbers):
    values = torch.tensor(numbers)
    return TransitionBatch(values[:, None].float(), values, values.float(), values[:, None] + 0.5, values < 0)


def everything(memory):
    return memory[torch.arange(len(memory))]


def test_a_memory_forgets_the_oldest_first():
    memory = Memory(5, numbered(0))
    memory.add(numbered(0, 1, 2))
    assert (len(memory), everything(memory).action.tolist()) == (3, [0, 1, 2])
    memory.add(numbered(3, 4, 5))
    assert (len(memory), everything(memory).action.tolist()) == (5, [5, 1, 2, 3, 4])
    assert everything(memory).next_state[0].item() == 5.5


def test_draws_are_of_what_is_there_when_they_are_asked_for():
    memory = Memory(100, numbered(0))
    memory.add(numbered(*range(4)))
    draws = iter(Draws(memory, 50, 8, shuffle=True))
    assert torch.cat([next(draws) for _ in range(20)]).unique().tolist() == [0, 1, 2, 3]
    memory.add(numbered(*range(4, 8)))
    assert torch.cat([next(draws) for _ in range(20)]).unique().tolist() == list(range(8))
    assert len(list(draws)) == 10


def test_draws_are_as_likely_as_one_another_and_follow_from_seed_epoch_and_place():
    memory = Memory(10, numbered(0))
    memory.add(numbered(*range(10)))
    order = Draws(memory, 500, 40, shuffle=True)
    first = list(order)
    counts = torch.bincount(torch.cat(first), minlength=10)
    assert (counts - 2000).abs().max() < 5 * 2000**0.5
    assert all(torch.equal(a, b) for a, b in zip(order, first, strict=True))
    order.first_batch = 497
    assert all(torch.equal(a, b) for a, b in zip(order, first[497:], strict=True))
    order.first_batch = 0
    order.set_epoch(1)
    assert not torch.equal(next(iter(order)), first[0])
    halves = [next(iter(Draws(memory, 1, 40, shuffle=True, rank=rank, world_size=2))) for rank in (0, 1)]
    assert torch.equal(torch.stack(halves, 1).flatten(), first[0])


def test_what_is_remembered_is_what_the_world_did():
    data = small()
    batch = everything(data.part("train"))
    assert len(batch.reward) == 12
    after = data.environment.step(batch.state, batch.action)
    assert torch.equal(after.state, batch.next_state)
    assert torch.equal(after.terminated, batch.terminated)
    follows = ~batch.terminated[:9]
    assert torch.equal(batch.next_state[:9][follows], batch.state[3:][follows]), "each goes on where it stands"


def test_an_episode_that_is_cut_short_is_no_end_and_the_next_begins_anew():
    """The state that is remembered as the next one is the one that was reached, not the one that came after it."""
    data = small(Pendulum(time_limit=4), num_train=3)
    data.prepare()
    for _ in range(2):
        data.act(torch.zeros(3, 1))
    before = data.state
    data.act(torch.zeros(3, 1))  # the fourth step
    newest = data.memory[torch.arange(9, 12)]
    assert torch.equal(newest.next_state, data.environment.step(before, torch.zeros(3, 1)).state)
    assert not newest.terminated.any()
    assert data.lengths.tolist() == [0, 0, 0]
    assert not torch.isclose(data.state, newest.next_state).all(1).any()
    assert data.mean_episode()["length"] == 4


def test_an_episode_that_ends_is_an_end():
    data = small(Chain(length=2, time_limit=100), num_train=3)
    data.prepare()
    for _ in range(40):
        data.act(torch.ones(3, dtype=torch.int64))
    newest = everything(data.memory)
    assert torch.equal(newest.terminated, newest.reward == 1)
    assert 0.4 < newest.terminated.float().mean() < 0.9, "one step or two, by where it starts"
    found = data.mean_episode()
    assert found["return"] == 1
    assert 1 < found["length"] < 2


def test_random_actions_have_a_return_to_compare_with():
    loaded = small(num_test=1000).prepare()
    assert 20 < loaded.facts["baseline_return"] < 24.5  # about 22
    assert loaded.facts["num_features"] == 4
    assert loaded.facts["num_actions"] == 2
    assert "mean return of" in loaded.notes[0]
    assert small(Pendulum()).prepare().facts["action_size"] == 1


def test_parts_follow_from_the_seed_and_not_from_one_another():
    first, second, other = small(), small(num_train=3, num_envs=1, num_test=9), small(seed=1)
    val, test = (everything(first.part(name)).state for name in ("val", "test"))
    assert torch.equal(val, everything(second.part("val")).state)
    assert not torch.equal(val, test[:4])
    assert not torch.equal(val, everything(other.part("val")).state)
    assert small().prepare().fingerprint == first.prepare().fingerprint != other.prepare().fingerprint


def test_what_has_come_about_can_be_saved_and_goes_on_alike():
    data, other = small(), small()
    for each in (data, other):
        each.prepare()
    actions = torch.randint(2, (30, 3), generator=torch.Generator().manual_seed(5))
    for action in actions[:20]:
        data.act(action)
    saved = copy.deepcopy(data.state_dict())
    other.load_state_dict(saved)
    for action in actions[20:]:
        data.act(action)
        other.act(action)
    assert all(torch.equal(a, b) for a, b in zip(everything(data.memory), everything(other.memory), strict=True))
    assert torch.equal(data.state, other.state)
    assert data.mean_episode() == other.mean_episode()
    assert other.num_steps == 12 + 90


def test_overfitting_nobody_acts():
    data = small(overfit=True)
    assert not data.grows
    assert len(data.part("train")) == len(data.part("val")) == 8
    assert small().grows


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_envs": 0}, "data.num_envs=0 must be a whole number from 1 on"),
        ({"capacity": 2}, "data.capacity=2 must be a whole number from 3 on"),
        ({"num_train": 31}, "data.num_train=31 transitions are more than data.capacity=30 holds"),
        ({"num_updates": 0}, "data.num_updates=0"),
    ],
)
def test_what_is_no_size_is_refused_in_one_line(settings, told):
    with pytest.raises(UserError, match=told):
        small(**settings)
