"""How weights move: the perceptron rule, soft threshold and max-norm, parameter groups and learning-rate schedules.

A schedule is a function (optimizer, total_iterations, iterations_per_epoch) -> what Lightning expects of
`configure_optimizers`: the torch scheduler, and whether it steps after each iteration or each epoch.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.optimizer import Optimizer


class PerceptronRule(torch.optim.SGD):
    """w += lr (y - y_hat) x: plain gradient descent on 1/2 sum (y_hat - y)^2 with a straight-through step.

    Only models of threshold units learn by it (`needs` names the mark that `zoo.build` looks for).
    """

    needs = "learns_by_perceptron_rule"

    def __init__(self, params: Iterable[Any], lr: float = 1.0) -> None:
        super().__init__(params, lr=lr)


def perceptron_update(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, lr: float = 1.0) -> tuple[Tensor, Tensor]:
    """The perceptron rule as it is written, without autograd.

    Args:
        weight: (K, F). bias: (K,). x: (F,) one input. y: (K,) the wanted firing, 0 or 1.

    Returns:
        The new weight (K, F) and bias (K,).
    """
    fires = (weight @ x + bias > 0).to(x.dtype)  # (K,)
    return weight + lr * torch.outer(y - fires, x), bias + lr * (y - fires)


def hebb_update(weight: Tensor, x: Tensor, y: Tensor, lr: float = 1.0) -> Tensor:
    """Hebb's rule, "The Organization of Behavior", 1949: a synapse grows where both its ends are active.

    w += lr y x        weight (F,), x (F,), y () the unit's own activity
    """
    return weight + lr * y * x


def soft_threshold(weight: Tensor, amount: float) -> Tensor:
    """Each value moved by `amount` towards 0, and 0 where it would pass it; any shape.

    It is the proximal map of amount * |w|, min over v of (v - w)^2 / 2 + amount |v|: with lr * l1 after a gradient step
    it is the second half of forward-backward splitting (Duchi and Singer, JMLR 2009, equation 19).
    """
    return weight - weight.clamp(-amount, amount)


def limit_norms(units: Tensor, most: float) -> None:
    """Scales down, in place, the weights of each unit that are longer than `most`: max-norm.

    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014, section 5.1.

    Args:
        units: (G, U, ...), all but the first two axes being the incoming weights of a unit.
    """
    norms = torch.linalg.vector_norm(units, dim=tuple(range(2, units.ndim)), keepdim=True)  # (G, U, 1, ...)
    units.mul_(most / norms.clamp(min=most))  # by exactly 1 where they are short enough


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices and kernels, which decay shrinks, and vectors, which it spares.

    Biases and the gains of normalization layers have one axis or none; decaying them only takes freedom away.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(optimizer: Callable[..., Optimizer], model: nn.Module) -> Optimizer:
    """Calls a partial optimizer with the parameter groups, or with one group where it has no weight decay."""
    decay = inspect.signature(optimizer).parameters.get("weight_decay")  # also where it is the optimizer's own default
    if decay is not None and decay.default:
        return optimizer(parameter_groups(model))
    return optimizer([p for p in model.parameters() if p.requires_grad])


def step(
    optimizer: Optimizer, total_iterations: int, iterations_per_epoch: int, *, step_size: int, gamma: float
) -> dict[str, Any]:
    """lr * gamma after every `step_size` epochs."""
    return {"scheduler": lr_scheduler.StepLR(optimizer, step_size=step_size, gamma=gamma), "interval": "epoch"}


def multistep(
    optimizer: Optimizer, total_iterations: int, iterations_per_epoch: int, *, milestones: Sequence[int], gamma: float
) -> dict[str, Any]:
    """lr * gamma at each of the given epochs."""
    return {"scheduler": lr_scheduler.MultiStepLR(optimizer, list(milestones), gamma=gamma), "interval": "epoch"}


def needs_an_end(total_iterations: int) -> None:
    if total_iterations < 1:
        raise ValueError("this schedule spans the whole run, which needs an end: trainer.max_epochs or max_steps.")


def cosine(
    optimizer: Optimizer,
    total_iterations: int,
    iterations_per_epoch: int,
    *,
    final_factor: float = 0.0,
    warmup_epochs: float = 0.0,
) -> dict[str, Any]:
    """Half a cosine from lr down to lr * final_factor over all iterations (Loshchilov and Hutter 2017, equation 5).

    With `warmup_epochs` the rate first rises linearly from lr / (number of warm-up iterations).
    """
    needs_an_end(total_iterations)
    warmup = round(warmup_epochs * iterations_per_epoch)

    def factor(iteration: int) -> float:
        if iteration < warmup:
            return (iteration + 1) / warmup
        progress = min(1.0, (iteration - warmup) / max(1, total_iterations - warmup))
        return final_factor + (1 - final_factor) * 0.5 * (1 + math.cos(math.pi * progress))

    return {"scheduler": lr_scheduler.LambdaLR(optimizer, factor), "interval": "step"}


def one_cycle(
    optimizer: Optimizer, total_iterations: int, iterations_per_epoch: int, *, warmup_share: float = 0.3
) -> dict[str, Any]:
    """Up to lr and down again within the run, momentum the other way round (Smith and Topin 2018)."""
    needs_an_end(total_iterations)
    peaks = [group["lr"] for group in optimizer.param_groups]
    has_momentum = any("betas" in group or group.get("momentum", 0) > 0 for group in optimizer.param_groups)
    schedule = lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=peaks,
        total_steps=max(2, total_iterations + 1),
        pct_start=warmup_share,
        cycle_momentum=has_momentum,
    )
    return {"scheduler": schedule, "interval": "step"}


def plateau(
    optimizer: Optimizer,
    total_iterations: int,
    iterations_per_epoch: int,
    *,
    monitor: str,
    mode: str,
    factor: float,
    patience: int,
) -> dict[str, Any]:
    """lr * factor when the monitored metric has not improved for more than `patience` epochs."""
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode, factor=factor, patience=patience)  # type: ignore[arg-type]
    return {"scheduler": schedule, "interval": "epoch", "monitor": monitor}
