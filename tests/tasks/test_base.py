"""The base of all tasks: how several batches, and several processes, make one update."""

from functools import partial

import pytest
import torch
from torch import nn

from zoo.tasks.base import Means, unreached
from zoo.tasks.skipgram import Skipgram


@pytest.mark.parametrize("processes", [1, 3])
def test_batches_to_an_update_are_weighted_by_the_items_of_all_processes(processes):
    """This process has another share of each batch; what comes out is the mean over the items that all have seen."""
    task = Skipgram(nn.Linear(1, 1, bias=False), partial(torch.optim.SGD, lr=0.1))
    weight, number, everywhere = task.model.weight, 4, 0
    slopes, items = [2.0, -1.0, 5.0], [6, 30, 3]  # of the mean loss of each batch, and over all processes
    for i, (slope, count) in enumerate(zip(slopes, items, strict=True)):
        task.num_items_everywhere, task.num_items = count, 1 + i if processes > 1 else count
        loss = task.accumulated(slope * weight.sum(), i == 0, number) / number  # as Lightning divides it
        loss.backward()
        everywhere += count
        mean = sum(s * n for s, n in zip(slopes[: i + 1], items, strict=False)) / everywhere
        assert weight.grad.item() == pytest.approx(mean), "right wherever the update comes"
    weight.grad = None
    task.num_items_everywhere = 7
    (task.accumulated(2 * weight.sum(), True, number) / number).backward()
    assert weight.grad.item() == pytest.approx(2.0), "an update forgets the batches before it"
    weight.grad = None
    for slope, weight_of_batch, first in ((2.0, 0.1, True), (-1.0, 0.3, False)):  # weights may be small
        task.num_items_everywhere = weight_of_batch
        (task.accumulated(slope * weight.sum(), first, number) / number).backward()
    assert weight.grad.item() == pytest.approx((2.0 * 0.1 - 1.0 * 0.3) / 0.4)


def test_means_are_over_items_but_for_what_is_over_samples():
    means, other = Means(), Means()
    means.add({"loss": torch.tensor(1.0), "accuracy": torch.tensor(1.0)}, 0.5, {"accuracy": 2})
    other.add({"loss": torch.tensor(4.0), "accuracy": torch.tensor(0.0)}, 1.0, {"accuracy": 6})
    means.load_state_dicts([means.state_dict(), other.state_dict()])
    assert means.so_far() == {"loss": pytest.approx(3.0), "accuracy": pytest.approx(0.25)}
    means.load_state_dicts([{"sums": {"loss": 6.0, "accuracy": 3.0}, "num_items": 4}])  # as older checkpoints have it
    assert means.so_far() == {"loss": 1.5, "accuracy": 0.75}


def test_what_a_loss_does_not_depend_on_is_found():
    used, shared, idle, frozen = (nn.Linear(2, 2) for _ in range(4))
    frozen.requires_grad_(False)
    x = shared(used(torch.ones(1, 2)))
    loss = shared(x.detach() + x).sum() + frozen(x).sum()
    layers = nn.ModuleList([used, shared, idle, frozen])
    assert {id(p) for p in unreached(loss, layers.parameters())} == {id(p) for p in idle.parameters()}
    gradients = torch.autograd.grad(loss, [p for p in layers.parameters() if p.requires_grad], allow_unused=True)
    assert [g is None for g in gradients] == [False] * 4 + [True] * 2
