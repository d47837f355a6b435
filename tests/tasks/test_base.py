"""The base of all tasks: how several batches, and several processes, make one update."""

from functools import partial

import pytest
import torch
from torch import nn

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
