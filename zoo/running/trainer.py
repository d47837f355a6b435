"""From a configuration to Lightning's trainer, with our loops, callbacks and checkpoints in it."""

import logging
import re
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment

from zoo.callbacks.averaging import Averaging
from zoo.callbacks.checkpointing import AtomicCheckpointIO, RunCheckpoint
from zoo.callbacks.early_stopping import EarlyStopping
from zoo.callbacks.exact_resume import ProcessState
from zoo.callbacks.panels import Panels
from zoo.config.instantiate import make
from zoo.errors import UserError
from zoo.running.loop import use_lean_loop
from zoo.running.peers import place


def quiet_libraries() -> None:
    """Leaves only our own messages: Lightning's adverts and its second console handler go."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # speaks of CUDA where none is asked for
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # what it reports is raised as well
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)


def build_callbacks(config: dict[str, Any], task: Any) -> list[Any]:
    """The configured callbacks; an entry with a null value is off, and so is one that says it is not `active`."""
    entries = {f"callbacks.{name}": entry for name, entry in (config.get("callbacks") or {}).items()}
    entries |= {group: config.get(group) for group in ("finetune", "regularizer")}
    built = []
    for name, entry in entries.items():
        if not entry or None in entry.values() or not entry.get("_target_"):
            continue
        automatic = {"monitor": task.monitor, "mode": task.mode}
        if entry.get("monitor") == "auto" and not task.monitor:
            raise UserError(
                f"{name}.monitor=auto is what the task watches, and {type(task).__name__} watches nothing by itself; "
                f"give {name}.monitor= and {name}.mode=."
            )
        entry = {key: automatic[key] if value == "auto" and key in automatic else value for key, value in entry.items()}
        built.append(make(entry, name))
    return [callback for callback in built if getattr(callback, "active", True)]


def build_trainer(config: dict[str, Any], task: Any, data: Any) -> tuple[Trainer, RunCheckpoint | None]:
    settings = dict(config["trainer"])
    for key in ("num_threads", "channels_last", "sync_batchnorm"):  # not Lightning's, or done by zoo.build
        settings.pop(key, None)
    several = place()[1] > 1
    if not several and settings.get("strategy") == "ddp":
        settings["strategy"] = "auto"  # one process has nobody to average with
    lean = settings.pop("lean_loop", True)
    loaded = data.prepare()
    parts = loaded.parts
    checkpoint = RunCheckpoint(
        Path(config["run_dir"]) / "checkpoints",
        {
            "config": config,
            "classes": loaded.class_names,
            "preprocessing": loaded.preprocessing,
            "data_fingerprint": loaded.fingerprint,
        },
        monitor=task.monitor,
        mode=task.mode,
        every_iterations=config.get("checkpoint_every"),
        keep=config.get("checkpoint_keep", 2),
    )
    logger_config = config.get("logger") or {}
    logger = make(logger_config, "logger") if logger_config.get("_target_") else False
    callbacks = [*build_callbacks(config, task), Panels(config), ProcessState(config["seed"]), Averaging(), checkpoint]
    if "val" not in parts:
        settings["limit_val_batches"] = 0
    if settings.get("limit_val_batches") == 0:
        check_monitors(config, callbacks, has_part="val" in parts)
    try:
        trainer = make(
            settings,
            "trainer",
            logger=logger,
            callbacks=callbacks,
            # Said, not guessed: Lightning would take a SLURM job of one process for many.
            plugins=[AtomicCheckpointIO(), TorchElasticEnvironment() if several else LightningEnvironment()],
            default_root_dir=config["run_dir"],
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
            enable_checkpointing=True,
            deterministic=config.get("deterministic", False),
            inference_mode=True,
        )
    except UserError as error:
        raise trainer_error(settings, error) from error
    use_lean_loop(trainer, wanted=lean)
    return trainer, checkpoint


def check_monitors(config: dict[str, Any], callbacks: list[Any], *, has_part: bool) -> None:
    """Raises UserError where something waits for validation that never comes.

    Args:
        has_part: the data has a validation part, and trainer.limit_val_batches=0 leaves it out.
    """
    watched = [("scheduler.monitor", str((config.get("scheduler") or {}).get("monitor", "")))]
    watched += [("callbacks.early_stopping.monitor", c.monitor) for c in callbacks if isinstance(c, EarlyStopping)]
    for key, metric in watched:
        if metric.startswith("val/"):
            why = "trainer.limit_val_batches=0 leaves validation out" if has_part else "the data has no validation part"
            raise UserError(f"{key}={metric} never comes, since {why}; change that, or watch train/loss.")


def trainer_error(settings: dict[str, Any], error: UserError) -> UserError:
    """A line on devices where Lightning's own is about its arguments."""
    accelerator = str(settings.get("accelerator"))
    text = str(error)
    if accelerator in ("gpu", "cuda", "mps", "tpu") and re.search("found|available|support|Requirement", text):
        return UserError(
            f"trainer.accelerator={accelerator} was asked for and torch finds none on this machine; use trainer=cpu."
        )
    return error
