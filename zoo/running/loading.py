"""Weights of one network put into another: what fits is taken, what nearly fits is adapted, and everything is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.checkpoint import find, model_weights, read
from zoo.config.settings import FACTS, written
from zoo.errors import UserError
from zoo.layers.depth import head

# Arguments of networks that come from data and task.
FROM_DATA = (
    *FACTS,
    *(
        "in_features",
        "in_channels",
        "image_size",
        "length",
        "max_len",
        "out_features",
        "num_outputs",
        "head",
        "_target_",
    ),
)
SHOWN = 3  # tensors of another size in a message


@dataclass
class LoadReport:
    """What became of each tensor when weights were put into a model.

    Args:
        unlike: settings of the model that the weights were trained in, where this model has others.
    """

    source: str
    unlike: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        found = {"loaded": self.loaded, "adapted": self.adapted, "newly initialized": self.new, "skipped": self.skipped}
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in found.items())
        details = [f"  {kind}: {', '.join(names)}" for kind, names in found.items() if names and kind != "loaded"]
        unlike = [f"  trained with {' '.join(self.unlike)}, unlike this model"] if self.unlike else []
        return [f"Pretrained {self.source}: {counts} tensors", *details, *unlike]


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


def output_tensors(model: nn.Module) -> set[str]:
    """The names of the output layer's parameters."""
    last = {id(parameter) for parameter in head(model).parameters(recurse=False)}
    return {name for name, parameter in model.named_parameters() if id(parameter) in last}


def rows_of(classes: Sequence[str], earlier: Sequence[str]) -> list[int] | None:
    """Where each class stands among the earlier ones; None where one of them is new."""
    return [earlier.index(name) for name in classes] if set(classes) <= set(earlier) else None


def unlike(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What to type for the settings of another model of the same class; what comes from data, and dropout, aside.

    >>> unlike({"num_classes": 10, "activation": "ReLU"}, {"num_classes": 3, "activation": "Tanh"})
    ['model.activation=ReLU']
    """
    if then.get("_target_") != now.get("_target_"):
        return []
    keys = [key for key in then if key in now and key not in FROM_DATA and "dropout" not in key]
    return [f"model.{key}={written(then[key])}" for key in keys if then[key] != now[key]]


def cure(report: LoadReport, then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What to do about weights that do not fit."""
    sizes = [line for line in report.new if "->" in line]
    if now and then.get("_target_", now.get("_target_")) != now.get("_target_"):
        return f"It has the weights of {str(then['_target_']).rpartition('.')[2]}; choose that with model=."
    if report.unlike:
        return f"It was trained with {' '.join(report.unlike)}; say the same."
    if sizes:
        return f"Its data had other sizes: {', '.join(sizes[:SHOWN])}."
    return "Choose the model that the checkpoint was trained with."


@dataclass
class OtherClasses:
    """An output layer that is for other classes than the source's was.

    Args:
        names: of its parameters.
        rows: where each class stands among the source's; None where one of them is new.
        number: of the source's classes.
    """

    names: set[str]
    rows: list[int] | None
    number: int

    def take(self, weight: Tensor, shape: torch.Size) -> Tensor | None:
        """The rows of the classes, or None where they are not there."""
        found = weight[self.rows] if self.rows and len(weight) == self.number else None
        return found if found is not None and found.shape == shape else None


def other_classes(model: nn.Module, classes: Sequence[str], earlier: Sequence[str]) -> OtherClasses:
    """What the output layer is where both know their classes; without names where it is for the same, or for none."""
    differ = bool(classes) and bool(earlier) and list(classes) != list(earlier)
    return OtherClasses(output_tensors(model) if differ else set(), rows_of(classes, earlier), len(earlier))


def fit(name: str, own: Tensor, other: Tensor, output: OtherClasses, report: LoadReport) -> Tensor | None:
    """A tensor of the source as the model can take it, or None; the report says which."""
    sizes = f"{name} {tuple(other.shape)} -> {tuple(own.shape)}"
    if name in output.names:
        rows = output.take(other, own.shape)
        if rows is None:
            report.new.append(f"{name} (it was for other classes)" if other.shape == own.shape else sizes)
        else:
            report.adapted.append(f"{name} (by the names of its classes)")
        return rows
    if other.shape == own.shape:
        report.loaded.append(name)
        return other
    adapted = adapt_channels(other, own.shape)
    (report.new if adapted is None else report.adapted).append(sizes)
    return adapted


def load_pretrained(
    model: nn.Module, source: str | Path, classes: Sequence[str] = (), settings: Mapping[str, Any] | None = None
) -> LoadReport:
    """Puts the weights of `source` into `model` as far as they fit, and says what became of each tensor.

    A class may know other names of its layers, `also_known_as = {"linear.": "fc."}`, or a `published` layout.

    Args:
        classes: names of what the model's outputs stand for, if they stand for classes. Where the source's stand for
            others, the output layer begins anew; where they are some of the source's, it is taken row by row.
        settings: what the model was built with, to be compared with the source's.

    Raises:
        UserError: fewer than half of the model's tensors are in the file under the same name.
    """
    path = find(source)
    checkpoint = read(path)
    weights = getattr(model, "published", dict)(model_weights(checkpoint))  # as the model has them
    weights = renamed(weights, getattr(model, "also_known_as", {}))
    config, now = checkpoint.get("config"), settings or {}
    then = config.get("model") if isinstance(config, dict) else None
    then = then if isinstance(then, dict) else {}
    named = not Path(source).expanduser().exists()  # its file lies where the zoo keeps it
    report, state = LoadReport(str(source if named else path), unlike(then, now)), model.state_dict()
    output = other_classes(model, classes, list(checkpoint.get("classes") or []))
    for name, own in state.items():
        other = weights.pop(name, None)
        if other is not None:
            taken = fit(name, own, other, output, report)
            state[name] = own if taken is None else taken.to(own.dtype)
        elif not name.endswith("num_batches_tracked"):  # a mere counter, which weights of old torch do not have
            report.new.append(name)
    report.skipped = list(weights)
    found = len(report.loaded) + len(report.adapted)
    strange = [line for line in report.new if not line.endswith("(it was for other classes)")]
    if found + len(report.new) - len(strange) < len(strange):
        raise UserError(
            f"{path} does not fit this model: only {len(report.loaded)} of its {found + len(report.new)} tensors are "
            f"there under the same name and size. {cure(report, then, now)}"
        )
    model.load_state_dict(state)
    return report
