"""From a configuration to data that is read, and agrees with what its yaml says of it."""

from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict

from zoo.checkpoint import find_resume, newest_first, read
from zoo.config.commandline import CONFIGS, options
from zoo.config.instantiate import make, parameters
from zoo.config.settings import FACTS, choice
from zoo.errors import UserError
from zoo.running.peers import first_process_first


def build_data(cfg: DictConfig) -> Any:
    """The data module, read, with its facts checked against the yaml or filled into the configuration."""
    lacks = drop_wishes(cfg)
    settings = [str(key) for key in cfg.data.keys() if key not in FACTS]  # noqa: SIM118 - a missing value counts too
    missing = [f"data.{key}" for key in settings if OmegaConf.is_missing(cfg.data, key)]
    if missing:
        raise UserError(f"data={choice(cfg, 'data')} needs {' and '.join(missing)}, for instance {missing[0]}=...")
    plain = {key: _value(cfg.data, key) for key in settings}
    data = make(plain, "data")
    with first_process_first():  # one downloads, the others find it there
        data.fetch()
    adopted = adopt(cfg, data)
    found = data.prepare().facts
    data.prepare().notes[:0] = lacks + adopted
    with open_dict(cfg):
        for key in FACTS:
            declared = None if key not in cfg.data else _value(cfg.data, key)  # ??? counts as not in it
            if adopted and key.endswith("vocab_size") and key in found:
                cfg.data[key] = found[key]
            elif declared is None and key in cfg.data.keys() and key not in found:  # noqa: SIM118 - here it must count
                del cfg.data[key]  # a regression has no num_classes, for instance
            elif declared is None and key in found:
                cfg.data[key] = found[key]
            elif key in found and declared != found[key]:
                raise UserError(f"data.{key}={declared} does not agree with the data, which has {found[key]}.")
    data.augment = build_augment(cfg, data)
    return data


def adopt(cfg: DictConfig, data: Any) -> list[str]:
    """Prepares inputs as those of the pretrained network were, whose weights rely on it, and says so in a line.

    A run that is taken up again is its own source: the file it began with need not be there any longer.
    """
    if not cfg.get("pretrained") or cfg.get("own_inputs") or not hasattr(data, "adopt"):
        return []
    source = str(cfg.pretrained)
    taken_up = cfg.get("resume") and (Path(cfg.resume).is_file() or newest_first(Path(cfg.resume)))
    checkpoint = find_resume(str(cfg.resume))[1] if taken_up else read(source)
    earlier = checkpoint.get("preprocessing")
    what = data.adopt(earlier) if isinstance(earlier, dict) else ""
    return [f"Inputs are prepared as for {source}, with {what}; own_inputs=true leaves that"] if what else []


def drop_wishes(cfg: DictConfig) -> list[str]:
    """Takes away what the yaml of a model or a recipe asks of data that has no such setting, such as pixels in [0, 1].

    What a recipe asks is told in a line, for its number was reached with it.
    """
    accepted, dropped = None, []
    for group in ("model", "experiment"):
        for key in data_settings(group, choice(cfg, group)):
            if key not in cfg.data or key in FACTS or key.startswith("_"):
                continue
            accepted = parameters(get_object(cfg.data._target_)) if accepted is None else accepted
            if key not in accepted:
                with open_dict(cfg):
                    value = cfg.data.pop(key)
                dropped += [f"data.{key}={value}"] if group == "experiment" else []
    lacks = f"data={choice(cfg, 'data')} has no such setting, and the recipe's is left out: {', '.join(dropped)}"
    return [lacks] if dropped else []


def data_settings(group: str, name: str) -> list[str]:
    """The keys of `data` in a yaml file, and in those of its group that it is based on."""
    path = CONFIGS / group / f"{name}.yaml"
    if not path.is_file():
        return []
    node: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    based_on = [entry.removeprefix(f"/{group}/") for entry in node.get("defaults") or [] if isinstance(entry, str)]
    found = [key for other in based_on if other != "_self_" for key in data_settings(group, other)]
    return [*found, *(node.get("data") or {})]


def build_augment(cfg: DictConfig, data: Any) -> Any:
    """What changes the training samples, or None. Raises UserError where it is for other samples than the data's."""
    if not (cfg.get("augment") or {}).get("_target_"):
        return None
    name = choice(cfg, "augment")
    augment = make(cfg.augment, f"augment={name}")
    if data.suits(augment):
        return augment
    would_do = []
    for option in options("augment"):
        node: Any = OmegaConf.load(CONFIGS / "augment" / f"{option}.yaml")
        if node["_target_"] is None or data.suits(get_object(node["_target_"])):
            would_do.append(option)
    raise UserError(
        f"augment={name} is for {augment.suits_what}, and data={choice(cfg, 'data')} has none; augment= options that "
        f"would do: {', '.join(would_do)}."
    )


def _value(node: DictConfig, key: str) -> Any:
    value = node[key]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
