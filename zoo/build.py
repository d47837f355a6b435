"""From a configuration to a run that is ready to start."""

import inspect
import logging
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, InterpolationToMissingValueError, OmegaConfBaseException
from torch import nn

from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.checkpoint import check_resume, check_run, find_resume, newest_first, read
from zoo.config.checks import check_baselines, check_output, check_processes, check_sparse_gradients
from zoo.config.commandline import options
from zoo.config.compatibility import check_pair, misfit
from zoo.config.instantiate import deepest, make, named
from zoo.config.prepare import build_data
from zoo.config.settings import FACTS, check_class_weights, check_settings, choice, settle_task
from zoo.errors import UserError
from zoo.layers.batch_norm import synchronize
from zoo.layers.dropout import use_dropout
from zoo.layers.init import left_alone
from zoo.layers.lora import adapters, add_lora
from zoo.running.loading import load_pretrained
from zoo.running.peers import accelerator_for, cores, join, place, started_by_others
from zoo.running.session import Run
from zoo.running.trainer import build_trainer, quiet_libraries
from zoo.scratch.swap import write_out

log = logging.getLogger(__name__)

ALL_THREADS = torch.get_num_threads()  # before any run has asked for another number
GROUPS = (
    *("model", "data", "task", "init", "optimizer", "scheduler", "regularizer", "augment", "finetune", "trainer"),
    "logger",
)


def build(cfg: DictConfig) -> Run:
    """Reads the data, checks that everything fits together, and builds model, task and trainer.

    Raises:
        UserError: one line on what does not fit.
    """
    quiet_libraries()
    started = time.monotonic()
    begin(cfg)
    data = build_data(cfg)
    check_processes(data)
    settle_task(cfg, data)
    check_baselines(cfg, data)
    config = resolve(cfg)
    notes = list(data.prepare().notes)
    model = build_model(config, data)
    if not config.get("resume"):
        notes += initialize(config, model) + load(config, model, data.prepare().class_names)
    notes += adapt(config, model)
    if config["trainer"].get("sync_batchnorm") and not synchronize(model):
        raise UserError("trainer.sync_batchnorm=true is for networks with torch's batch norm, and this one has none.")
    check_sparse_gradients(config, model)
    if hasattr(get_object(config["task"]["_target_"]), "check_kind"):  # before the model is asked to take it
        get_object(config["task"]["_target_"]).check_kind(data.part("train")[torch.tensor([0])])
    check_output(config, model, data)
    task = build_task(config, model, data)
    if hasattr(task, "check"):
        task.check(data.part("train")[torch.tensor([0])])
    if hasattr(task, "initialize") and not (config.get("resume") or config.get("pretrained")):
        notes += task.initialize(data)
    if config.get("scratch"):
        notes.append(scratch_note(task))
    if config["trainer"].get("channels_last"):
        task.model.to(memory_format=torch.channels_last)
    if config.get("compile"):
        task.model.compile()  # in place, so that checkpoint keys stay plain
    trainer, checkpoint = build_trainer(config, task, data)
    trainer.precision_plugin.convert_module(task)  # Lightning would do it after a checkpoint's weights were rounded
    run = Run(config, data, task, trainer, checkpoint, notes, started=started)
    if config.get("resume"):
        go_on(run, config["resume"])
        config["resume"] = None  # what is written down is the run, not how it was taken up
    return run


def begin(cfg: DictConfig) -> None:
    """What comes before any data is read: processes, threads, random numbers, and whether this can work at all."""
    if started_by_others():
        take_places(cfg)
    else:
        cfg.trainer.pop("num_nodes", None)  # of a run that torchrun or srun had spread: nobody else would come
    names = cfg.pop("trusted", [])
    check_settings(cfg)
    set_threads(cfg)
    if place()[1] > 1:
        join(cfg.trainer.accelerator in ("gpu", "cuda"), float(cfg.launcher.timeout))
    if cfg.get("resume"):
        check_run(OmegaConf.to_container(cfg, resolve=False), str(cfg.resume), names)
    seed_everything(cfg.seed, workers=True, verbose=False)
    check_pair(cfg)


def take_places(cfg: DictConfig) -> None:
    """Where torchrun or srun has started the processes, their number is the number of devices."""
    world_size = place()[1]
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    cfg.trainer.devices, cfg.trainer.num_nodes = here, world_size // here
    cfg.trainer.accelerator = accelerator_for(here, cfg.trainer.accelerator)
    if cfg.trainer.strategy == "auto":
        cfg.trainer.strategy = "ddp"


