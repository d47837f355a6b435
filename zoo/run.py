"""One run in one process: build, fit, test, report."""

import gc
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zoo.config.commandline import CONFIGS, FINISHED, LOST_RANK, prepare, register_resolvers
from zoo.config.inherited import with_model
from zoo.config.resume import (
    PLACES,
    command,
    continued,
    finished,
    hold,
    placed,
    run_folder,
    status_of,
    stored_config,
    this_command,
    trusted,
)
from zoo.config.settings import check_settings
from zoo.errors import UserError
from zoo.launch import launch, processes
from zoo.reproduction.provenance import targets
from zoo.running.peers import met, place, restarts, started_by_others
from zoo.running.report import closing_lines, table, write_metrics, write_text
from zoo.running.signals import LISTENER, Stop

log = logging.getLogger("zoo")
PASSED_ON = ("trusted", "nothing_left")  # keys of a resumed run that `run` takes out again


def configure(*overrides: str, run_dir: str | Path | None = None) -> DictConfig:
    """The configuration that `python train.py <overrides>` would run, for notebooks and tests.

    >>> run(configure("model=lenet5", "trainer.max_epochs=1", run_dir="outputs/example"))  # doctest: +SKIP
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register_resolvers()
    arguments = with_model(prepare(placed([*overrides, *([f"run_dir={run_dir}"] if run_dir else [])])))
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", overrides=arguments, return_hydra_config=True)
    choices = {group: name for group, name in cfg.hydra.runtime.choices.items() if "hydra/" not in group}
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    return settle(cfg, choices, arguments)


def start(cfg: DictConfig, hydra_config: DictConfig) -> int:
    """What `python train.py` does with what Hydra composed: one process or several; returns the exit status."""
    LISTENER.stubborn = LISTENER.stubborn or started_by_others()  # torchrun passes on a Ctrl-C that all have heard
    LISTENER.listen()
    logging.raiseExceptions = False  # a full disk is told by who needs it, not by run.log
    OmegaConf.set_struct(cfg, False)
    cfg.run_dir = hydra_config.runtime.output_dir
    choices = {group: name for group, name in hydra_config.runtime.choices.items() if "hydra/" not in group}
    cfg = settle(cfg, choices, list(hydra_config.overrides.task))
    # Now, before torch is imported.
    check_settings(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in PASSED_ON]))
    several_machines = cfg.launcher.num_nodes > 1 and not started_by_others()
    if several_machines and not any(text.startswith("run_dir=") for text in hydra_config.overrides.task):
        raise UserError(
            f"launcher.num_nodes={cfg.launcher.num_nodes} needs run_dir=, the same on every machine: the first of them "
            "writes there."
        )
    if place()[0] == 0 and not several_machines:
        hold(cfg.run_dir)
    config: Any = OmegaConf.to_container(cfg, resolve=False)
    log_settings: Any = OmegaConf.to_container(hydra_config.job_logging, resolve=True)
    try:
        status = launch(job, config, log_settings=log_settings, classes=targets(config), **processes(config))
    except Stop as stop:  # before there was a process that could say so
        return ended(str(cfg.run_dir), stop)
    if status == LOST_RANK and not started_by_others() and (Path(cfg.run_dir) / "config.yaml").is_file():
        print(f"To go on:\n{command(cfg.run_dir)}")
    return status


def job(config: dict[str, Any]) -> int:
    """One run in one process; every process of a distributed run calls it with the same configuration."""
    if place()[0] == 0 and config["launcher"]["num_nodes"] > 1:  # nobody before knew which machine is the first
        hold(config["run_dir"])
    return run(OmegaConf.create(config))


def settle(cfg: DictConfig, choices: dict[str, Any], overrides: list[str]) -> DictConfig:
    """Notes what was chosen, and puts a resumed run's own settings in place of those that were composed.

    Args:
        overrides: what was typed, as Hydra takes it.
    """
    cfg.choices = choices
    cfg.overrides = [text for text in overrides if text.partition("=")[0] not in PLACES]
    source = cfg.get("resume")
    if not source:
        return cfg
    folder = Path(cfg.run_dir) if source == "auto" else run_folder(str(source))
    if folder is not None and (folder / "config.yaml").is_file():
        stored = stored_config(folder)
        config = continued(cfg, cfg.overrides, stored)
        check_length(config, stored)
        move(config, str(stored.run_dir), str(folder.absolute()))
        file = Path(source).expanduser()
        goes_back = source != "auto" and file.is_file() and file.name != "last.ckpt"
        config.resume = str(file) if source != "auto" and file.is_file() else str(folder)
        config.trusted = trusted(cfg.overrides)
        nothing_left = None if goes_back else finished(config, stored, folder)
        if nothing_left:
            config.nothing_left = nothing_left
        return config
    if source == "auto":
        cfg.resume = None
        return cfg
    from zoo.checkpoint import find_resume, training_config

    path, checkpoint, _ = find_resume(str(source))
    names = trusted(cfg.overrides)
    config = continued(cfg, cfg.overrides, OmegaConf.create(training_config(path, checkpoint, names)))
    move(config, str(config.run_dir), str(Path(cfg.run_dir).absolute()))
    config.resume, config.trusted = str(path), names
    return config


def check_length(config: DictConfig, stored: DictConfig) -> None:
    """Raises UserError where the schedule was planned to end with the run, and the run is to be longer or shorter."""
    planned = stored.trainer.max_epochs
    if config.trainer.max_epochs != planned and str((stored.get("scheduler") or {}).get("_target_")).endswith(
        "one_cycle"
    ):
        raise UserError(
            f"scheduler=one_cycle was planned for {planned} epochs and ends there; trainer.max_epochs cannot change. "
            "Start another run, with pretrained= to begin from these weights."
        )


def move(config: DictConfig, old: str, new: str) -> None:
    """Puts a run into another folder than it was started in: it may have been moved or copied since."""
    for key in [str(key) for key in config if not OmegaConf.is_interpolation(config, str(key))]:
        value = config[key]
        if isinstance(value, DictConfig):
            move(value, old, new)
        elif isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
            config[key] = new + value.removeprefix(old)
    if "run_dir" in config:
        config.run_dir = new


def run(cfg: DictConfig) -> int:
    """Trains and tests what the configuration says; returns the exit status.

    `metrics.json` is written whatever happens once the run is built: its `status` says how the run ended.
    """
    nothing_left = cfg.pop("nothing_left", None)
    if nothing_left:
        if place()[0] == 0:
            log.info(nothing_left)
        return FINISHED
    if place()[1] == 1 and cfg.trainer.get("devices", 1) > 1:
        raise UserError(f"trainer.devices={cfg.trainer.devices}: run() is one process; python train.py starts several.")
    if restarts():
        if not cfg.get("resume"):
            cfg.trusted = ["*"]  # what this command itself has begun
        cfg.resume = cfg.run_dir
    elif not cfg.get("resume") and place()[0] == 0:
        check_free(Path(cfg.run_dir))
    LISTENER.listen()
    try:
        return build_and_run(cfg)
    except Stop as stop:  # before there was anything to save
        return ended(str(cfg.run_dir), stop)
    finally:
        LISTENER.rest()


def check_free(folder: Path) -> None:
    """Raises UserError where the folder holds a run already, so that none is overwritten."""
    if (folder / "config.yaml").is_file():
        raise UserError(
            f"{folder} holds a run already. {command(folder)} goes on with it; for another run choose another run_dir=."
        )


def build_and_run(cfg: DictConfig) -> int:
    started = time.monotonic()
    first = "torch" not in sys.modules
    if first:
        gc.disable()  # the imports make a million objects that stay; collecting among them costs a second
    with LISTENER.deferred():  # an import that is cut short leaves half a library
        from zoo.build import build

    if first:
        gc.enable()
        gc.freeze()
    built = build(cfg)
    built.started = started
    config, zero = built.config, built.trainer.is_global_zero
    if zero:
        unfinish(Path(config["run_dir"]))
        write_config(config)
        for note in built.notes:
            log.info(note)
    status, stop = "failed", None
    try:
        built.fit()
        built.take_best()
        if config.get("test", True):
            built.test()
        status = "finished"
    except Stop as asked:
        status, stop = "interrupted", asked
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        metrics = built.metrics(status)
        if zero:
            with suppress(*([OSError] if status == "failed" else [])):  # the error on its way says more
                write_metrics(config["run_dir"], metrics)
            if status == "finished" and config.get("baselines"):
                metrics |= baseline_metrics(built)
                write_metrics(config["run_dir"], metrics)
        built.close(metrics)
    if stop is not None:
        return ended(config["run_dir"], stop)
    if zero:
        if metrics["best_epoch"]:
            log.info("\nBest of %d epochs by %s: %d", metrics["epoch"], built.task.monitor, metrics["best_epoch"])
        log.info("\n%s\n", table(metrics))
        for line in closing_lines(config["run_dir"]):
            log.info(line)
    return FINISHED


def ended(run_dir: str, stop: Stop) -> int:
    """Says how to go on, as the last line; under SLURM, asks for the job to be run again."""
    # The job's time is nearly over. Another process may have heard of it first, and passed it on as SIGTERM.
    queued_again = "SLURM_JOB_ID" in os.environ and signal.SIGUSR1 in (stop.number, LISTENER.asked)
    if queued_again:
        LISTENER.deafen()  # SLURM sends SIGTERM at once to all that belongs to the job
        if place()[1] > 1:
            with suppress(RuntimeError, UserError):  # a lost neighbour has nothing more to save
                met("saved", 30)
    if place()[0] == 0:
        if queued_again:
            requeue(os.environ["SLURM_JOB_ID"])
        if (Path(run_dir) / "config.yaml").is_file():
            log.info("Stopped and saved. To go on:\n%s", command(run_dir))
        else:
            log.info("Stopped before there was anything to save. To begin again:\n%s", this_command())
    return stop.status


def requeue(job: str) -> None:
    """Puts this SLURM job back into the queue; its command has `resume=auto`."""
    try:
        asked = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False, timeout=30)
        # A negative one: the SIGTERM that the request brings about was faster than its answer.
        problem = asked.stderr.strip() if asked.returncode > 0 else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    problem = " ".join(problem.split())
    log.info("SLURM job %s %s", job, f"could not be queued again: {problem}" if problem else "is queued again.")


def unfinish(folder: Path) -> None:
    """A finished run that goes on is not finished, however it ends."""
    before = status_of(folder)
    if before.get("status") == "finished":
        write_metrics(folder, before | {"status": "interrupted"})


def write_config(config: dict[str, Any]) -> None:
    path = Path(config["run_dir"])
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_text(path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
    except OSError as error:
        raise UserError(
            f"The run folder {path} cannot be written: {error.strerror}; choose another run_dir=."
        ) from error


def baseline_metrics(built: Any) -> dict[str, float]:
    from zoo.baselines.simple import baselines
    from zoo.baselines.support_vectors import support_vectors

    loaded = built.data.prepare()
    parts, facts = loaded.parts, loaded.facts
    test = parts.get("test", parts["train"])
    if "mask_classes" in facts:
        from zoo.baselines import segmenters

        return segmenters.baselines(
            test, facts["mask_classes"], *(loaded.preprocessing[key] for key in ("mean", "std"))
        )
    # The data's targets are standardized; an error is given in their own units, like the network's.
    spread = facts.get("target_std", [1.0])
    train, kind = parts["train"], facts.get("kind", "")
    return baselines(train, test, kind, spread=spread) | support_vectors(train, test, kind)
