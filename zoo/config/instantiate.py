"""From a `_target_` to what it names; whatever a constructor objects to becomes one line."""

import inspect
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from zoo.errors import UserError

BUGS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError)  # in a class of ours: not the input's


def make(config: Any, group: str, **extra: Any) -> Any:
    """Instantiates one group; whatever its constructor objects to becomes one line."""
    try:
        return instantiate(config, _convert_="all", **extra)
    except (InstantiationException, OmegaConfBaseException) as error:
        cause = error.__cause__
        target = config.get("_target_") if isinstance(config, (dict, DictConfig)) else None
        if isinstance(cause, UserError) or (isinstance(cause, BUGS) and str(target).startswith("zoo.")):
            raise cause from None
        reason = [line for line in str(deepest(error)).splitlines() if line.strip()]
        raise UserError(
            f"{group} ({target}) cannot be built: {reason[0] if reason else type(cause).__name__}"
        ) from error


def deepest(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def named(target: str, key: str) -> Any:
    """What a `_target_` names. Raises UserError where there is no such thing."""
    try:
        return get_object(target)
    except Exception as error:
        raise UserError(f"{key}._target_={target} is not there: {str(deepest(error)).splitlines()[0]}") from error


def parameters(kind: Any) -> set[str]:
    """The names that a constructor takes, also where it hands `**settings` on to the constructor of its base."""
    names: set[str] = set()
    makers: list[Any] = (
        [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base)]
        if inspect.isclass(kind)
        else [kind]
    )
    for maker in makers:
        found = inspect.signature(maker).parameters
        names |= set(found)
        if not any(one.kind is one.VAR_KEYWORD for one in found.values()):
            break
    return names
