"""What a configuration may hold, checked before anything is built: values, and pairs that work together.

A value must be of the kind that the yaml files of the chosen groups give it, so a new yaml is checked without a line
here. RANGES holds what a kind does not say.
"""

from collections.abc import Iterator
from fnmatch import fnmatch
from math import inf
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from zoo.config.commandline import CONFIGS, options
from zoo.errors import UserError, suggest

# What a data set says about itself in its yaml; checked against, or filled from, the data that was read.
FACTS = (
    *("image_shape", "num_features", "num_classes", "num_targets"),
    *("vocab_size", "input_size", "seq_len", "horizon"),
    *("src_vocab_size", "tgt_vocab_size", "num_words"),
    *("mask_classes", "box_classes", "num_actions", "action_size"),
)
NEEDED = ("model", "data", "task", "optimizer", "trainer")
NOTES = ("choices", "overrides", "published", "begins_with")  # top-level keys that are written down and steer nothing
# What may stand besides what kind and range allow.
EXCEPTIONS: dict[str, Any] = {
    "data.batch_size": "full",
    "data.max_len": None,
    "data.max_vocab_size": None,
    "model.padding": "same",
    "trainer.max_epochs": -1,
    "trainer.max_steps": -1,
}
NAMES = ("run_dir", "data_dir")
# One value for every block of a network, or a list with one for each.
PER_BLOCK = ("model.kernel_size", "model.stride", "model.padding", "model.dilation", "model.pool_size")

