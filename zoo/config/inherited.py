"""The network that a run begins with, taken over from its checkpoint where the command does not say another.

    python train.py pretrained=gpt-shakespeare data=text_file data.path=my.txt
    python train.py pretrained=gpt-shakespeare data=text_file data.path=my.txt model.dropout=0.3

is `model=gpt` in the checkpoint's sizes. What follows from data and task, such as the number of classes, is the new
run's own. Nothing is taken over beside `experiment=`, which says all, or where `model=` names another network.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError, safe_open
from yaml import YAMLError

from zoo.config.commandline import CONFIGS, in_quotes, options, unquoted
from zoo.pretrained import registry, torchvision_weights


def with_model(arguments: Sequence[str]) -> list[str]:
    """The arguments, and those that make the network the checkpoint's, `model=` and `model.<key>=`."""
    typed = {a.partition("=")[0]: unquoted(a) for a in arguments if "=" in a and not a.startswith("-")}
    source = typed.get("pretrained")
    if source in (None, "", "null") or {"experiment", "model._target_"} & set(typed):
        return list(arguments)
    config = own_config(typed) or config_of(str(source))
    name, settings = model_of(config)
    if name not in options("model") or name == "custom" or typed.get("model", name) != name:
        return list(arguments)
    own = plain_settings(name)
    more = [
        f"model.{key}={in_grammar(value)}"
        for key, value in settings.items()
        if key in own and not follows(own[key]) and own[key] != value and not said(f"model.{key}", typed)
        if is_plain(value)
    ]
    return [*arguments, *([] if "model" in typed else [f"model={name}"]), *more]


def own_config(typed: Mapping[str, str]) -> dict[str, Any]:
    """That of the run itself where it is taken up again: what it began with need not be there any longer."""
    there = typed.get("resume") == "auto" and "run_dir" in typed
    return read_yaml(Path(typed["run_dir"]).expanduser() / "config.yaml") if there else {}


def config_of(source: str) -> dict[str, Any]:
    """The configuration of a checkpoint without reading its weights; empty where there is none to be found."""
    path = Path(source).expanduser()
    if path.is_dir():
        return read_yaml(path / "config.yaml")
    if not path.is_file() and source in registry.names():
        path = registry.HERE / f"{source}.safetensors"
    elif not path.is_file() and torchvision_weights.is_name(source):
        return {"model": torchvision_weights.ARCHITECTURES.get(source.partition("_Weights.")[0], {})}
    if path.suffix == ".safetensors":
        return read_header(path)
    return read_yaml(path.parent.parent / "config.yaml") if path.parent.name == "checkpoints" else {}


def read_yaml(path: Path) -> dict[str, Any]:
    """A configuration; empty where it cannot be read, of which who reads the checkpoint itself says more."""
    try:
        found: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):
        return {}
    return found if isinstance(found, dict) else {}


def read_header(path: Path) -> dict[str, Any]:
    """`config` of the metadata of a .safetensors file."""
    try:
        with safe_open(str(path), framework="numpy") as file:
            found = json.loads((file.metadata() or {}).get("config", "{}"))
    except (OSError, ValueError, SafetensorError):
        return {}
    return found if isinstance(found, dict) else {}


def model_of(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the settings of a configuration's model; where no name is noted it is that of the class's file."""
    settings, choices = config.get("model"), config.get("choices")
    if not isinstance(settings, dict):
        return "", {}
    named = choices.get("model") if isinstance(choices, dict) else None
    return str(named or str(settings.get("_target_", "")).rpartition(".")[0].rpartition(".")[2]), settings


def plain_settings(name: str) -> dict[str, Any]:
    """What the yaml of a model says, references as they are written."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        found: Any = OmegaConf.to_container(compose("train", overrides=[f"model={name}"]).model, resolve=False)
    return {key: value for key, value in found.items() if key != "_target_"}


def follows(value: Any) -> bool:
    """Whether a setting is taken from data or task."""
    if isinstance(value, list):
        return any(map(follows, value))
    return isinstance(value, str) and ("${" in value or value == "???")


def is_plain(value: Any) -> bool:
    """Whether a setting is a number, a name or nothing, or a list of them: a checkpoint's may be neither code nor
    reference."""
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and not follows(value))


def said(key: str, typed: Mapping[str, str]) -> bool:
    """Whether an argument sets a key, or something in it."""
    return any(name.lstrip("+~") == key or name.lstrip("+~").startswith(f"{key}.") for name in typed)


def in_grammar(value: Any) -> str:
    """A plain value as Hydra's grammar has it."""
    if isinstance(value, list):
        return "[" + ",".join(map(in_grammar, value)) + "]"
    return in_quotes(value) if isinstance(value, str) else json.dumps(value)
