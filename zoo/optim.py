"""How weights move: the perceptron rule, soft threshold and max-norm, parameter groups and learning-rate schedules.

A schedule is a function (optimizer, total_iterations, iterations_per_epoch) -> what Lightning expects of
`configure_optimizers`: the torch scheduler, and whether it steps after each iteration or each epoch.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.optimizer import Optimizer

from zoo.errors import UserError


class PerceptronRule(torch.optim.SGD):
    """w += lr (y - y_hat) x: plain gradient descent on 1/2 sum (y_hat - y)^2 with a straight-through step.

    Only models of threshold units learn by it (`needs` names the mark that `zoo.build` looks for).
    """

    needs = "learns_by_perceptron_rule"

    def __init__(self, params: Iterable[Any], lr: float = 1.0) -> None:
        super().__init__(params, lr=lr)


class SparseAdam(torch.optim.Adam):
    """Adam that leaves alone what a sparse gradient has not: rows of an embedding of words that no sample had.

    Of such a row neither the moments fade nor does the momentum move it; torch.optim.SparseAdam does the same, for
    sparse gradients alone. All other parameters are torch.optim.Adam's own. So a step costs what the words of a batch
    cost, not what the vocabulary does. For a row with gradient g, at step t of its embedding:

        m = b1 m + (1 - b1) g        v = b2 v + (1 - b2) g^2
        w -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)

    Kingma and Ba, "Adam", 2015, the form at the end of section 2; the moments are kept as torch.optim.Adam keeps them.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        fused: bool | None = None,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, fused=fused)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        sparse = [
            (p, p.grad, group)
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None and p.grad.is_sparse
        ]
        for p, _, _ in sparse:
            p.grad = None  # out of the sight of Adam, which refuses it
        super().step()
        for p, gradient, group in sparse:
            p.grad = gradient
            self.update_rows(p, gradient.coalesce(), group)
        return loss

    def update_rows(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Moves the rows of p (V, D) that its coalesced gradient has."""
        state, (beta1, beta2) = self.state[p], group["betas"]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        state["step"] += 1
        rows, values = gradient.indices()[0], gradient.values()  # (R,), (R, D)
        m = state["exp_avg"][rows].lerp_(values, 1 - beta1)  # (R, D)
        v = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)  # (R, D)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = m, v
        steps = state["step"].item()
        rate = group["lr"] * math.sqrt(1 - beta2**steps) / (1 - beta1**steps)
        p[rows] -= rate * m / v.sqrt_().add_(group["eps"])


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


def has_sparse_gradients(model: nn.Module) -> bool:
    """Whether an embedding is asked to give a gradient of the rows alone that a batch used."""
    return any(isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse for module in model.modules())


def check_sparse(optimizer: Optimizer) -> None:
    """Raises UserError where sparse gradients are taken neither by the optimizer nor by what averages gradients."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    if together and torch.distributed.get_world_size() > 1:
        raise UserError(
            "model.sparse_embedding=true is for one process, since several average whole gradients; leave it out, or "
            "use trainer.devices=1."
        )
    group, name = optimizer.param_groups[0], type(optimizer).__name__
    dense = [key for key in ("weight_decay", "momentum", "fused", "foreach") if group.get(key)]
    known = type(optimizer) in (torch.optim.SGD, torch.optim.Adagrad)  # a twin of zoo.scratch is not
    if isinstance(optimizer, SparseAdam) or (known and not dense):
        return
    if known:
        name = f"{name} with optimizer.{dense[0]}={group[dense[0]]}"
    elif not type(optimizer).__module__.startswith("torch."):
        name = f"{type(optimizer).__module__}.{name}"
    raise UserError(
        f"model.sparse_embedding=true gives gradients of some rows, and {name} needs whole ones; use "
        "optimizer=sparse_adam, or adagrad or sgd as they are by default."
    )


class Alternating(Optimizer):
    """Several optimizers that take turns within one iteration, each with a gradient of its own.

    A step calls the closure once for each of them, as a line search does; `turn` says whose loss is wanted. To whoever
    counts, schedules, saves or clips it is one optimizer that makes one update a batch.

    Args:
        turns: {name: optimizer}, in the order of their turns; no parameter belongs to two of them.
        every: {name: n}, those that move in every n-th iteration alone.

    Attributes:
        turn: whose turn it is.
        iterations: steps so far; saved with the state.
    """

    needs_closure = True

    def __init__(self, turns: Mapping[str, Optimizer], every: Mapping[str, int] | None = None) -> None:
        self.turns, self.every = dict(turns), dict(every or {})
        self.turn, self.iterations = next(iter(self.turns)), 0
        super().__init__(self.param_groups, next(iter(self.turns.values())).defaults)  # schedules look there

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of all turns, shared with them: a schedule moves every rate."""
        return [group for optimizer in self.turns.values() for group in optimizer.param_groups]

    @param_groups.setter
    def param_groups(self, groups: Any) -> None:
        """Nothing: they belong to the optimizers."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Nothing: they belong to the optimizers."""

    def moves(self, name: str) -> bool:
        """Whether that one has a turn in the iteration at hand."""
        return self.iterations % self.every.get(name, 1) == 0

    @property
    def is_last_turn(self) -> bool:
        """Whether nobody moves after the turn at hand, in this iteration."""
        return self.turn == [name for name in self.turns if self.moves(name)][-1]

    def at_hand(self) -> list[Tensor]:
        """Parameters of whose turn it is."""
        return [p for group in self.turns[self.turn].param_groups for p in group["params"]]

    def step(self, closure: Any = None) -> Any:
        """One turn of each; the loss of the last one that moved."""
        self.iterations += 1
        loss = None
        for name, optimizer in self.turns.items():
            if self.moves(name):
                self.turn = name
                with torch.enable_grad():
                    loss = closure()
                optimizer.step()
        self.turn = next(iter(self.turns))
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.turns.values():
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        turns = {name: optimizer.state_dict() for name, optimizer in self.turns.items()}
        return {"turns": turns, "iterations": self.iterations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises KeyError for the state of another kind of optimizer."""
        for name, optimizer in self.turns.items():
            optimizer.load_state_dict(state_dict["turns"][name])
        self.iterations = state_dict["iterations"]


def build_optimizer(
    optimizer: Callable[..., Optimizer], model: nn.Module, rates: Mapping[nn.Parameter, float] | None = None
) -> Optimizer:
    """Calls a partial optimizer with the parameter groups, or with one group where it has no weight decay.

    Args:
        rates: factors of the learning rate; parameters of one factor become a group, those of the greatest the first.
    """
    built = with_groups(optimizer, model)
    if rates:
        if isinstance(built, torch.optim.LBFGS):
            raise UserError("optimizer=lbfgs has one rate for all parameters; use another for finetune.lr_factor.")
        built.param_groups[:] = [part for factor in sorted(set(rates.values()), reverse=True)
                                 for group in built.param_groups for part in parts(group, rates, factor)]  # fmt: skip
    if has_sparse_gradients(model):
        check_sparse(built)
        torch.sparse.check_sparse_tensor_invariants.disable()  # torch's Adagrad makes such tensors; undecided, it warns
    return built


def parts(group: dict[str, Any], rates: Mapping[nn.Parameter, float], factor: float) -> list[dict[str, Any]]:
    """Those parameters of a group whose rate has the factor, as a group with that rate; none where there are none."""
    chosen = [p for p in group["params"] if rates.get(p, 1.0) == factor]
    return [group | {"params": chosen, "lr": group["lr"] * factor}] if chosen else []


def with_groups(optimizer: Callable[..., Optimizer], model: nn.Module) -> Optimizer:
    """A partial optimizer of the trainable parameters of a model."""
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
