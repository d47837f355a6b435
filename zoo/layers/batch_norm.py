"""Batch norm over the samples of all processes: with it, several processes normalize as one does.

torch.nn.SyncBatchNorm is the same on GPUs and refuses CPUs. Here mean and variance are sums over all processes, of the
values first and then of their squared distances from the mean, divided by the number of all; the gradient of a sum over
processes is the sum of their gradients. In evaluation, and alone, it is torch's batch norm.

A gradient that comes from another process is already inside the backward pass, so each process's loss must have its
weight before that, not its gradients after it. And all must come by: a process whose share of the batch is empty has
`gradient_of_nothing`.

Axes: B batch, C channels or features, *N no axis, one, two or three
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class OverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes, each of which has to call it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total: Tensor = OverProcesses.apply(gradient)  # has a gradient again, which penalties on gradients ask for
        return total


class Synchronized(_BatchNorm):
    """What the kinds of batch norm share."""

    of_nothing: tuple[Tensor, ...] = ()  # outputs for empty shares, through which no gradient has gone yet

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *N) -> the same shape; B may differ between processes."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        axes, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
        here = values.new_tensor([x.numel() / x.shape[1]])
        total: Tensor = OverProcesses.apply(torch.cat([values.sum(axes), here]))  # (C + 1,)
        count = total[-1].detach()
        if count < 2:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
        mean = total[:-1] / count  # (C,)
        centred = values - mean.view(shape)
        variance: Tensor = OverProcesses.apply(centred.square().sum(axes)) / count  # the biased one
        self.remember(mean.detach(), (variance * count / (count - 1)).detach())
        y = centred / torch.sqrt(variance + self.eps).view(shape)
        if self.weight is not None:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        if len(x) == 0 and y.requires_grad:
            self.of_nothing = (*self.of_nothing, y)
        return y.to(x.dtype)

    @torch.no_grad()
    def remember(self, mean: Tensor, variance: Tensor) -> None:
        """running = (1 - momentum) running + momentum new; without momentum the mean so far."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


class SynchronizedBatchNorm1d(Synchronized, nn.BatchNorm1d):
    """(B, C) or (B, C, L)."""


class SynchronizedBatchNorm2d(Synchronized, nn.BatchNorm2d):
    """(B, C, H, W)."""


class SynchronizedBatchNorm3d(Synchronized, nn.BatchNorm3d):
    """(B, C, D, H, W)."""


KINDS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SynchronizedBatchNorm1d,
    nn.BatchNorm2d: SynchronizedBatchNorm2d,
    nn.BatchNorm3d: SynchronizedBatchNorm3d,
}


def is_synchronized(model: nn.Module) -> bool:
    return any(isinstance(module, Synchronized) for module in model.modules())


def gradient_of_nothing(model: nn.Module) -> Tensor | float:
    """0, whose backward pass takes part in the sums of the others where this process had no sample in its share."""
    total: Tensor | float = 0.0
    for module in model.modules():
        if isinstance(module, Synchronized):
            total = sum((y.sum() for y in module.of_nothing), total)
            module.of_nothing = ()
    return total


def synchronize(model: nn.Module) -> list[str]:
    """Turns torch's batch norms of a model into synchronized ones, in place; returns the names of those that changed.

    Parameters, buffers and their names stay as they are.
    """
    found = {name: module for name, module in model.named_modules() if type(module) in KINDS}
    for module in found.values():
        module.__class__ = KINDS[type(module)]
    return list(found)
