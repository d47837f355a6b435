"""Pictures of an episode: a chart for each thing that is seen, done and expected, and drawings to one scale."""

import torch

from zoo.data.environments import CartPole
from zoo.pictures.control import MOST_CURVES, NUM_FRAMES, episode, frames


def curves(axis):
    return [list(line.get_ydata()) for line in axis.lines]


def test_an_episode_shows_what_was_seen_done_and_expected():
    states, values = torch.arange(6.0).view(3, 2), torch.tensor([3.0, 2.0, 1.0])
    figure = episode(states, torch.tensor([1, 0, 1]), torch.tensor([1.0, 1.0, 0.5]), values, "ab", ["left", "right"])
    first, second, act, worth = figure.axes
    assert [curves(axis)[0] for axis in (first, second, act, worth)] == [[0, 2, 4], [1, 3, 5], [1, 0, 1], [3, 2, 1]]
    assert [text.get_text() for text in act.get_yticklabels()] == ["left", "right"]
    assert "the return was 2.5" in worth.get_title(loc="left")
    assert [axis.get_title(loc="left") for axis in (first, second)] == ["a", "b"]


def test_real_valued_actions_are_curves_and_of_many_values_the_first_are_drawn():
    actions = torch.tensor([[0.5, -0.5], [1.0, -1.0]])
    figure = episode(torch.rand(2, 20), actions, torch.ones(2), torch.ones(2), ["?"] * 20, ["hip", "knee"])
    assert len(figure.axes) == MOST_CURVES + 2
    assert curves(figure.axes[-2]) == [[0.5, 1.0], [-0.5, -1.0]]


def test_frames_are_spread_over_the_episode_and_of_one_scale():
    way = torch.linspace(0, 1, 100)[:, None] * torch.tensor([1.0, 0.0, 0.1, 0.0])
    lines = CartPole().lines(CartPole().measured(way))
    figure = frames(lines)
    titles = [axis.get_title() for axis in figure.axes]
    assert len(figure.axes) == NUM_FRAMES
    assert (titles[0], titles[-1]) == ("step 0", "step 99")
    assert len({axis.get_xlim() for axis in figure.axes}) == 1
    rail, cart, pole = figure.axes[-1].lines
    assert [round(sum(line.get_xdata()) / 2, 3) for line in (rail, cart, pole)] == [0.0, 1.0, 1.05]
    assert len(frames(lines[:1]).axes) == 1
    assert figure.get_figheight() < 0.2 * figure.get_figwidth(), "two rows of a flat world leave no empty height"
