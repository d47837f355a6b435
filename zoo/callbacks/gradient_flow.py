"""How large the gradient of each layer is: where it fades on its way back to the input, or grows.

Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, section 4.2: with a
sigmoid and careless weights each layer passes on a fraction of the gradient that it gets.
"""

import math
from contextlib import suppress
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from zoo.callbacks.curves import iterations_done
from zoo.callbacks.showing import pictured, show, writers
from zoo.errors import UserError
from zoo.optim import Alternating
from zoo.pictures.layers import over_depth

MOST_SCALARS = 6


def weights(model: nn.Module) -> dict[str, Tensor]:
    """{layer: its weight} of all matrices and kernels that are trained, from the input to the output."""
    return {name.removesuffix(".weight"): p for name, p in model.named_parameters() if p.ndim >= 2 and p.requires_grad}


def spread(number: int, most: int) -> list[int]:
    """At most `most` of the places 0 .. number - 1, evenly spread, with both ends among them."""
    most = min(number, most)
    return sorted({round(i * (number - 1) / max(1, most - 1)) for i in range(most)})


def networks(optimizer: Any, parameters: list[Tensor]) -> list[int] | None:
    """With which parameters, after the first, another of the networks begins; None where there is but one."""
    if not isinstance(optimizer, Alternating):
        return None
    turns = optimizer.turns.items()
    owner = {id(p): name for name, one in turns for group in one.param_groups for p in group["params"]}
    found = [owner.get(id(p)) for p in parameters]
    return [i for i in range(1, len(found)) if found[i] != found[i - 1]]


class GradientFlow(Callback):
    """Norms of the gradient by layer: a few of them at log steps, all of them as a picture over the depth.

    The picture has a line for the first update and one for the last of epochs 1, 2, 4, 8, ... and the last; it is
    drawn, too, where a run ends because its loss is no number any more. Gradients are read before they are clipped.

    Of networks that take turns (`zoo.optim.Alternating`) each is read in its own turn; one that has none in the
    iteration at hand stays as it was in its newest.
    """

    lean = True

    def __init__(self) -> None:
        self.lines: dict[str, list[float]] = {}  # of the picture: {when: norm by layer}
        self.newest: dict[str, float] = {}
        self.measured_at = 0  # the iteration of `newest`
        self.fresh = False  # whether `newest` is of the iteration at hand
        self.starts: list[int] | None = None  # of networks that take turns: with which layers they begin

    def state_dict(self) -> dict[str, Any]:
        return {"lines": {when: list(norms) for when, norms in self.lines.items()}, "newest": dict(self.newest)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.lines, self.newest = state_dict["lines"], state_dict["newest"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.weights = weights(pl_module.model)
        self.starts = networks(trainer.optimizers[0], list(self.weights.values()))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        iteration = iterations_done(trainer)
        logged = iteration % trainer.log_every_n_steps == 0
        turns = optimizer if isinstance(optimizer, Alternating) else None
        first = not self.lines and (turns is None or all(turns.moves(name) for name in turns.turns))
        drawn = first or (trainer.is_last_batch and pictured(trainer))
        rare = turns is not None and turns.turn in turns.every  # read each time, to be there when it is asked for
        if not (logged or drawn or rare) or not self.weights:
            return
        norms = self.norms() if turns is None else self.norms_of_turn(turns)
        self.newest, self.measured_at, self.fresh = dict(zip(self.weights, norms, strict=True)), iteration, logged
        if drawn and (turns is None or turns.is_last_turn):
            when = f"epoch {trainer.current_epoch + 1}" if self.lines else f"iteration {iteration}"
            self.lines[when] = norms

    def norms(self) -> list[float]:
        """The length of each layer's gradient; 0 where it has none."""
        found = [p.grad for p in self.weights.values() if p.grad is not None]
        lengths = iter(torch.stack(torch._foreach_norm(found)).tolist() if found else [])
        return [0.0 if p.grad is None else next(lengths) for p in self.weights.values()]

    def norms_of_turn(self, turns: Alternating) -> list[float]:
        """The same, where only the layers of whose turn it is are read; the others are as in `newest`."""
        own = {id(p) for p in turns.at_hand()}
        pairs = zip(self.weights.items(), self.norms(), strict=True)
        return [norm if id(p) in own else self.newest.get(name, 0.0) for (name, p), norm in pairs]

    def scalars(self) -> dict[str, float]:
        """What `Curves` writes at a log step."""
        if not self.fresh:
            return {}
        self.fresh = False
        names, norms = list(self.newest), list(self.newest.values())
        digits = len(str(len(names)))
        few = {f"gradients/{i + 1:0{digits}d}_{names[i]}": norms[i] for i in spread(len(names), MOST_SCALARS)}
        if self.starts is not None or not norms[-1]:  # no gradient goes through two networks at once
            return few
        return few | {"gradients/first_over_last": norms[0] / norms[-1]}

    def findings(self) -> dict[str, float]:
        """What `metrics.json` holds of it: the newest that was measured."""
        norms = [norm for norm in self.newest.values() if math.isfinite(norm)]
        return {"gradient_first_layer": norms[0], "gradient_last_layer": norms[-1]} if norms else {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if pictured(trainer):
            self._draw(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, UserError) and self.newest:
            self.lines.setdefault(f"iteration {self.measured_at}", list(self.newest.values()))
            with suppress(UserError):  # where the disk is full, the error on its way says so
                self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        if self.lines and writers(trainer):
            starts = self.starts or []
            picture = over_depth(list(self.weights), self.lines, ylabel="gradient norm", starts=starts)
            show(trainer, "gradient_flow", picture)
