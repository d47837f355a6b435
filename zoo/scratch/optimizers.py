"""Optimizers written out: twins of torch.optim's, with the same arguments and the same state under the same names.

Each has torch's constructor, and a step of its own. For a parameter p with gradient g they say what moves it; what they
share is in `Written`: the loop over parameters, and weight decay. Coupled decay adds to the gradient, so that Adam and
its like rescale it (L2 regularization); decoupled decay shrinks the weight itself (Loshchilov and Hutter 2019).

All are equal to torch's over 20 steps, state included (tests/scratch/test_optimizers.py). The perceptron rule is in
zoo.optim.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer


class Written(Optimizer):
    """One update of every parameter that has a gradient."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, decay = group["lr"], group["weight_decay"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                g = -p.grad if group["maximize"] else p.grad
                if group.get("decoupled_weight_decay"):
                    p.mul_(1 - lr * decay)
                else:
                    g = g + decay * p
                self.update(p, g, self.state[p], group)
        return loss

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Moves p in place by its gradient g; `state` is what p remembers, `group` the settings."""
        raise NotImplementedError


class SGD(Written, torch.optim.SGD):
    """Gradient descent, plain or with momentum m (Polyak 1964; dampening d is 0 unless asked for).

    plain       p -= lr g
    momentum    v = m v + (1 - d) g        p -= lr v
    Nesterov    v as before                p -= lr (g + m v)        (Sutskever et al. 2013, in torch's form)
    """

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        momentum = group["momentum"]
        if momentum:
            old = state.get("momentum_buffer")
            velocity = g.clone() if old is None else momentum * old + (1 - group["dampening"]) * g
            state["momentum_buffer"] = velocity
            g = g + momentum * velocity if group["nesterov"] else velocity
        p.sub_(group["lr"] * g)


class Adagrad(Written, torch.optim.Adagrad):
    """A rate for each weight, which falls with all squared gradients so far (Duchi, Hazan, Singer 2011).

    s += g^2        p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + epsilon)
    """

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        state["step"] += 1
        state["sum"] += g**2
        lr = group["lr"] / (1 + (state["step"].item() - 1) * group["lr_decay"])
        p.sub_(lr * g / (state["sum"].sqrt() + group["eps"]))


class RMSprop(Written, torch.optim.RMSprop):
    """Adagrad that forgets (Tieleman and Hinton 2012, lecture 6e); centered: by the variance (Graves 2013).

    s = alpha s + (1 - alpha) g^2        p -= lr g / (sqrt(s) + epsilon)        centered: s - mean(g)^2 for s
    """

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        alpha, momentum = group["alpha"], group["momentum"]
        state["step"] = state.get("step", torch.zeros(())) + 1
        spread = state["square_avg"] = alpha * state.get("square_avg", 0 * p) + (1 - alpha) * g**2
        if group["centered"]:
            state["grad_avg"] = alpha * state.get("grad_avg", 0 * p) + (1 - alpha) * g
            spread = spread - state["grad_avg"] ** 2
        step = g / (spread.sqrt() + group["eps"])
        if momentum:
            step = state["momentum_buffer"] = momentum * state.get("momentum_buffer", 0 * p) + step
        p.sub_(group["lr"] * step)


class Adam(Written, torch.optim.Adam):
    """Momentum and a rate for each weight, both corrected for their start at 0 (Kingma and Ba 2015, algorithm 1).

    m = b1 m + (1 - b1) g        v = b2 v + (1 - b2) g^2
    p -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon)        amsgrad: the largest v so far (Reddi et al. 2018)
    """

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        b1, b2 = group["betas"]
        state["step"] = state.get("step", torch.zeros(())) + 1
        t = state["step"].item()
        m = state["exp_avg"] = b1 * state.get("exp_avg", 0 * p) + (1 - b1) * g
        v = state["exp_avg_sq"] = b2 * state.get("exp_avg_sq", 0 * p) + (1 - b2) * g**2
        if group["amsgrad"]:
            v = state["max_exp_avg_sq"] = torch.maximum(state.get("max_exp_avg_sq", 0 * p), v)
        p.sub_(group["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + group["eps"]))


class AdamW(Adam, torch.optim.AdamW):
    """Adam with decoupled weight decay, 0.01 unless told otherwise: p -= lr decay p, apart from the gradient."""


def two_loops(g: Tensor, steps: list[Tensor], changes: list[Tensor], scale: float | Tensor) -> Tensor:
    """H g, where H is close to the inverse of the Hessian (Nocedal 1980; Nocedal and Wright 2006, algorithm 7.4).

    Args:
        g: gradient, flat.
        steps, changes: what the weights moved by, and the gradient thereby, from the oldest on.
        scale: H is `scale` times the identity before it knows of any.
    """
    shares = []
    for s, y in reversed(list(zip(steps, changes, strict=True))):
        shares.append((s @ g) / (s @ y))
        g = g - shares[-1] * y
    d = scale * g
    for s, y, share in zip(steps, changes, reversed(shares), strict=True):
        d = d + (share - (y @ d) / (s @ y)) * s
    return d


class LBFGS(torch.optim.LBFGS):
    """A quasi-Newton step from the last `history_size` moves (Liu and Nocedal 1989), without line search.

    p -= lr H g with H from `two_loops`, at most `max_iter` times a step; the closure gives the loss after each.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        group, state = self.param_groups[0], self.state[self.param_groups[0]["params"][0]]
        first = loss = self.evaluate(closure)
        g = self.gradient()
        for i in range(1, group["max_iter"] + 1):
            if g.abs().max() <= group["tolerance_grad"]:
                break
            self.remember(g, state, group["history_size"])
            d = state["d"] = -two_loops(g, state["old_stps"], state["old_dirs"], state["H_diag"])
            # Nothing is known of the curvature at first, so that move is at most lr long (in the sum of its parts).
            t = state["t"] = group["lr"] * (min(1.0, 1 / g.abs().sum()) if state["n_iter"] == 1 else 1.0)
            if g @ d > -group["tolerance_change"]:
                break
            self.move(t * d)
            if i == group["max_iter"]:
                break
            before, loss = loss, self.evaluate(closure)
            g = self.gradient()
            least_move, least_change = (t * d).abs().max(), abs(loss.item() - before.item())
            if i + 1 >= group["max_eval"] or min(least_move, least_change) < group["tolerance_change"]:
                break
        return first

    def evaluate(self, closure: Callable[[], Any]) -> Any:
        """The loss at the weights as they are; the closure leaves their gradients."""
        state = self.state[self.param_groups[0]["params"][0]]
        state["func_evals"] = state.get("func_evals", 0) + 1
        with torch.enable_grad():
            return closure()

    def gradient(self) -> Tensor:
        """All gradients in one vector."""
        parameters = self.param_groups[0]["params"]
        g = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        return -g if self.param_groups[0].get("maximize") else g

    def move(self, step: Tensor) -> None:
        """Adds a vector of all parameters to them."""
        parameters = self.param_groups[0]["params"]
        for p, part in zip(parameters, step.split([p.numel() for p in parameters]), strict=True):
            p.add_(part.view_as(p))

    def remember(self, g: Tensor, state: dict[str, Any], history_size: int) -> None:
        """Takes the last move into the history, if the gradient has grown along it: else H would not be positive."""
        state["n_iter"] = state.get("n_iter", 0) + 1
        if state["n_iter"] == 1:
            state |= {"old_stps": [], "old_dirs": [], "H_diag": 1}
        else:
            s, y = state["t"] * state["d"], g - state["prev_flat_grad"]
            if s @ y > 1e-10:
                state["old_stps"] = [*state["old_stps"], s][-history_size:]
                state["old_dirs"] = [*state["old_dirs"], y][-history_size:]
                state["H_diag"] = (s @ y) / (y @ y)
        state["prev_flat_grad"] = g
