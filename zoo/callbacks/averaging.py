"""Averages the gradients of processes that share a machine's CPUs, with one message a step.

DDP would send the gradients through gloo, and the number of samples and the wishes of callbacks, on which all processes
must agree, in a message of their own before it. Here they travel together (zoo.running.neighbours).
"""

from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed import GradBucket
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from zoo.layers.batch_norm import gradient_of_nothing, is_synchronized
from zoo.running.neighbours import Neighbours, neighbours


class Averaging(Callback):
    """Puts our way to average in place of DDP's where all processes are on the CPUs of one machine."""

    lean = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        synchronized = is_synchronized(pl_module)
        if synchronized:
            pl_module.gradient_of_nothing = partial(gradient_of_nothing, pl_module)
        wrapper = trainer.strategy.model
        if not isinstance(wrapper, DistributedDataParallel) or trainer.strategy.root_device.type != "cpu":
            return
        found = neighbours()
        if found is not None:
            # With accumulation some batches are not sent, so each must be weighted before it is known to the others;
            # and so must a loss whose gradient reaches the others within the backward pass.
            alone = trainer.accumulate_grad_batches == 1 and not synchronized
            average = Average(found, pl_module, weighted=alone)
            wrapper.register_comm_hook(None, average.bucket)
            pl_module.totals_come_with_gradients = average.weighted
            pl_module.add_up = found.add_up


class Average:
    """Means over all processes, of one bucket of gradients after another.

    Args:
        neighbours: the processes.
        task: has the `shares` of this process and takes their totals (zoo.tasks.base).
        weighted: gradients are means over this process's items, and their number has yet to weigh them.
    """

    def __init__(self, neighbours: Neighbours, task: Any, *, weighted: bool) -> None:
        self.neighbours, self.task, self.weighted = neighbours, task, weighted
        self.total = 1.0

    def bucket(self, state: None, bucket: GradBucket) -> Future[Tensor]:
        gradients = bucket.buffer()
        if self.weighted:
            gradients.mul_(self.task.num_items)
            messages = [gradients]
            if bucket.index() == 0:  # the first of a step
                messages.append(torch.tensor(self.task.shares(), dtype=torch.float64))
            self.neighbours.add_up(*messages)
            if bucket.index() == 0:
                self.task.take_totals(messages[1].tolist())
                self.total = self.task.num_items_everywhere or 1.0
            gradients.div_(self.total)
        else:
            self.neighbours.add_up(gradients)
            gradients.div_(self.neighbours.world_size)
        done: Future[Tensor] = Future()
        done.set_result(gradients)
        return done