def set_threads(cfg: DictConfig) -> None:
    """Sets torch's threads, and writes their number down: another number gives other bits."""
    threads = cfg.trainer.get("num_threads")
    if not threads:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        asked, shared = os.environ.get("OMP_NUM_THREADS", ""), max(1, cores() // here)
        threads = ALL_THREADS if here == 1 else int(asked) if asked.isdigit() else shared
    torch.set_num_threads(int(threads))
    cfg.trainer.num_threads = int(threads)


def go_on(run: Run, source: str) -> None:
    """Takes up the newest whole checkpoint of `source`; from a run folder without one, the run begins anew."""
    if Path(source).is_dir() and not newest_first(Path(source)):
        run.notes.append(f"{source} has no checkpoint yet; the run begins anew.")
        positions: dict[str, Any] = {}
    else:
        run.resume, checkpoint, notes = find_resume(source)
        run.notes += notes
        loaded = run.data.prepare()
        run.resumed_from = check_resume(run.resume, checkpoint, run.task, loaded.fingerprint, loaded.class_names)
        run.results = dict(checkpoint.get("metrics", {}))
        run.seconds_before = checkpoint.get("seconds", 0.0)
        positions = checkpoint.get("curves") or {}
        if run.checkpoint is not None:
            if place()[0] == 0:
                run.checkpoint.go_back_to(run.resume)
            run.checkpoint.resumed_from, run.checkpoint.seconds_before = run.resume, run.seconds_before
            run.checkpoint.curves = dict(positions)
            run.notes += check_best(run.checkpoint, checkpoint)
        run.notes.append(f"Going on from iteration {run.resumed_from} ({run.resume}).")
    for logger in run.trainer.loggers:
        if hasattr(logger, "go_on"):
            logger.go_on(positions.get(type(logger).__name__) or 0)


def check_best(keeper: RunCheckpoint, checkpoint: dict[str, Any]) -> list[str]:
    """The best checkpoint must be the one that the resumed one speaks of, else the best is chosen anew; notes."""
    told = checkpoint.get("callbacks", {}).get(keeper.state_key, {}).get("best_epoch")
    if told is None:
        return []
    try:
        found = read(keeper.best).get("callbacks", {}).get(keeper.state_key, {}).get("best_epoch")
    except UserError as error:
        keeper.forget_best = True
        reason = str(error) if keeper.best.is_file() else f"There is no {keeper.best}."
        return [f"{reason} The best epoch is chosen among those that follow."]
    keeper.forget_best = found != told  # it comes from a later epoch, which this run will reach again
    return []


def scratch_note(task: Any) -> str:
    """Puts layers, loss and optimizer of zoo.scratch into the task, and says which."""
    turned, left = write_out(task)
    return f"Written out: {', '.join(turned) or 'nothing'}" + (f"; torch's own: {', '.join(left)}" if left else "")


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """Plain containers without references. Raises UserError for a pair of model and data that cannot work."""
    for group in ("task", "model", *GROUPS):
        node = cfg.get(group)
        if node is None:
            continue
        try:
            OmegaConf.to_container(node, resolve=True, throw_on_missing=group != "model")
        except (InterpolationKeyError, InterpolationToMissingValueError) as error:
            found = re.search(r"data\.(\w+)", str(error))
            if found:
                raise misfit(cfg, group, found[1]) from error
            raise UserError(f"{group}={choice(cfg, group)} cannot be resolved: {str(error).splitlines()[0]}") from error
    try:
        config = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"The configuration cannot be resolved: {str(error).splitlines()[0]}") from error
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def build_model(config: dict[str, Any], data: Any) -> nn.Module:
    """The network. A class of the user's own is given the sizes that its constructor asks for by name."""
    settings = dict(config["model"])
    target = settings.get("_target_", "")
    if target in ("???", "", None):
        raise UserError("model=custom needs the name of your class: model._target_=mypackage.MyNetwork")
    if not str(target).startswith("zoo."):
        settings = sizes_for(target, config) | settings
    model = make(settings, f"model={config.get('choices', {}).get('model', '?')}")
    if not isinstance(model, nn.Module):
        raise UserError(f"model._target_={target} gives a {type(model).__name__}, not a torch.nn.Module.")
    config["model"] = settings
    use_dropout(model, (config.get("regularizer") or {}).get("dropout", "inverted"))
    needs = getattr(named(config["optimizer"]["_target_"], "optimizer"), "needs", None)
    if needs and not hasattr(model, needs):
        others = ", ".join(name for name in options("optimizer") if name != "perceptron")
        raise UserError(
            f"optimizer=perceptron corrects threshold units, and model={config.get('choices', {}).get('model', '?')} "
            f"has none. Use model=perceptron, or one of these optimizers: {others}."
        )
    if hasattr(model, "learns_by_perceptron_rule") and config["task"].get("head") != "classifier":
        raise UserError(
            f"model={choice(config, 'model')} fires or does not, which tells classes apart, and "
            f"data={choice(config, 'data')} has none; use data with classes, for instance data=digits, or model=mlp."
        )
    return model


