"""What the units of a network do on samples it has not learned from: how large they answer, and how many do nothing.

Three ways in which a layer has fewer units than it was given
    dead       a rectifier that passes no gradient for any sample: it never fires, and will not learn to
    saturated  a sigmoid or tanh so far out that less than a twentieth of its steepest slope is left
    alike      units that answer as another unit of their layer does: equal weights stay equal under gradient descent
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from zoo.callbacks.showing import first_batch, log, pictured, show
from zoo.pictures.layers import layer_table

Kinds = tuple[type[nn.Module], ...]
RECTIFIERS: Kinds = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish)
STEEPEST: dict[type[nn.Module], float] = {nn.Sigmoid: 0.25, nn.Tanh: 1.0, nn.Hardtanh: 1.0, nn.Softsign: 1.0}
ACTIVATIONS: Kinds = (*RECTIFIERS, *STEEPEST)
LAYERS: Kinds = (nn.Linear, nn.modules.conv._ConvNd)
MOST_SAMPLES = 4096  # for the comparison of units


class Seen(NamedTuple):
    """One use of a layer or of an activation.

    Args:
        layer: name of the layer with weights; of an activation, of the last one before it.
        module: the layer or the activation.
        x, y: its input and output, (B, ...); x as it was before anything wrote into it.
        axis: where y has its units or channels.
    """

    layer: str
    module: nn.Module
    x: Tensor
    y: Tensor
    axis: int

    @property
    def is_activation(self) -> bool:
        return isinstance(self.module, ACTIVATIONS)


def watch(model: nn.Module, inputs: tuple[Tensor, ...], look: Callable[[Seen], None]) -> None:
    """Runs the model once, in evaluation mode, and calls `look` for each layer and each activation as they are used."""
    layer, axis, before = "", 1, {}

    def keep(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        before[module] = arguments[0].detach().clone() if getattr(module, "inplace", False) else arguments[0].detach()

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal layer, axis
            if not isinstance(module, ACTIVATIONS):
                layer, axis = name, -1 if isinstance(module, nn.Linear) else 1
            look(Seen(layer, module, before.pop(module), output.detach(), axis))

        return hook

    watched = {name: module for name, module in model.named_modules() if isinstance(module, LAYERS + ACTIVATIONS)}
    handles = [module.register_forward_pre_hook(keep) for module in watched.values()]
    handles += [module.register_forward_hook(note(name)) for name, module in watched.items()]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval().forward(*inputs)  # not through a compiled call, which knows no hooks
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()


def slope(module: nn.Module, x: Tensor) -> Tensor:
    """Derivative of an activation that takes each number alone, at each x."""
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        return torch.autograd.grad(module.forward(x + 0).sum(), x)[0]  # the sum keeps an inplace one off the leaf


def by_unit(y: Tensor, axis: int) -> Tensor:
    """(B, ...) -> (samples, units): all places of a channel count as samples."""
    return y.movedim(axis, -1).flatten(0, -2)


def alike(y: Tensor) -> float:
    """Share of units, (samples, units), whose answers are those of another unit; units that are 0 throughout aside."""
    y = y[:: -(-len(y) // MOST_SAMPLES)]
    y = y[:, y.abs().amax(0) > 0].float()
    if y.shape[1] < 2:
        return 0.0
    # Equal units have an equal projection, so they are neighbours in its order.
    direction = torch.cos(torch.arange(len(y), dtype=y.dtype, device=y.device))
    y = y[:, (direction @ y).argsort()]
    twins = (y[:, 1:] - y[:, :-1]).abs().amax(0) <= 1e-4 * y[:, 1:].abs().amax(0)  # (units - 1,)
    either = torch.cat([twins, twins.new_zeros(1)]) | torch.cat([twins.new_zeros(1), twins])
    return float(either.float().mean())


def measure(seen: Seen) -> dict[str, Any]:
    """One row for an activation: where it stands, its size, and what share of it does nothing."""
    row: dict[str, Any] = {"layer": seen.layer, "activation": type(seen.module).__name__}
    y = by_unit(seen.y, seen.axis)
    row |= {"units": y.shape[1], "size": float(y.float().square().mean().sqrt())}
    steep = by_unit(slope(seen.module, seen.x), seen.axis).abs()
    if isinstance(seen.module, RECTIFIERS):
        row["dead"] = float((steep.amax(0) < 1e-3).float().mean())
    else:
        steepest = next(value for kind, value in STEEPEST.items() if isinstance(seen.module, kind))
        row["saturated"] = float((steep < 0.05 * steepest).float().mean())
    return row | {"alike": alike(y)}


def activity(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[dict[str, Any]]:
    """A row for each use of an activation between the layers of the model; what follows the last one is its output."""
    rows, last = [], ""

    def look(seen: Seen) -> None:
        nonlocal last
        if seen.is_activation:
            rows.append(measure(seen))
        else:
            last = seen.layer

    watch(model, inputs, look)
    return [row for row in rows if row["layer"] != last]


def shares(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The three shares over all layers that have them, each unit counting once."""
    found = {}
    for name in ("dead", "saturated", "alike"):
        parts = [(row["units"], row[name]) for row in rows if name in row]
        if parts:
            found[f"{name}_share"] = sum(units * share for units, share in parts) / sum(units for units, _ in parts)
    return found


class Activity(Callback):
    """The three shares as curves, after every epoch, and after epochs 1, 2, 4, 8, ... and the last a table by layer."""

    lean = True

    def __init__(self) -> None:
        self.newest: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"newest": dict(self.newest)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.newest = state_dict["newest"]

    def findings(self) -> dict[str, float]:
        """What `metrics.json` holds of it: the newest that was measured."""
        return self.newest

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        batch = first_batch(trainer, "val") if trainer.is_global_zero else None
        if batch is None:
            return
        rows = activity(pl_module.model, batch.inputs)
        if not rows:
            return
        self.newest = shares(rows)
        log(trainer, {f"activations/{name}": value for name, value in self.newest.items()})
        if pictured(trainer):
            show(trainer, "activity", layer_table(table(rows)), "val")


def table(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The rows as text, without shares that no layer has."""
    shown = [written(row) for row in rows]
    return [{name: text for name, text in row.items() if any(other[name] for other in shown)} for row in shown]


def written(row: dict[str, Any]) -> dict[str, str]:
    """The row as the table shows it."""
    percent = {name: f"{100 * row[name]:.0f} %" if name in row else "" for name in ("dead", "saturated", "alike")}
    named = {name: str(row[name]) for name in ("layer", "activation", "units")}
    return named | {"size": f"{row['size']:.3g}"} | percent
