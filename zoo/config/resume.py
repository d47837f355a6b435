"""Going on with a run: in which folder, with which settings, by which command. Nothing here imports torch.

A run folder's own `config.yaml` is what a resumed run is made of. What is typed beside `resume=` must agree with it,
but for what says how long and where it runs.
"""

import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from zoo.config.commandline import CONFIGS, unquoted
from zoo.errors import UserError

# What may differ from the run's own settings: how long it goes on, on how many devices, and who starts and shows it.
FREE_KEYS = ("trainer.max_epochs", "trainer.devices", "trainer.num_nodes", "trainer.strategy")
FREE_GROUPS = ("logger", "launcher")
WHERE = ("accelerator", "devices", "num_nodes", "strategy")
PLACES = ("run_dir", "resume")


def run_folder(source: str) -> Path | None:
    """The run folder that `resume=source` means: a folder with a config.yaml, or the one that holds the checkpoint."""
    path = Path(source).expanduser()
    place = path if path.is_dir() else path.parent
    folder = place.absolute().parent if place.absolute().name == "checkpoints" else place
    return folder if path.exists() and (folder / "config.yaml").is_file() else None


def placed(arguments: Sequence[str]) -> list[str]:
    """The arguments with the run folder that `resume=` names as `run_dir=`.

    Raises:
        UserError: `resume=auto` without `run_dir=`, or a `run_dir=` that is not the resumed run's.
    """
    typed = {a.partition("=")[0]: unquoted(a) for a in arguments if a.partition("=")[0] in PLACES}
    source = typed.get("resume")
    if source in (None, "", "null"):
        return list(arguments)
    if source == "auto":
        if "run_dir" not in typed and "SLURM_JOB_ID" in os.environ:
            return [*arguments, f"run_dir=outputs/slurm_{os.environ['SLURM_JOB_ID']}"]  # the same when it is requeued
        if "run_dir" not in typed:
            newest = newest_unfinished(Path("outputs"))
            hint = (
                f" The newest unfinished run: {command(newest)}" if newest else " No run below outputs/ is unfinished."
            )
            raise UserError(f"resume=auto needs run_dir=, the folder to start or to go on with.{hint}")
        return list(arguments)
    folder = run_folder(str(source))
    if folder is None:
        return list(arguments)
    if "run_dir" in typed and Path(typed["run_dir"]).expanduser().resolve() != folder.resolve():
        raise UserError(
            f"A run goes on in its own folder, {folder}; leave run_dir= out, or copy the folder and resume the copy."
        )
    return [*(a for a in arguments if not a.startswith("run_dir=")), f"run_dir={folder}"]


def status_of(folder: Path) -> dict[str, Any]:
    """A run's metrics.json, or nothing where there is none that can be read."""
    try:
        found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def newest_unfinished(root: Path) -> Path | None:
    """The run below `root` that was worked on last and is not finished."""
    runs = [path.parent for path in root.glob("**/config.yaml")] if root.is_dir() else []
    waiting = [folder for folder in runs if status_of(folder).get("status") != "finished"]
    return max(waiting, key=last_worked_on, default=None)


def last_worked_on(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, folder / "checkpoints") if path.exists())


def command(folder: str | Path) -> str:
    """What to type to go on with a run."""
    path = Path(folder)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    program = Path(sys.argv[0]).name if sys.argv[0] else ""
    script = sys.argv[0] if program == "train.py" else "train.py"
    return shlex.join(["python", script, f"resume={path}", *named_by_the_user(path)])


def named_by_the_user(folder: Path) -> list[str]:
    """What a run calls that is not the zoo's: a function among them is only called again where it is typed again."""
    try:
        typed = stored_config(folder).get("overrides") or []
    except UserError:  # nothing is known of it
        return []
    return [text for text in typed if "._target_=" in text and "._target_=zoo." not in text]


def this_command() -> str:
    """What was typed to start this process."""
    return shlex.join(["python", *(argument for argument in sys.argv)])