def initialize(config: dict[str, Any], model: nn.Module) -> list[str]:
    """Draws the weights anew where `init=` says so, and says which; see `zoo.layers.init` for what it leaves alone."""
    settings = config.get("init") or {}
    if not settings.get("_target_"):
        return []
    name = choice(config, "init")
    done = make(settings, f"init={name}", model=model)
    if not done:
        raise UserError(
            f"init={name} knows no layer of model={choice(config, 'model')}; leave it out, and let the model itself "
            "initialize its weights."
        )
    biases = sum("bias" in tensor.rpartition(".")[2] for tensor in done)
    left = ", ".join(f"{number} of {kind}" for kind, number in left_alone(model, done).items())
    return [
        f"init={name}: {len(done) - biases} weights set, {biases} biases 0"
        + (f"; as the model made them: {left}" if left else "")
    ]


def load(config: dict[str, Any], model: nn.Module, names: Sequence[str] = ()) -> list[str]:
    """Weights of an earlier run, the seventh initialization: it comes last, and stays."""
    if config.get("pretrained"):
        of_classes = config["task"].get("num_outputs") in (len(names), 1)  # 1: of two classes
        return load_pretrained(model, config["pretrained"], names if of_classes else (), config["model"]).lines()
    start, finetune = config.get("begins_with"), choice(config, "finetune")
    if start:
        return [
            f"It begins with weights of experiment={start}, and has none: train that, then pretrained=<its run folder>."
        ]
    if finetune not in ("full", "?"):
        return [f"finetune={finetune} without pretrained=: the network begins with random weights."]
    return []


def adapt(config: dict[str, Any], model: nn.Module) -> list[str]:
    """Puts low-rank adapters beside the weights, where fine-tuning asks for them; says which."""
    settings = (config.get("finetune") or {}).get("lora")
    if not settings:
        return []
    names = add_lora(model, **settings)
    count, whole = sum(p.numel() for p in adapters(model)), sum(p.numel() for p in model.parameters())
    return [f"Adapters: {len(names)} layers, {count:,} weights beside {whole - count:,}"]


def sizes_for(target: str, config: dict[str, Any]) -> dict[str, Any]:
    """Sizes of data and task for those arguments of the user's class that bear their names."""
    try:
        signature = inspect.signature(get_object(target))
    except Exception as error:
        cause = deepest(error)
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise UserError(
            f"model._target_={target} cannot be imported: {reason}. The module must lie in the folder you start from, "
            "or be installed."
        ) from error
    data, task = config["data"], config["task"]
    offered = {key: data[key] for key in FACTS if key in data} | {
        "in_features": data.get("num_features"),
        "in_channels": (data.get("image_shape") or [None])[0],
        "image_size": (data.get("image_shape") or [None])[-1],
        "num_classes": task.get("num_outputs"),
        "out_features": task.get("num_outputs"),
        "num_outputs": task.get("num_outputs"),
    }
    return {key: value for key, value in offered.items() if key in signature.parameters and value is not None}


def optimizer_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Of the optimizer, but no fused kernel in mixed precision where gradients are cut or scaled.

    A fused kernel undoes the loss's scale within its step. Whoever looks at gradients before sees them scaled, and
    Lightning refuses to clip them.
    """
    settings, trainer = config["optimizer"], config["trainer"]
    scaled, mixed = (str(trainer.get("precision")) in (name, f"{name}-mixed") for name in ("16", "bf16"))
    apart = scaled or (mixed and trainer.get("gradient_clip_val"))
    return settings | {"fused": None} if apart and settings.get("fused") else settings


def build_task(config: dict[str, Any], model: nn.Module, data: Any) -> Any:
    check_class_weights(config["task"])
    settings = {key: value for key, value in config["task"].items() if key not in ("num_outputs", "head")}
    names = data.prepare().class_names
    parameters = inspect.signature(get_object(settings["_target_"])).parameters
    facts = data.prepare().facts
    offered = {"class_names": names, "target_names": names} | {
        key: facts.get(key) for key in ("target_mean", "target_std", "num_characters")
    }
    settings |= {key: value for key, value in offered.items() if key in parameters and value}
    optimizer = make(optimizer_settings(config), "optimizer")
    scheduler = make(config["scheduler"], "scheduler") if (config.get("scheduler") or {}).get("_target_") else None
    return make(settings, f"task={choice(config, 'task')}", model=model, optimizer=optimizer, scheduler=scheduler)
