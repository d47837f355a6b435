"""Trains, tests and keeps one run: configuration -> build -> fit -> test. `python train.py --help` says more."""

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from zoo.config.commandline import BAD_INPUT, INTERRUPTED, LOST_RANK, SAVED, guarded, prepare, register_resolvers
from zoo.config.inherited import with_model
from zoo.config.resume import placed
from zoo.launch import together
from zoo.run import start
from zoo.running.peers import first_to_say
from zoo.sweeps.sweep import is_sweep, sweep

sys.path.insert(0, str(Path.cwd()))  # for a network of the user's own
register_resolvers()


@hydra.main(config_path="configs", config_name="train", version_base="1.3")
def main(cfg: DictConfig) -> int:
    # A failing cell of a sweep says so and lets the others go on.
    statuses.append(guarded(lambda: start(cfg, HydraConfig.get()), first_to_say))
    if statuses[-1] in (INTERRUPTED, SAVED):
        sys.exit(statuses[-1])  # the other cells of a sweep, too
    return statuses[-1]


statuses: list[int] = []


def command() -> int:
    sys.argv[1:] = together(with_model(prepare(placed(sys.argv[1:]))))
    if is_sweep(sys.argv[1:]):
        return sweep(sys.argv[1:], cell)
    return main() or 0


def cell(arguments: list[str]) -> int:
    """A run that belongs to a sweep, in a process of its own."""
    sys.argv[1:] = arguments
    return guarded(command, first_to_say) or max(statuses, default=0)


if __name__ == "__main__":
    status = guarded(command, first_to_say) or max(statuses, default=0)
    sys.exit(LOST_RANK if status == BAD_INPUT and len(statuses) > 1 else status)