def stored_config(folder: Path) -> DictConfig:
    """A run's config.yaml."""
    try:
        config = OmegaConf.load(folder / "config.yaml")
    except Exception as error:  # whatever yaml has to say
        raise UserError(f"{folder / 'config.yaml'} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(config, DictConfig) or "model" not in config:
        raise UserError(f"{folder / 'config.yaml'} is not the configuration of a run.")
    return config


def typed_values(overrides: Sequence[str]) -> Iterator[tuple[str, str, Any]]:
    """(as typed, key, value) of each override but those that say where the run is."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for text in overrides:
        parsed = OverridesParser.create().parse_override(text)
        if parsed.key_or_group not in PLACES and not parsed.key_or_group.startswith("hydra"):
            yield text, parsed.key_or_group, None if parsed.is_delete() else parsed.value()


def continued(cfg: DictConfig, overrides: Sequence[str], stored: DictConfig) -> DictConfig:
    """The run's own configuration with what may differ taken from the command line.

    Args:
        cfg: what the command line alone composes to.
        overrides: what was typed.
        stored: what the run was started with.

    Raises:
        UserError: a line that lists every setting that differs and may not.
    """
    if "${" in OmegaConf.to_yaml(stored):  # a run writes down values; a reference could stand for anything
        raise UserError("The run's own configuration was refused: it holds an unresolved reference.")
    config, differing = stored.copy(), []
    before = list(stored.get("overrides") or [])
    for text, key, value in typed_values(overrides):
        group = key.split(".")[0]
        if group in FREE_GROUPS:
            config[group] = cfg[group]
            config.choices[group] = cfg.choices.get(group)
        elif key in FREE_KEYS:
            OmegaConf.update(config, key, value)
        elif text in before:
            continue
        elif (CONFIGS / key).is_dir():
            own = (stored.get("choices") or {}).get(key)
            if key == "trainer" and value is not None:
                differing += trainer_differences(config, str(value))
            elif str(own) != str(value):
                differing.append(f"{text} (the run has {own})")
        elif not same(stored, key, value):
            differing.append(f"{text} (the run has {OmegaConf.select(stored, key)})")
    if differing:
        raise UserError(
            f"A resumed run goes on with its own settings, and these differ: {', '.join(differing)}. Leave them out, "
            "or start another run. What may differ: trainer.max_epochs, trainer.devices, logger, launcher."
        )
    return config


def trusted(overrides: Sequence[str]) -> list[str]:
    """What the user has named to be called, beyond what a run folder may ask for."""
    return [str(value) for _, key, value in typed_values(overrides) if key.endswith("._target_")]


def trainer_differences(config: DictConfig, name: str) -> list[str]:
    """Takes from configs/trainer/<name>.yaml what may differ; returns what may not."""
    path, differing = CONFIGS / "trainer" / f"{name}.yaml", []
    chosen: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    for key, value in chosen.items():
        if name == "auto" and key not in WHERE:
            continue  # the other options have these from it
        if f"trainer.{key}" in FREE_KEYS:
            OmegaConf.update(config, f"trainer.{key}", value)
        elif key != "defaults" and config.trainer.get(key) != value:
            differing.append(f"trainer={name}, trainer.{key}={value} (the run has {config.trainer.get(key)})")
    return differing


def same(stored: DictConfig, key: str, value: Any) -> bool:
    """Whether the run's own setting is `value`."""
    plain = key.lstrip("+~")
    try:
        other = stored.copy()
        OmegaConf.update(other, plain, value, force_add=True)
        return bool(OmegaConf.select(other, plain) == OmegaConf.select(stored, plain))
    except (OmegaConfBaseException, AttributeError):
        return False


def finished(config: DictConfig, stored: DictConfig, folder: Path) -> str | None:
    """A line where the run has finished and nothing asks for more, else None."""
    found = status_of(folder)
    if found.get("status") != "finished":
        return None
    now, then = config.trainer.max_epochs, stored.trainer.max_epochs
    if now != then and (now == -1 or (then != -1 and now > then)):
        return None
    longer = then > 0 and not stored.trainer.get("max_steps", -1) > 0
    more = f"; trainer.max_epochs={then * 2} would go on." if longer else "."
    return f"{folder} has finished {found.get('epoch')} epochs, and nothing is left to do{more}"


def hold(folder: str | Path) -> None:
    """Keeps a run folder for this process and those it starts, until all of them have ended.

    Raises:
        UserError: another process is using it.
    """
    if folder in HELD or sys.platform == "win32":  # no locks on folders there
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        reason = error.strerror
        raise UserError(f"The run folder {folder} cannot be written: {reason}; choose another run_dir=.") from error
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(
            f"The run in {folder} is going on in another process; wait for it, or choose another run_dir=."
        ) from None
    except (OSError, ImportError):  # a file system or a system without locks
        pass
    HELD[folder] = descriptor


HELD: dict[str | Path, int] = {}
