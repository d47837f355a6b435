"""What a sweep varies: axes of values or of a range, and the points that grid and random search pick on them."""

import itertools
import math
import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from zoo.config.commandline import in_quotes
from zoo.errors import UserError

Point = dict[str, str]  # key -> value, as they are typed


@dataclass(frozen=True)
class Axis:
    """One key that varies, over `choices` (as they are typed) or between `low` and `high`, both included."""

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False

    @property
    def whole(self) -> bool:
        """A range between two whole numbers holds whole numbers alone."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def first(self) -> str:
        return self.choices[0] if self.choices else literal(self.low)

    def plain(self) -> dict[str, Any]:
        return asdict(self) | {"choices": list(self.choices)}


def axis(entry: dict[str, Any]) -> Axis:
    """The inverse of `Axis.plain`."""
    return Axis(**entry | {"choices": tuple(entry["choices"])})


def literal(value: Any) -> str:
    """A value as it is typed on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(literal(x) for x in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{literal(x)}' for key, x in value.items())}}}"
    text = str(value)
    if not isinstance(value, str) or ("${" in text and not re.search(r"\s", text)):
        return text
    is_name = re.fullmatch(r"[A-Za-z_][\w./-]*", text) and text.lower() not in ("null", "true", "false", "nan", "inf")
    return text if is_name else in_quotes(text)


def space_axis(key: str, entry: Any) -> Axis:
    """An entry of `sweep.space`. Raises UserError for one that says nothing sensible."""
    example = f"for instance {{{key}:[1,2]}} or {{{key}:{{low:1e-4,high:0.1,log:true}}}}"
    if isinstance(entry, dict) and set(entry) == {"choices"}:
        entry = entry["choices"]
    if isinstance(entry, list):
        if not entry:
            raise UserError(f"sweep.space: {key} has no values; {example}.")
        return Axis(key, tuple(literal(value) for value in entry))
    if not isinstance(entry, dict) or not {"low", "high"} <= set(entry) <= {"low", "high", "log"}:
        raise UserError(f"sweep.space: {key}={literal(entry)} is neither values nor a range; {example}.")
    low, high, log = entry["low"], entry["high"], entry.get("log", False)
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in (low, high))
    if not numbers or not isinstance(log, bool):
        raise UserError(f"sweep.space: low and high of {key} must be numbers, and log true or false; {example}.")
    if low >= high:
        raise UserError(f"sweep.space: {key} goes from low={low} to high={high}; low must be smaller than high.")
    if log and low <= 0:
        raise UserError(f"sweep.space: {key} has log=true, so low={low} must be greater than 0.")
    return Axis(key, low=low, high=high, log=log)


def typed_axes(arguments: Sequence[str], loader: Any) -> tuple[list[str], list[Axis]]:
    """The fixed ones among `key=value` arguments, and an axis for each that lists several values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import IntervalSweep

    fixed: dict[str, str] = {}
    axes: dict[str, Axis] = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(arguments)):
        key = override.get_key_element()
        if not override.is_sweep_override():
            fixed[key] = str(override.input_line)
            continue
        if override.is_discrete_sweep():
            axes[key] = Axis(key, tuple(override.sweep_string_iterator()))
            if not axes[key].choices:
                raise UserError(f"{override.input_line} gives no value.")
        else:
            value = override.value()
            if not isinstance(value, IntervalSweep):
                raise UserError(f"{override.input_line} is no sweep that is known here.")
            axes[key] = space_axis(key, {"low": value.start, "high": value.end, "log": "log" in value.tags})
    return list(fixed.values()), list(axes.values())


def grid(axes: Sequence[Axis]) -> list[Point]:
    """Every combination; the last axis varies fastest, as in Hydra's own grid."""
    for one in axes:
        if not one.choices:
            raise UserError(
                f"A grid needs the values of {one.key}, not a range; list them, or use sweep.sampler=random or tpe."
            )
    keys = [one.key for one in axes]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*(one.choices for one in axes))]


def random_point(axes: Sequence[Axis], seed: int, number: int) -> Point:
    """Point `number` of a random search, whichever others are drawn."""
    generator = random.Random(f"{seed}-{number}")
    return {one.key: draw(one, generator) for one in axes}


def draw(one: Axis, generator: random.Random) -> str:
    if one.choices:
        return generator.choice(one.choices)
    if not one.log:
        return literal(
            generator.randint(int(one.low), int(one.high)) if one.whole else generator.uniform(one.low, one.high)
        )
    value = math.exp(generator.uniform(math.log(one.low), math.log(one.high)))
    return literal(min(max(round(value) if one.whole else value, one.low), one.high))
