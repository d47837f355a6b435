"""One run in one process: build, fit, test, report."""

import gc
import logging
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zoo.commandline import CONFIGS, FINISHED, prepare, register_resolvers
from zoo.errors import UserError
from zoo.report import closing_lines, table, write_metrics

log = logging.getLogger("zoo")


def configure(*overrides: str, run_dir: str | Path) -> DictConfig:
    """The configuration that `python train.py <overrides>` would run, for notebooks and tests.

    >>> run(configure("model=lenet5", "trainer.max_epochs=1", run_dir="outputs/example"))  # doctest: +SKIP
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        arguments = prepare([*overrides, f"run_dir={run_dir}"])
        cfg = compose("train", overrides=arguments, return_hydra_config=True)
    choices = {group: name for group, name in cfg.hydra.runtime.choices.items() if "hydra/" not in group}
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    cfg.choices = choices
    return cfg


def run(cfg: DictConfig) -> int:
    """Trains and tests what the configuration says; returns the exit status.

    `metrics.json` is written whatever happens once the run is built: its `status` says how the run ended.
    """
    started = time.monotonic()
    gc.disable()  # the imports make a million objects that stay; collecting among them costs a second
    from zoo.build import build

    gc.enable()
    gc.freeze()
    built = build(cfg)
    built.started = started
    config, zero = built.config, built.trainer.is_global_zero
    if zero:
        write_config(config)
        for note in built.notes:
            log.info(note)
    status = "failed"
    try:
        built.fit()
        if config.get("test", True):
            built.test()
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        if zero:
            log.info("Stopped. What there is so far: %s", config["run_dir"])
        raise
    finally:
        metrics = built.metrics(status)
        if zero:
            write_metrics(config["run_dir"], metrics)
            if status == "finished" and config.get("baselines"):
                metrics |= baseline_metrics(built)
                write_metrics(config["run_dir"], metrics)
        built.close(metrics)
    if zero:
        if metrics["best_epoch"]:
            log.info("\nBest of %d epochs by %s: %d", metrics["epoch"], built.task.monitor, metrics["best_epoch"])
        log.info("\n%s\n", table(metrics))
        for line in closing_lines(config["run_dir"]):
            log.info(line)
    return FINISHED


def write_config(config: dict[str, Any]) -> None:
    path = Path(config["run_dir"])
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"The run folder {path} cannot be written: {error.strerror}; choose another run_dir=."
        ) from error


def baseline_metrics(built: Any) -> dict[str, float]:
    from zoo.metrics import baselines

    loaded = built.data.prepare()
    parts, facts = loaded.parts, loaded.facts
    # The data's targets are standardized; an error is given in their own units, like the network's.
    spread = facts.get("target_std", [1.0])
    return baselines(parts["train"], parts.get("test", parts["train"]), facts.get("kind", ""), spread=spread)
