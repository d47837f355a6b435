"""What the values of a configuration may be, checked before anything is read or built.

A value must be of the kind that the yaml files of the chosen groups give it, so a new yaml is checked without a line
here. RANGES holds what a kind does not say.
"""

from collections.abc import Iterator
from fnmatch import fnmatch
from math import inf
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zoo.commandline import CONFIGS, options
from zoo.errors import UserError, suggest

NEEDED = ("model", "data", "task", "optimizer", "trainer")
NOTES = ("choices", "published")  # top-level keys that are written down and steer nothing
# What may stand besides what kind and range allow.
EXCEPTIONS: dict[str, Any] = {"data.batch_size": "full", "trainer.max_epochs": -1, "trainer.max_steps": -1}
NAMES = ("run_dir", "data_dir")

# key or pattern: whether whole, least and greatest value; of a list, of each element. null is left to the kind.
RANGES: dict[str, tuple[bool, float, float]] = {
    "seed": (True, 0, 2**32 - 1),
    "checkpoint_every": (True, 1, inf),
    "data.eval_batch_size": (True, 1, inf),
    "data.num_workers": (True, 0, inf),
    "model.*features": (True, 1, inf),
    "model.*dropout": (False, 0, 1),
    "optimizer.lr": (False, 0, inf),
    "optimizer.weight_decay": (False, 0, inf),
    "optimizer.momentum": (False, 0, inf),
    "scheduler.step_size": (True, 1, inf),
    "scheduler.milestones": (True, 1, inf),
    "scheduler.patience": (True, 0, inf),
    "task.label_smoothing": (False, 0, 1),
    "task.top_k": (True, 1, inf),
    "trainer.devices": (True, 1, inf),
    "trainer.max_epochs": (True, 1, inf),
    "trainer.max_steps": (True, 1, inf),
    "trainer.num_threads": (True, 1, inf),
    "trainer.gradient_clip_val": (False, 0, inf),
    "trainer.accumulate_grad_batches": (True, 1, inf),
    "trainer.check_val_every_n_epoch": (True, 1, inf),
    "trainer.log_every_n_steps": (True, 1, inf),
    "trainer.limit_*_batches": (False, 0, inf),
    "callbacks.early_stopping.patience": (True, 0, inf),
    "callbacks.ema.decay": (False, 0, 1),
}


def check_settings(cfg: DictConfig) -> None:
    """Raises UserError for the first value that no run can have."""
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    known = declared({str(group): name for group, name in (plain.get("choices") or {}).items()})
    groups = {path.name for path in CONFIGS.iterdir() if path.is_dir()} - {"hydra"}
    top = {key.split(".")[0] for key in known} | groups
    for key in plain:
        if str(key) not in (*top, *NOTES):
            raise UserError(f"There is no key '{key}'{suggest(key, top - set(NOTES))}")
    for key in NEEDED:
        if not isinstance(plain.get(key), dict):
            raise UserError(f"A run needs a {key}; choose one with {key}=. There is: {', '.join(options(key))}.")
    for key in NAMES:
        if plain.get(key) in (None, ""):
            raise UserError(f"{key} is empty; give the name of a folder.")
    for key, value in leaves(plain):
        below = sorted({k.removeprefix(f"{key}.").split(".")[0] for k in known if k.startswith(f"{key}.")})
        if below and value not in (None, {}):
            raise UserError(f"{key}={value}: {key} has settings of its own; set {key}.{below[-1]}, for instance.")
        if key.startswith("callbacks.") and key.count(".") == 1 and value not in (None, {}):
            raise UserError(f"{key}={value} is no callback; name its class: +{key}._target_=mypackage.MyCallback")
        check_kind(key, value, known.get(key, []))
        for pattern, limits in RANGES.items():
            if fnmatch(key, pattern):
                check_range(key, value, *limits)
    check_trainer(plain["trainer"])


