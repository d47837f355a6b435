"""Weights of one network put into another: what fits is taken, what nearly fits is adapted, and everything is told."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.checkpoint import find, model_weights, read
from zoo.errors import UserError


@dataclass
class LoadReport:
    """What became of each tensor when weights were put into a model."""

    source: str
    loaded: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        found = {"loaded": self.loaded, "adapted": self.adapted, "newly initialized": self.new, "skipped": self.skipped}
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in found.items())
        details = [f"  {kind}: {', '.join(names)}" for kind, names in found.items() if names and kind != "loaded"]
        return [f"Pretrained {self.source}: {counts} tensors", *details]


def renamed(weights: dict[str, Tensor], prefixes: dict[str, str]) -> dict[str, Tensor]:
    """The same tensors, where a name begins with a key of `prefixes` with its value in that place."""
    for old, new in prefixes.items():
        weights = {new + name.removeprefix(old) if name.startswith(old) else name: x for name, x in weights.items()}
    return weights


def adapt_channels(weight: Tensor, shape: torch.Size) -> Tensor | None:
    """A convolution kernel (O, C, ...) for another number of input channels, or None where that is not the difference.

    The response to a grey image stays the same: colour channels are summed into one, or one is shared out evenly.
    """
    if weight.ndim != 4 or weight.shape[0] != shape[0] or weight.shape[2:] != shape[2:]:
        return None
    grey = weight.sum(1, keepdim=True)  # (O, 1, kH, kW)
    return grey.expand(-1, shape[1], -1, -1) / shape[1]


def load_pretrained(model: nn.Module, source: str | Path) -> LoadReport:
    """Puts the weights of `source` into `model` as far as they fit, and says what became of each tensor.

    A class may know other names of its layers, `also_known_as = {"linear.": "fc."}`, or a `published` layout.

    Raises:
        UserError: fewer than half of the model's tensors are in the file under the same name.
    """
    path = find(source)
    weights = getattr(model, "published", dict)(model_weights(read(path)))  # as the model has them
    weights = renamed(weights, getattr(model, "also_known_as", {}))
    report, state = LoadReport(str(path)), model.state_dict()
    for name, own in state.items():
        other = weights.pop(name, None)
        if other is None and name.endswith("num_batches_tracked"):
            continue  # a mere counter, which weights of torch before 0.4.1 do not have
        if other is None:
            report.new.append(name)
        elif other.shape == own.shape:
            state[name] = other.to(own.dtype)
            report.loaded.append(name)
        else:
            adapted = adapt_channels(other, own.shape)
            sizes = f"{name} {tuple(other.shape)} -> {tuple(own.shape)}"
            if adapted is None:
                report.new.append(sizes)
            else:
                state[name] = adapted.to(own.dtype)
                report.adapted.append(sizes)
    report.skipped = list(weights)
    found = len(report.loaded) + len(report.adapted)
    if found < len(report.new):
        raise UserError(
            f"{path} does not fit this model: only {len(report.loaded)} of its {found + len(report.new)} tensors are "
            "there under the same name and size. Choose the model that the checkpoint was trained with."
        )
    model.load_state_dict(state)
    return report
