"""Worlds to act in: equal to gymnasium's step by step, and what their equations say by themselves."""

import math

import pytest
import torch

from zoo.data.environments import CartPole, Chain, Pendulum
from zoo.errors import UserError

WORLDS = [CartPole(), Pendulum(), Chain()]
each_world = pytest.mark.parametrize("world", WORLDS, ids=lambda world: type(world).__name__)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def theirs(name):
    gymnasium = pytest.importorskip("gymnasium")
    return gymnasium.make(name, disable_env_checker=True)  # which would ask for actions of 32 bits


@pytest.mark.parametrize(("name", "world"), [("CartPole-v1", CartPole()), ("Pendulum-v1", Pendulum())])
def test_a_world_is_gymnasiums_step_by_step(name, world):
    """Whole episodes with random actions, in double precision: states, rewards, ends, and where they are cut short."""
    their_world = theirs(name)
    for seed in range(5):
        seen, _ = their_world.reset(seed=seed)
        inner = torch.tensor(their_world.unwrapped.state)[None]  # float64
        state = world.seen(*inner.T) if name.startswith("Pendulum") else world.measured(inner)  # (1, F)
        for number in range(world.time_limit):
            action = world.random_action(1, generator(1000 * seed + number)).double()
            seen, reward, ended, cut, _ = their_world.step(int(action) if action.ndim == 1 else action[0].numpy())
            state, ours, terminated = world.step(state, action)
            assert world.of_the_equations(state)[0].tolist() == pytest.approx(seen.tolist(), abs=2e-6)
            assert ours.item() == pytest.approx(float(reward), abs=2e-6)
            assert terminated.item() == ended
            assert cut == (number + 1 == world.time_limit)
            if ended:
                break
        assert ended or cut


@pytest.mark.parametrize(("name", "world"), [("CartPole-v1", CartPole()), ("Pendulum-v1", Pendulum())])
def test_episodes_start_where_gymnasiums_do(name, world):
    their_world = theirs(name)
    found = torch.stack([torch.tensor(their_world.reset(seed=seed)[0]) for seed in range(300)])
    ours = world.of_the_equations(world.start(3000, generator()))
    for bound in ("amin", "amax"):
        torch.testing.assert_close(getattr(ours, bound)(0), getattr(found, bound)(0), rtol=0.03, atol=0.03)
    assert ours.mean(0).abs().max() < 0.05


@each_world
def test_each_episode_goes_its_own_way(world):
    state, action = world.start(7, generator()), world.random_action(7, generator(1))
    whole = world.step(state, action)
    for row in range(7):
        alone = world.step(state[row : row + 1], action[row : row + 1])
        assert all(torch.equal(a[0], b[row]) for a, b in zip(alone, whole, strict=True))
    assert whole.state.shape == state.shape == (7, len(world.names))
    assert whole.reward.shape == whole.terminated.shape == (7,)
    assert whole.terminated.dtype == torch.bool


def test_a_cart_that_is_pushed_right_speeds_up_and_its_pole_falls_left():
    """From rest and upright: p = 10 / 1.1, a'' = -p / (l (4/3 - m / M)), x'' = p - m l a'' / M."""
    after = CartPole().step(torch.zeros(1, 4, dtype=torch.float64), torch.tensor([1]))
    values = CartPole().of_the_equations(after.state)
    push = 10 / 1.1
    angular = -push / (0.5 * (4 / 3 - 0.1 / 1.1))
    expected = [0, 0.02 * (push - 0.05 * angular / 1.1), 0, 0.02 * angular]
    assert values[0].tolist() == pytest.approx(expected)
    assert (after.reward.item(), after.terminated.item()) == (1.0, False)


@pytest.mark.parametrize(
    ("state", "ends"),
    [
        ((2.39, 0, 0, 0), False),
        ((2.39, 1, 0, 0), True),
        ((-2.39, -1, 0, 0), True),
        ((0, 0, math.radians(11.9), 0), False),
        ((0, 0, math.radians(11.9), 0.2), True),
        ((0, 0, -math.radians(11.9), -0.2), True),
    ],
)
def test_the_cart_must_stay_on_its_rail_and_the_pole_upright(state, ends):
    world = CartPole()
    assert world.step(world.measured(torch.tensor([state])), torch.tensor([1])).terminated.item() is ends


def test_a_pendulum_at_rest_upright_costs_nothing_and_a_strong_torque_is_cut():
    world, upright = Pendulum(), torch.tensor([[1.0, 0.0, 0.0]])
    assert world.step(upright, torch.zeros(1, 1)).reward.item() == 0
    hanging = torch.tensor([[-1.0, 0.0, 0.0]])
    assert world.step(hanging, torch.zeros(1, 1)).reward.item() == pytest.approx(-(math.pi**2), rel=1e-6)
    strong, most = (world.step(upright, torch.tensor([[torque]])) for torque in (50.0, 2.0))
    assert all(torch.equal(a, b) for a, b in zip(strong, most, strict=True))
    assert 8 * strong.state[0, 2].item() == pytest.approx(3 * 2 * 0.05)
    assert world.step(torch.tensor([[0.0, 1.0, 1.0]]), torch.ones(1, 1)).state[0, 2].item() == 1, "no more than 8"


def test_a_chain_has_a_wall_on_its_left_and_a_goal_on_its_right():
    world = Chain(length=3)
    places = torch.arange(3)
    left, right = (world.step(world.one_hot(places), torch.full((3,), action)) for action in (0, 1))
    assert left.state.argmax(1).tolist() == [0, 0, 1]
    assert right.state.argmax(1)[:2].tolist() == [1, 2]
    assert right.reward.tolist() == [0, 0, 1]
    assert right.terminated.tolist() == [False, False, True]
    assert not left.terminated.any()
    assert left.reward.sum() == 0


def test_a_drawing_has_the_pole_on_the_cart_and_the_rod_on_its_motor():
    leaning = CartPole().measured(torch.tensor([[1.0, 0.0, 0.1, 0.0]]))
    rail, cart, pole = CartPole().lines(leaning)[0]
    assert rail[:, 0].tolist() == pytest.approx([-2.4, 2.4])
    assert cart.mean(0).tolist() == pytest.approx([1.0, 0.0])
    assert (pole[1] - pole[0]).tolist() == pytest.approx([math.sin(0.1), math.cos(0.1)])
    state = Pendulum().seen(torch.tensor([math.pi / 2]), torch.zeros(1))
    assert Pendulum().lines(state)[0, 0].flatten().tolist() == pytest.approx([0, 0, 1, 0], abs=1e-6)
    assert Chain().lines(torch.eye(6)) is None


@pytest.mark.parametrize(
    ("kind", "settings"), [(CartPole, {"time_limit": 0}), (Pendulum, {"time_limit": 1.5}), (Chain, {"length": 1})]
)
def test_what_is_no_world_is_refused_in_one_line(kind, settings):
    with pytest.raises(UserError, match="must be a whole number from"):
        kind(**settings)
