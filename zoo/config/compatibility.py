"""Which model, task and data go together, as their yaml files say it, before anything is read or built."""

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zoo.config.commandline import CONFIGS, options
from zoo.config.settings import FACTS, choice
from zoo.errors import UserError

RARE_HEADS = ("next_step", "forecaster", "masked", "sequence", "segmenter", "detector")  # that few models have
# By what a model's yaml takes from the data: the only head that it has, and that no model has by chance.
OWN_HEADS = {"tgt_vocab_size": "sequence", "mask_classes": "segmenter", "box_classes": "detector"}
ALL_HEADS = ("classifier", "regressor", "next_step", "forecaster")  # of a model whose yaml names none of its own


def check_pair(cfg: DictConfig) -> None:
    """Refuses a model or task that needs what the data set does not declare, before the data is read."""
    given = {str(key) for key in cfg.data.keys()}  # noqa: SIM118 - a missing value counts too
    for group in ("task", "model"):
        settings: Any = OmegaConf.to_container(cfg[group], resolve=False)
        for key in re.findall(r"\$\{data\.(\w+)", str(list(settings.values()))):
            if key not in given:
                raise misfit(cfg, group, key)
        # What a model can take in several forms is selected where it is there; one form must be.
        forms = re.findall(r"\$\{oc\.select:data\.((?!horizon)\w+)", str(list(settings.values())))
        if forms and not given & set(forms):
            raise misfit(cfg, group, *forms)
        lacks = re.findall(r"\$\{task\.(\w+)", str(list(settings.values())))
        if group == "model" and set(lacks) - {str(key) for key in cfg.task}:
            if cfg.task.get("head") in OWN_HEADS.values():
                check_head(cfg)
            raise stranger(cfg)
    check_head(cfg)


def stranger(cfg: DictConfig) -> UserError:
    """A model that is trained on labels, and a task that has no use for them: which models the task is for."""
    task = choice(cfg, "task")
    fit = [name for name in options("model") if task_of(name) == task]
    return UserError(
        f"task={task} is not for model={choice(cfg, 'model')}, which is trained on labels or values. Models for it: "
        f"{', '.join(fit) or 'none'}."
    )


def task_of(name: str) -> str | None:
    """The task that a model's yaml brings, or that of the model which it starts from."""
    node: Any = OmegaConf.load(CONFIGS / "model" / f"{name}.yaml")
    found = None
    for entry in node.get("defaults", []):
        found = (
            (None if entry == "_self_" else task_of(entry)) if isinstance(entry, str) else entry.get("override /task")
        )
        if found:
            break
    return found


def heads_of(name: str) -> tuple[str, ...] | None:
    """The heads that a model's yaml names; None where it names none, for it has one alone or leaves it to the task."""
    path = CONFIGS / "model" / f"{name}.yaml"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for fact, head in OWN_HEADS.items():
        if f"${{data.{fact}}}" in text:
            return (head,)
    lines = [line.partition("#")[2] for line in text.splitlines() if "${task.head}" in line]
    return (tuple(re.findall(r"\w+", lines[0])) or ALL_HEADS) if lines else None


def with_head(head: str | None) -> str:
    """Which models have a head that few have, where one is needed."""
    fit = [name for name in options("model") if head in (heads_of(name) or ())]
    return f"; use model={' or '.join(fit)}" if fit and head in RARE_HEADS else ""


def check_head(cfg: DictConfig) -> None:
    """Refuses a model that cannot answer in the way that the task asks for."""
    if choice(cfg, "model") not in options("model"):  # composed without a name, or from elsewhere
        return
    head, has = cfg.task.get("head"), heads_of(choice(cfg, "model"))
    fits = head not in OWN_HEADS.values() if has is None else head in has
    if head is None or fits or not str(cfg.model.get("_target_")).startswith("zoo."):
        return
    what = f"answers as {' or '.join(has)}" if has else "gives one answer for a sample"
    raise UserError(
        f"model={choice(cfg, 'model')} {what}, and task={choice(cfg, 'task')} needs a {head}"
        f"{with_head(head) or '; use another model, for instance model=gru'}, or other data."
    )


def misfit(cfg: DictConfig, group: str, *keys: str) -> UserError:
    """What the group needs (one of `keys`), what the data gives, which data sets would do."""
    gives = ", ".join(k for k in FACTS if k in cfg.data.keys())  # noqa: SIM118
    would_do = [name for name in options("data") if set(keys) & set(declares(name))]
    if group == "task":  # a series has targets, too, and is forecast
        would_do = [name for name in would_do if head_of(name) in (None, cfg.task.get("head"))]
    elif not set(keys) & set(OWN_HEADS):  # pictures with sentences are for a captioner, those with masks for a U-Net
        others = [head for fact, head in OWN_HEADS.items() if fact not in declared_by(cfg.model)]
        would_do = [name for name in would_do if head_of(name) not in others]
    acting, model = {"num_actions", "action_size"}, choice(cfg, "model")
    if not acting & set(keys) and model in options("model") and task_of(model):  # it is not trained by acting
        would_do = [name for name in would_do if not acting & set(declares(name))]
    needs = " or ".join(f"data.{key}" for key in keys)
    return UserError(
        f"{group}={choice(cfg, group)} needs {needs}, and data={choice(cfg, 'data')} does not give it (it gives "
        f"{gives}). Data sets that do: {', '.join(would_do) or 'none'}."
    )


def declared_by(model: DictConfig) -> list[str]:
    """The facts of data that a model takes."""
    return re.findall(r"\$\{data\.(\w+)", str(OmegaConf.to_container(model, resolve=False)))


def declares(name: str) -> list[str]:
    node: Any = OmegaConf.load(CONFIGS / "data" / f"{name}.yaml")
    return [str(key) for key in node.get("data", {}).keys()]  # noqa: SIM118 - a missing value counts too


def head_of(name: str) -> str | None:
    """The head of the task that a data set brings; None where its target decides."""
    data: Any = OmegaConf.load(CONFIGS / "data" / f"{name}.yaml")
    entries = [entry for entry in data.get("defaults", []) if not isinstance(entry, str)]
    tasks = [entry["override /task"] for entry in entries if "override /task" in entry]
    task: Any = OmegaConf.load(CONFIGS / "task" / f"{tasks[-1]}.yaml") if tasks else {}
    return task.get("head")
