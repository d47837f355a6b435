"""What the value of an action ought to be."""

import pytest
import torch

from zoo.losses.reinforcement import bellman_target, value_of


def test_what_follows_counts_unless_nothing_does():
    reward, worth = torch.tensor([1.0, 1.0, -2.0]), torch.tensor([10.0, 10.0, float("inf")])
    found = bellman_target(reward, torch.tensor([False, True, True]), worth, 0.9)
    assert found.tolist() == pytest.approx([10.0, 1.0, -2.0])


def test_the_value_of_an_action_is_its_own():
    values = torch.arange(6.0).view(3, 2).requires_grad_()
    value_of(values, torch.tensor([1, 0, 1])).sum().backward()
    assert value_of(values, torch.tensor([1, 0, 1])).tolist() == [1, 2, 5]
    assert values.grad.tolist() == [[0, 1], [1, 0], [0, 1]]
