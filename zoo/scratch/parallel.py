"""Training on several processes, written out: who computes what, and what they tell one another.

data parallel    each has the whole network and a share of the batch; after each backward pass gradients are averaged.
                 Of equal shares their mean is the gradient of the whole batch, so the run is that of one process
local SGD        each takes k steps by itself, then parameters are averaged. At k = 1 that is data parallel, as long as
                 a step is linear in the gradient: plain descent and momentum are, Adam is not
stages           each has some of the layers: answers go on to the next process, gradients come back. The network is
                 that of one process; while one works the others wait, unless several small batches are under way

Li et al., "PyTorch Distributed", 2020 (arXiv 2006.15704); Stich, "Local SGD Converges Fast and Communicates Little",
2019 (arXiv 1805.09767); Huang et al., "GPipe", 2019 (arXiv 1811.06965).

The run of `trainer.devices=2` is the first, by torch's own DistributedDataParallel. Equal to one process:
tests/scratch/test_parallel.py.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def average(tensors: Iterable[Tensor]) -> None:
    """Puts the mean over all processes into each tensor, in place."""
    for tensor in tensors:
        dist.all_reduce(tensor)  # the sum
        tensor /= dist.get_world_size()


def data_parallel_step(loss: Tensor, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """One update by the gradient of the whole batch, each process having the loss of its share."""
    optimizer.zero_grad()
    loss.backward()
    average(p.grad for p in parameters if p.grad is not None)
    optimizer.step()


def local_step(
    loss: Tensor, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, *, iteration: int, every: int
) -> None:
    """One update by a process's own gradient; after every k-th iteration, counted from 1, parameters are averaged."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if iteration % every == 0:
        with torch.no_grad():
            average(parameters)


def staged_backward(
    stage: nn.Module, x: Tensor | None, shape: Sequence[int], loss_of: Callable[[Tensor], Tensor]
) -> Tensor | None:
    """Forward and backward pass of a network whose layers lie in consecutive processes; leaves gradients in each.

    Args:
        stage: the layers of this process.
        x: the batch, in the first process; None elsewhere.
        shape: of what the stage before says, in all but the first.
        loss_of: the loss of the network's answer, asked in the last process alone.

    Returns:
        the loss in the last process, None elsewhere.
    """
    rank, last = dist.get_rank(), dist.get_world_size() - 1
    if x is None:
        x = torch.empty(*shape, dtype=next(stage.parameters()).dtype)
        dist.recv(x, rank - 1)
        x.requires_grad_()
    y, loss = stage(x), None
    if rank == last:
        loss = loss_of(y)
        loss.backward()
    else:
        dist.send(y.detach(), rank + 1)
        gradient = torch.empty_like(y)
        dist.recv(gradient, rank + 1)
        y.backward(gradient)
    if x.grad is not None:
        dist.send(x.grad, rank - 1)
    return loss