# key or pattern: whether whole, least and greatest value; of a list, of each element. null is left to the kind.
RANGES: dict[str, tuple[bool, float, float]] = {
    "seed": (True, 0, 2**32 - 1),
    "checkpoint_every": (True, 1, inf),
    "checkpoint_keep": (True, 0, inf),
    "launcher.max_restarts": (True, 0, inf),
    "launcher.num_nodes": (True, 1, inf),
    "launcher.timeout": (False, 1, inf),
    "data.eval_batch_size": (True, 1, inf),
    "data.num_workers": (True, 0, inf),
    "data.window": (True, 1, inf),
    "data.max_vocab_size": (True, 2, inf),
    "augment.*flip": (False, 0, 1),
    "augment.brightness": (False, 0, 1),
    "augment.contrast": (False, 0, 1),
    "augment.shear": (False, 0, 80),
    "augment.scale": (False, 0, inf),
    "augment.rotate": (False, 0, 180),
    "augment.translate": (False, 0, 1),
    "augment.crop": (False, 0, 1),
    "augment.shift": (True, 0, inf),
    "augment.noise": (False, 0, inf),
    "augment.cutout": (True, 0, inf),
    "augment.semitones": (True, 0, 87),
    "model.*features": (True, 1, inf),
    "model.*dropout": (False, 0, 0.999),
    "model.channels": (True, 1, inf),
    "model.hidden_size": (True, 1, inf),
    "model.num_layers": (True, 1, inf),
    "model.embedding_dim": (True, 1, inf),
    "model.kernel_size": (True, 1, inf),
    "model.stride": (True, 1, inf),
    "model.dilation": (True, 1, inf),
    "model.pool_size": (True, 1, inf),
    "init.std": (False, 0, inf),
    "init.bound": (False, 0, inf),
    "regularizer.l?": (False, 0, inf),
    "regularizer.max_norm": (False, 0, inf),
    "optimizer.lr": (False, 0, inf),
    "finetune.num_blocks": (True, 1, inf),
    "finetune.one_more_every": (True, 1, inf),
    "finetune.all_after": (True, 1, inf),
    "finetune.lr_factor": (False, 1, inf),
    "finetune.lora.rank": (True, 1, inf),
    "finetune.lora.alpha": (False, 0, inf),
    "optimizer.weight_decay": (False, 0, inf),
    "optimizer.momentum": (False, 0, 0.99999),
    "scheduler.step_size": (True, 1, inf),
    "scheduler.milestones": (True, 1, inf),
    "scheduler.patience": (True, 0, inf),
    "task.delta": (False, 1e-6, inf),
    "task.label_smoothing": (False, 0, 1),
    "task.top_k": (True, 1, inf),
    "model.d_model": (True, 1, inf),
    "model.d_ff": (True, 1, inf),
    "model.num_heads": (True, 1, inf),
    "model.max_len": (True, 1, inf),
    "model.patch_size": (True, 1, inf),
    "task.teacher_forcing": (False, 0, 1),
    "task.beams": (True, 1, inf),
    "task.length_penalty": (False, 0, inf),
    "task.max_steps": (True, 1, inf),
    "task.translate_val": (True, 0, inf),
    "task.dice_weight": (False, 0, inf),
    "model.num_boxes": (True, 1, inf),
    "model.latent_size": (True, 1, inf),
    "task.noise_level": (False, 0, inf),
    "task.sparsity_weight": (False, 0, inf),
    "task.target_activity": (False, 0, 1),
    "task.contraction": (False, 0, inf),
    "model.gibbs_steps": (True, 1, inf),
    "model.std": (False, 0, inf),
    "task.k": (True, 1, inf),
    "task.chains": (True, 1, inf),
    "task.epochs_per_layer": (True, 1, inf),
    "task.ais_runs": (True, 0, inf),
    "task.ais_steps": (True, 1, inf),
    "task.eval_samples": (True, 0, inf),
    "task.beta": (False, 0, inf),
    "task.kl_warmup_epochs": (False, 0, inf),
    "task.free_bits": (False, 0, inf),
    "task.n_critic": (True, 1, inf),
    "task.target_every": (True, 1, inf),
    "task.epsilon_steps": (True, 1, inf),
    "model.num_classes": (True, 1, inf),
    "model.pieces": (True, 1, inf),
    "model.generator_channels": (True, 1, inf),
    "model.discriminator_channels": (True, 1, inf),
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
    "callbacks.ema.decay": (False, 0, 0.9999999),
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
        examples = known.get(key, [])
        in_parts = key in PER_BLOCK and isinstance(value, list) and not any(isinstance(e, list) for e in examples)
        for part in value if in_parts else [value]:
            check_kind(key, part, examples)
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
        files += [(group, CONFIGS / group / f"{name}.yaml") for name in siblings]
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
    word = f" or {written(EXCEPTIONS[key])}" if key in EXCEPTIONS else ""
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
            span = f"from {least:g} on" if most == inf else f"from {least:g} to {most:.10g}"
            word = f", or {written(EXCEPTIONS[key])}" if key in EXCEPTIONS else ""
            what = f"{'whole ' if whole else ''}number{'s' if isinstance(value, list) else ''}"
            article = "" if isinstance(value, list) else "a "
            raise UserError(f"{key}={written(value)} must be {article}{what} {span}{word}.")


def check_trainer(trainer: dict[str, Any]) -> None:
    if trainer.get("limit_train_batches") == 0:
        raise UserError("trainer.limit_train_batches=0 leaves nothing to train on; give at least 1.")


def check_class_weights(task: dict[str, Any]) -> None:
    """Raises UserError unless the weights, where there are some, are one positive number a class."""
    weights, number = task.get("class_weights"), task.get("num_outputs")
    if weights is None:
        return
    number = 2 if task.get("kind") == "binary" else number
    good = isinstance(weights, list) and all(isinstance(w, (int, float)) and w >= 0 for w in weights)
    if not good or len(weights) != number:
        raise UserError(f"task.class_weights={weights} must be 'balanced' or a list of {number} numbers from 0 on.")


def choice(cfg: Any, group: str) -> str:
    return str((cfg.get("choices") or {}).get(group, "?"))


def settle_task(cfg: DictConfig, data: Any) -> None:
    """Puts a real task in place of `task=auto`, by what the data's target is, and says which."""
    facts, asked = data.prepare().facts, cfg.task.get("class_weights")
    if cfg.task.get("_target_") == "auto":
        name = {"multiclass": "classification", "binary": "binary", "multilabel": "multilabel"}.get(
            facts.get("kind", ""), "regression"
        )
        task = OmegaConf.load(CONFIGS / "task" / f"{name}.yaml")
        for key, value in cfg.task.items_ex(resolve=False):  # num_outputs is still ???
            if key in task and value not in (None, "auto") and key not in ("_target_", "num_outputs"):
                task[key] = value
        cfg.task = task
        with open_dict(cfg):
            cfg.setdefault("choices", {})
            cfg.choices.task = name
        data.prepare().notes.append(f"task={name}, as the target has it; task=... decides otherwise")
    if asked is not None and "multilabel" in (facts.get("kind"), cfg.task.get("kind")):
        raise UserError(
            f"task.class_weights={written(asked)} is not for several labels; leave it out (task=multilabel has none)."
        )
    if cfg.task.get("class_weights") == "balanced":
        counts = facts.get("label_counts")
        if not counts:
            raise UserError("task.class_weights=balanced needs classes, and this data set has none.")
        cfg.task.class_weights = [sum(counts) / (len(counts) * max(1, count)) for count in counts]
    wanted, given = cfg.task.get("kind"), facts.get("kind")
    if given == "multilabel" and (wanted in ("multiclass", "binary") or "num_targets" in cfg.task):
        hint = ", or data.kind=regression to take 0 and 1 as quantities" if "num_targets" in cfg.task else ""
        raise UserError(
            f"task={choice(cfg, 'task')} does not fit data={choice(cfg, 'data')}, which has {facts.get('num_classes')} "
            f"labels a sample; use task=multilabel{hint}."
        )
    classes, own = facts.get("num_classes"), cfg.model.items_ex(resolve=False) if "num_outputs" not in cfg.task else ()
    told = dict(own).get("num_classes")  # of a conditional generator
    if isinstance(told, int) and classes not in (None, told):
        raise UserError(
            f"model.num_classes={told} does not agree with data={choice(cfg, 'data')}, which has {classes} classes; "
            "use 'model.num_classes=${data.num_classes}', or null."
        )
    if wanted in ("binary", "multilabel") and given in ("multiclass", "binary") and wanted != given:
        fits = "classification" if given == "multiclass" else "binary or classification"
        raise UserError(
            f"task={choice(cfg, 'task')} does not fit data={choice(cfg, 'data')}, which has "
            f"{facts.get('num_classes')} classes and one label a sample; use task={fits}."
        )