def leaves(node: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything that is no mapping with something in it."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def declared(choices: dict[str, str | None]) -> dict[str, list[Any]]:
    """All values that train.yaml and the files of the chosen groups give each key."""
    found: dict[str, list[Any]] = {}
    files = [("", CONFIGS / "train.yaml"), *((g, CONFIGS / g / f"{name}.yaml") for g, name in choices.items() if name)]
    while files:
        group, path = files.pop(0)
        if not path.is_file():  # a choice from elsewhere
            continue
        content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        content.pop("hydra", None)
        siblings = [entry for entry in content.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
        files += [(group, path.with_name(f"{name}.yaml")) for name in siblings]
        is_global = path.read_text(encoding="utf-8").startswith("# @package _global_")
        for key, value in leaves(content, f"{group}." if group and not is_global else ""):
            found.setdefault(key, []).append(value)
    return found


def is_free(value: Any) -> bool:
    return isinstance(value, str) and (value == "???" or "${" in value)


def check_kind(key: str, value: Any, examples: list[Any]) -> None:
    """Raises UserError where `value` is of another kind than all `examples`; null alone says nothing."""
    kinds = [example for example in examples if example is not None]
    if not kinds or is_free(value) or any(is_free(example) for example in kinds):
        return
    if value is None and (len(kinds) < len(examples) or isinstance(kinds[0], (bool, str, dict))):
        return
    if (key in EXCEPTIONS and value == EXCEPTIONS[key]) or any(is_like(value, example) for example in kinds):
        return
    wanted, shown = kind(kinds[0]), kinds[0]
    if isinstance(kinds[0], list) and not isinstance(value, list):
        shown = [value] if is_like([value], kinds[0]) else shown
    word = f" or {EXCEPTIONS[key]}" if key in EXCEPTIONS else ""
    raise UserError(f"{key}={written(value)} must be {wanted}{word}, for instance {key}={written(shown)}")


def written(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, list):
        return f"[{','.join(written(x) for x in value)}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def kind(example: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a single name", dict: "a mapping"}
    if isinstance(example, list):
        return "a list of numbers" if example and all(type(x) in (int, float) for x in example) else "a list"
    return names.get(type(example), type(example).__name__)


def is_like(value: Any, example: Any) -> bool:
    if isinstance(example, list):
        first = example[0] if example else None
        simple = type(first) in (int, float) and all(not is_free(x) for x in example)
        return isinstance(value, list) and (not simple or all(is_free(x) or is_like(x, first) for x in value))
    if isinstance(example, bool) or isinstance(value, bool):
        return isinstance(example, bool) and isinstance(value, bool)
    if isinstance(example, (int, float)):
        return isinstance(value, int if isinstance(example, int) else (int, float))
    return isinstance(value, dict) if isinstance(example, dict) else isinstance(value, (str, int, float))


def check_range(key: str, value: Any, whole: bool, least: float, most: float) -> None:
    for number in value if isinstance(value, list) else [value]:
        if number is None or is_free(number) or (key in EXCEPTIONS and number == EXCEPTIONS[key]):
            continue
        real = isinstance(number, (int, float)) and not isinstance(number, bool)
        if not real or not least <= number <= most or (whole and number != int(number)):
            span = f"from {least:g} on" if most == inf else f"from {least:g} to {most:.0f}"
            word = f", or {EXCEPTIONS[key]}" if key in EXCEPTIONS else ""
            what = f"{'whole ' if whole else ''}number{'s' if isinstance(value, list) else ''}"
            article = "" if isinstance(value, list) else "a "
            raise UserError(f"{key}={written(value)} must be {article}{what} {span}{word}.")


def check_trainer(trainer: dict[str, Any]) -> None:
    devices = trainer.get("devices", 1)
    if trainer.get("limit_train_batches") == 0:
        raise UserError("trainer.limit_train_batches=0 leaves nothing to train on; give at least 1.")
    if isinstance(devices, int) and devices > 1 and trainer.get("strategy", "auto") == "auto":
        raise UserError(
            f"trainer.devices={devices} means several processes, which trainer=ddp starts: trainer=ddp "
            f"trainer.devices={devices}. Otherwise leave it at 1."
        )


def check_class_weights(task: dict[str, Any]) -> None:
    """Raises UserError unless the weights, where there are some, are one positive number a class."""
    weights, number = task.get("class_weights"), task.get("num_outputs")
    if weights is None:
        return
    number = 2 if task.get("kind") == "binary" else number
    good = isinstance(weights, list) and all(isinstance(w, (int, float)) and w >= 0 for w in weights)
    if not good or len(weights) != number:
        raise UserError(f"task.class_weights={weights} must be 'balanced' or a list of {number} numbers from 0 on.")
