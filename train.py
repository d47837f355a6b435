"""Trains, tests and keeps one run: configuration -> build -> fit -> test. `python train.py --help` says more."""

import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from zoo.commandline import BAD_INPUT, INTERRUPTED, LOST_RANK, guarded, prepare, register_resolvers

sys.path.insert(0, str(Path.cwd()))  # for a network of the user's own
register_resolvers()


def job(config: dict[str, Any]) -> int:
    """One run in one process; every process of a distributed run calls it with the same configuration."""
    from zoo.run import run

    return run(OmegaConf.create(config))


@hydra.main(config_path="configs", config_name="train", version_base="1.3")
def main(cfg: DictConfig) -> int:
    from zoo.launch import launch

    OmegaConf.set_struct(cfg, False)
    hydra_config = HydraConfig.get()
    cfg.run_dir = hydra_config.runtime.output_dir
    cfg.choices = {group: name for group, name in hydra_config.runtime.choices.items() if "hydra/" not in group}
    config = OmegaConf.to_container(cfg, resolve=False)
    devices = cfg.trainer.devices if cfg.trainer.strategy != "auto" and isinstance(cfg.trainer.devices, int) else 1
    # A failing cell of a sweep says so and lets the others go on.
    statuses.append(guarded(lambda: launch(job, config, devices, gpu=cfg.trainer.accelerator in ("gpu", "cuda"))))
    if statuses[-1] == INTERRUPTED:
        sys.exit(INTERRUPTED)  # the other cells of a sweep, too
    return statuses[-1]


statuses: list[int] = []


def command() -> int:
    sys.argv[1:] = prepare(sys.argv[1:])
    return main() or 0


if __name__ == "__main__":
    status = guarded(command) or max(statuses, default=0)
    sys.exit(LOST_RANK if status == BAD_INPUT and len(statuses) > 1 else status)
