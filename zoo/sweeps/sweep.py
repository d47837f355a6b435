"""Sweeps: several runs, their cells, below one folder. `-m` spans a grid, `sweep=<name>` is a prepared space.

`sweep.yaml` in the folder holds what was asked and what became of each cell, so that `resume=<folder>` goes on with
what is left. A cell is an ordinary run, `python train.py <its arguments> run_dir=<folder>/<n>`, in its own process.
"""

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from zoo.config.commandline import (
    CONFIGS,
    FINISHED,
    INTERRUPTED,
    LOST_RANK,
    SAVED,
    in_quotes,
    parses,
    register_resolvers,
    unquoted,
)
from zoo.config.resume import command as resume_command
from zoo.config.resume import hold
from zoo.errors import UserError, suggest
from zoo.launch import preload
from zoo.running.peers import CAN_FORK, started_by_others
from zoo.sweeps import ranking
from zoo.sweeps.cells import Cell, Signals, share_cores
from zoo.sweeps.space import Axis, Point, axis, grid, random_point, space_axis, typed_axes
from zoo.sweeps.study import JOURNAL, Study, check_optuna

STATE = "sweep.yaml"
SAMPLERS = ("grid", "random", "tpe")
# What may be changed when a sweep goes on.
CHANGEABLE = ("sweep.jobs", "sweep.num_trials")
ASKS_ONLY = {"-h", "--help", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc"}
HYDRAS_OWN = ("hydra/sweeper=", "hydra/launcher=", "hydra.sweeper.", "hydra.launcher.", "hydra.sweep.")
RunCell = Callable[[list[str]], int]


def key_of(argument: str) -> str:
    return argument.partition("=")[0].lstrip("+")


def value_of(argument: str) -> str:
    """The name in `key=name`, which may be in quotes."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if not parses(argument):
        return argument.partition("=")[2]
    override = OverridesParser.create().parse_override(argument)
    return unquoted(argument) if override.is_sweep_override() else str(override.value())


def named(arguments: Sequence[str]) -> str | None:
    """The value of `sweep=`, or None for a run that is none."""
    names = [value_of(a) for a in arguments if key_of(a) == "sweep"]
    return names[-1] if names and names[-1] not in ("none", "null", "None", "") else None


def folder_to_go_on(arguments: Sequence[str]) -> Path | None:
    """The folder of the sweep that `resume=` names; for `resume=auto` it is that of run_dir."""
    given = {key_of(a): value_of(a) for a in arguments if key_of(a) in ("resume", "run_dir")}
    name = given.get("run_dir", "") if given.get("resume") == "auto" else given.get("resume", "")
    path = Path(name).expanduser()
    return path if name and (path / STATE).is_file() else None


def is_sweep(arguments: Sequence[str]) -> bool:
    """Whether these arguments of train.py ask for a sweep that this module runs; Hydra runs those of its plugins."""
    if ASKS_ONLY & set(arguments) or any(a.startswith(HYDRAS_OWN) for a in arguments):
        return False
    if named(arguments) or folder_to_go_on(arguments) or any(a.startswith("sweep.") for a in arguments):
        return True
    options = {a for a in arguments if a.startswith("-")}
    return bool(options) and options <= {"-m", "--multirun"} and not distributed()


def distributed() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ or started_by_others()


@dataclass
class Sweep:
    """What sweep.yaml holds."""

    folder: Path
    arguments: list[str]  # as typed, without where it lies and how it is run
    common: list[str]  # those of every cell
    axes: list[Axis]
    settings: dict[str, Any]
    cells: list[dict[str, Any]]  # each: cell (its number), point, status, and seconds and error once it has ended

    def write(self) -> None:
        content = {**vars(self), "axes": [one.plain() for one in self.axes]}
        del content["folder"]
        text = "# A sweep; python train.py resume=<this folder> goes on with it.\n" + OmegaConf.to_yaml(content)
        temporary = self.folder / f".{STATE}.tmp"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.folder / STATE)

    @classmethod
    def read(cls, folder: Path) -> "Sweep":
        try:
            content: Any = OmegaConf.to_container(OmegaConf.load(folder / STATE), resolve=False)
            return cls(folder, **content | {"axes": [axis(one) for one in content["axes"]]})
        except Exception as error:
            raise UserError(f"{folder / STATE} cannot be read: {str(error).splitlines()[0]}") from error

    @property
    def adaptive(self) -> bool:
        """What comes next depends on how the last cells ended."""
        return bool(self.settings["sampler"] == "tpe")

    def open_cells(self) -> list[dict[str, Any]]:
        """Those that have not ended well. A trial that Optuna knows has failed is not tried again."""
        over = {"finished", "pruned"} | ({"failed"} if self.adaptive else set())
        return [cell for cell in self.cells if cell["status"] not in over]

    def add(self, point: Point) -> dict[str, Any]:
        self.cells.append({"cell": len(self.cells), "point": point, "status": "waiting"})
        return self.cells[-1]

    def fill(self) -> None:
        """Lists the cells that are known beforehand: all but those of an adaptive sampler."""
        settings = self.settings
        if settings["sampler"] == "grid":
            points = grid(self.axes)
        elif settings["sampler"] == "random":
            points = [random_point(self.axes, settings["seed"], n) for n in range(settings["num_trials"])]
        else:
            return
        for point in points[len(self.cells) :]:
            self.add(point)


def composed(arguments: Sequence[str], choices: Sequence[Axis] = ()) -> tuple[DictConfig, Any]:
    """The configuration of these arguments, and Hydra's loader. Raises what Hydra raises for a wrong key or name."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        first = [f"{one.key}={one.first}" for one in choices]
        cfg = compose("train", overrides=[*arguments, *first])
        for one in choices:
            for value in one.choices[1:] if (CONFIGS / one.key).is_dir() else ():
                compose("train", overrides=[*arguments, *first, f"{one.key}={value}"])
        return cfg, loader


def checked(settings: dict[str, Any]) -> dict[str, Any]:
    """The `sweep` group, if it holds together. Raises UserError otherwise."""
    if settings["sampler"] not in SAMPLERS:
        raise UserError(f"There is no sweep.sampler={settings['sampler']}{suggest(settings['sampler'], SAMPLERS)}")
    for key, least in (("num_trials", 1), ("jobs", 1), ("seed", 0)):
        if type(settings[key]) is not int or settings[key] < least:
            raise UserError(f"sweep.{key}={settings[key]} must be a whole number from {least} on.")
    if settings["mode"] not in ("auto", "min", "max"):
        raise UserError(f"There is no sweep.mode={settings['mode']}{suggest(settings['mode'], ['auto', 'min', 'max'])}")
    if not isinstance(settings["prune"], bool):
        raise UserError(f"sweep.prune={settings['prune']} must be true or false.")
    if not isinstance(settings["metric"], str) or (settings["metric"] != "auto" and settings["mode"] == "auto"):
        raise UserError(f"sweep.metric={settings['metric']} needs sweep.mode=min or sweep.mode=max beside it.")
    if not isinstance(settings["space"], dict):
        raise UserError("sweep.space must be a mapping, for instance sweep.space={optimizer.lr:[0.1,0.01]}")
    if settings["sampler"] == "tpe" or settings["prune"]:
        check_optuna()
    return settings


def settings_of(arguments: Sequence[str]) -> tuple[dict[str, Any], Any]:
    """The `sweep` group of these arguments; a typed space takes the place of the prepared one."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    asked = [a for a in arguments if key_of(a) == "sweep" or key_of(a).startswith("sweep.")]
    spaces = [a for a in asked if key_of(a) == "sweep.space"]
    cfg, loader = composed([a for a in asked if a not in spaces])
    settings: Any = OmegaConf.to_container(cfg.sweep, resolve=True)
    if spaces:
        settings["space"] = OverridesParser.create().parse_override(spaces[-1]).value()
    return checked(settings), loader


def begin(arguments: Sequence[str], folder: Path | None) -> Sweep:
    """A new sweep, checked as far as it can be before any cell runs."""
    settings, loader = settings_of(arguments)
    elsewhere = ("run_dir", "resume") if "resume=auto" in arguments else ("run_dir",)
    typed = [a for a in arguments if a not in ("-m", "--multirun") and key_of(a) not in elsewhere]
    others = [a for a in typed if key_of(a) != "sweep" and not key_of(a).startswith("sweep.")]
    common, axes = typed_axes(others, loader)
    taken = {key_of(a) for a in common} | {one.key.lstrip("+") for one in axes}
    prepared = [space_axis(key, entry) for key, entry in settings.pop("space").items() if key not in taken]
    if "model=custom" in common:  # a network of the user's own, see zoo.config.commandline.prepare
        prepared = [Axis(**vars(one) | {"key": f"++{one.key}"}) if one.key[:6] == "model." else one for one in prepared]
    axes = [*axes, *prepared]
    if not axes and not {"-m", "--multirun"} & set(arguments):
        raise UserError(
            "This sweep varies nothing; give sweep.space={optimizer.lr:[0.1,0.01]}, or several values with -m."
        )
    if typed_axes([a for a in arguments if key_of(a) == "run_dir"], loader)[1]:
        raise UserError("run_dir is the folder of the whole sweep; give a single name.")
    cfg, _ = composed(common, axes)
    share_cores(settings["jobs"])
    settings |= monitored(settings, cfg)
    if folder is None:
        folder = Path(cfg.run_dir)
    kept = [a for a in typed if key_of(a) != "sweep.jobs"]
    sweep = Sweep(folder, kept, common, axes, settings, [])
    sweep.fill()
    return sweep


def monitored(settings: dict[str, Any], cfg: DictConfig) -> dict[str, str]:
    """Metric and mode: those given, else the task's own."""
    from hydra.utils import get_object

    if settings["metric"] != "auto":
        return {}
    preload()
    target = str(OmegaConf.select(cfg, "task._target_"))
    if target == "auto":
        raise UserError("With task=auto a sweep needs sweep.metric= and sweep.mode=, or the task itself: task=...")
    try:
        task = get_object(target)
    except Exception as error:  # whatever stands in the way of an import
        raise UserError(f"task._target_={target} is not there.") from error
    metric, mode = task.compared_by(OmegaConf.to_container(cfg, resolve=False))
    return {"metric": metric, "mode": mode if settings["mode"] == "auto" else settings["mode"]}


def go_on(arguments: Sequence[str], folder: Path) -> Sweep:
    """A sweep from its folder; nothing but how far and how fast it goes may be changed."""
    sweep = Sweep.read(folder)
    typed = [a for a in arguments if a not in ("-m", "--multirun") and key_of(a) not in ("resume", "run_dir")]
    changes = [a for a in typed if key_of(a) in CHANGEABLE]
    others = [a for a in typed if a not in changes and key_of(a) != "sweep.jobs"]
    if others and [a for a in typed if key_of(a) != "sweep.jobs"] != sweep.arguments:
        raise UserError(
            f"The sweep in {folder} goes on as it was begun ({shlex.join(sweep.arguments)}), without {others[0]}. "
            f"What may change: {', '.join(CHANGEABLE)}. For another sweep choose another run_dir=."
        )
    settings, _ = settings_of([f"sweep.jobs={sweep.settings['jobs']}", *changes])
    sweep.settings["jobs"] = settings["jobs"]
    if any(key_of(a) == "sweep.num_trials" for a in changes):
        sweep.settings["num_trials"] = settings["num_trials"]
    sweep.fill()
    return sweep


def sweep(arguments: Sequence[str], run_cell: RunCell) -> int:
    """Runs a sweep, or what is left of it, and returns the exit status.

    Args:
        arguments: of train.py, quoted (`zoo.config.commandline.prepare`).
        run_cell: what train.py does with the arguments of one run; called in a process of its own.
    """
    if distributed():
        raise UserError("A sweep starts its cells itself; leave torchrun and srun out, and use trainer=ddp for a cell.")
    alien = [a for a in arguments if a.startswith("-") and a not in ("-m", "--multirun")]
    if alien:
        raise UserError(f"A sweep does not go together with {alien[0]}.")
    old = folder_to_go_on(arguments)
    given = next((Path(value_of(a)) for a in arguments if key_of(a) == "run_dir"), None)
    if old is None and given is not None and (given / STATE).is_file():
        raise UserError(f"{given} holds a sweep already; go on with resume={given}, or choose another run_dir=.")
    if old is None and given is not None and (given / "config.yaml").is_file():
        raise UserError(f"{given} holds a run already; choose another run_dir= for the sweep.")
    asked = go_on(arguments, old) if old else begin(arguments, given)
    hold(asked.folder)
    asked.write()
    return Driver(asked, run_cell).drive()


class Driver:
    """Runs the cells of a sweep, `jobs` at a time."""

    def __init__(self, asked: Sweep, run_cell: RunCell) -> None:
        from zoo.reproduction.provenance import targets

        self.sweep, self.folder, self.jobs = asked, asked.folder, asked.settings["jobs"]
        share = share_cores(self.jobs)
        cfg, _ = composed(asked.common, asked.axes)
        threads = OmegaConf.select(cfg, "trainer.num_threads")
        too_many = self.jobs > 1 and isinstance(threads, int) and threads > share
        self.threads = [f"trainer.num_threads={share}"] if too_many else []
        gpu = str(cfg.trainer.accelerator) in ("gpu", "cuda", "mps")
        self.run_cell = run_cell if CAN_FORK and not gpu else None
        self.waiting = asked.open_cells()
        if self.run_cell and (self.waiting or self.more()):
            preload(targets(OmegaConf.to_container(cfg, resolve=False)))
        with_study = asked.settings["prune"] or asked.adaptive
        self.study = Study(self.folder, asked.settings["mode"], asked.settings["seed"]) if with_study else None

    def more(self) -> bool:
        """Whether an adaptive sampler has cells to add."""
        return self.sweep.adaptive and len(self.sweep.cells) < self.sweep.settings["num_trials"]

    def drive(self) -> int:
        running: dict[int, tuple[Cell, float]] = {}
        with Signals() as signals:
            while True:
                while signals.asked is None and len(running) < self.jobs and (cell := self.next_cell()):
                    running[cell["cell"]] = (self.start(cell, signals), time.monotonic())
                if not running:
                    break
                time.sleep(0.02)
                for number, (process, started) in list(running.items()):
                    if process.poll() is not None:
                        del running[number]
                        signals.cells.remove(process)
                        self.end(self.sweep.cells[number], process, time.monotonic() - started, signals.asked)
            return self.finish(signals.asked)

    def next_cell(self) -> dict[str, Any] | None:
        if self.waiting:
            return self.waiting.pop(0)
        if self.study and self.more():
            return self.sweep.add(self.study.ask(len(self.sweep.cells), self.sweep.axes))
        return None

    def start(self, cell: dict[str, Any], signals: Signals) -> Cell:
        number, settings = cell["cell"], self.sweep.settings
        if "extra" not in cell:  # once: a cell that goes on must find the settings that it had
            cell["extra"] = list(self.threads)
            if self.study and settings["prune"]:
                target = f"_target_:zoo.callbacks.pruning.Pruning,journal:{JOURNAL}"
                metric = in_quotes(settings["metric"])
                cell["extra"].append(f"+callbacks.pruning={{{target},trial:{number},monitor:{metric}}}")
        if self.study:
            self.study.trial(number)
        arguments = [*self.sweep.common, *(f"{key}={value}" for key, value in cell["point"].items()), *cell["extra"]]
        arguments.append(f"run_dir={in_quotes(str(self.folder / str(number)))}")
        if not any(key_of(a) == "resume" for a in arguments):
            arguments.append("resume=auto")  # start it, or go on where it was
        cell["status"] = "running"
        self.sweep.write()
        total = settings["num_trials"] if self.sweep.adaptive else len(self.sweep.cells)
        print(f"\nCell {number} ({number + 1} of {max(total, number + 1)}): {described(cell)}", flush=True)
        return Cell(arguments, self.run_cell, signals, quiet=self.jobs > 1)

    def end(self, cell: dict[str, Any], process: Cell, seconds: float, asked: int | None) -> None:
        """Notes how a cell ended, and says so."""
        status, said, run_dir = process.poll() or 0, process.said(), self.folder / str(cell["cell"])
        metrics = ranking.read_metrics(run_dir)
        if status == FINISHED:
            cell["status"] = "pruned" if metrics.get("pruned") else "finished"
        else:
            stopped = status in (SAVED, INTERRUPTED) or (asked is not None and -status in (asked, signal.SIGTERM))
            cell["status"] = "interrupted" if stopped else "failed"
        cell.pop("error", None)
        cell["seconds"] = round(seconds, 1)
        value = ranking.score(metrics, self.sweep.settings["metric"])
        if cell["status"] == "failed":
            lines = said.strip().splitlines()
            reason = lines[-1].removeprefix("Error: ") if lines else f"see {run_dir / 'run.log'}"
            how = f"was ended by signal {-status}" if status < 0 else f"failed with status {status}"
            cell["error"] = reason
            self.complain(f"Cell {cell['cell']} ({described(cell)}) {how}: {reason}", said, seen=self.jobs == 1)
        elif self.jobs > 1:
            shown = "" if value is None else f", {self.sweep.settings['metric']} {value:.4f}"
            print(f"Cell {cell['cell']} {cell['status']} after {seconds:.1f} s{shown}", flush=True)
        if self.study and cell["status"] != "interrupted":
            self.study.tell(cell["cell"], cell["status"], value)
        self.sweep.write()

    def complain(self, line: str, said: str, *, seen: bool) -> None:
        """One line on stderr, or on stdout where the cell itself has written to stderr what was wrong."""
        if "Traceback (most recent call last)" in said and not seen:
            sys.stderr.write(said)
        forked_and_seen = seen and self.run_cell is not None and said.strip()
        print(
            line if forked_and_seen else f"Error: {line}",
            file=sys.stdout if forked_and_seen else sys.stderr,
            flush=True,
        )

    def finish(self, asked: int | None) -> int:
        cells, settings = self.sweep.cells, self.sweep.settings
        states = [cell["status"] for cell in cells]
        rows = ranking.rows(cells, self.folder, settings["metric"], settings["mode"])
        ranking.write_csv(self.folder / "results.csv", rows)
        print(f"\n{ranking.as_text(rows)}\n\nSweep: {shown_path(self.folder)}")
        print(f"Look at it: tensorboard --logdir {shlex.quote(str(shown_path(self.folder)))}")
        left = {"waiting", "running", "interrupted"} & set(states)
        if asked is None and not left:
            return LOST_RANK if "failed" in states else FINISHED
        if left or self.more():
            print(f"To go on with what is left:\n{resume_command(self.folder)}")
        sys.stdout.flush()
        if asked == getattr(signal, "SIGUSR1", 0) and "SLURM_JOB_ID" in os.environ:
            from zoo.run import requeue

            requeue(os.environ["SLURM_JOB_ID"])
        return INTERRUPTED if asked == signal.SIGINT else SAVED


def described(cell: dict[str, Any]) -> str:
    return " ".join(f"{key.lstrip('+')}={ranking.shown(value)}" for key, value in cell["point"].items()) or "as it is"


def shown_path(folder: Path) -> Path:
    return folder.relative_to(Path.cwd()) if folder.is_absolute() and folder.is_relative_to(Path.cwd()) else folder
