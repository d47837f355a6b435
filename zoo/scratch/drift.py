"""How far two ways of computing the same thing come apart in training."""

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from zoo.scratch.swap import from_scratch, optimizer_from_scratch


def loss_curve(loss_of: Callable[[Any], Tensor], optimizer: Optimizer, batches: Iterable[Any]) -> Tensor:
    """The loss before each update, one update a batch; (T,) in float64 for T batches."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(batch)
        loss.backward()
        return loss

    step: Any = optimizer.step
    losses = []
    for batch in batches:  # noqa: B007 - the closure reads it
        losses.append(step(closure).item())
    return torch.tensor(losses, dtype=torch.float64)


def drift(
    model: nn.Module,
    optimizer: partial[Optimizer],
    loss: Callable[[Tensor, Tensor], Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    *,
    seed: int = 0,
) -> Tensor:
    """|loss with the twins - loss with torch's|, at each of the T batches (inputs, targets): (T,).

    Both start from the weights of `model`, which stays as it is, and drop the same units. Sums are taken in another
    order, so rounding differs; training multiplies that at each step, by more where the learning rate is high.
    """
    curves = []
    for written in (False, True):
        network = copy.deepcopy(model)
        build = optimizer
        if written:
            from_scratch(network)
            build = optimizer_from_scratch(optimizer) or optimizer
        torch.manual_seed(seed)
        curves.append(loss_curve(lambda b, f=network: loss(f(b[0]), b[1]), build(network.parameters()), batches))  # type: ignore[misc]
    return (curves[1] - curves[0]).abs()
