"""From a run folder, a checkpoint or a .safetensors file to a plain network.

A checkpoint carries its own configuration. Since building a network from a configuration calls whatever it names, only
what the zoo itself defines and a short list are allowed, at every depth, and they are checked before anything is built.
A name is not enough: `zoo.config.commandline.os.system` begins with `zoo.` too, so each one is looked up where it is
defined.
"""

import importlib
import inspect
import json
import os
import pickle
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError, suggest
from zoo.layers.dropout import use_dropout
from zoo.layers.lora import merged
from zoo.pretrained import registry, torchvision_weights

FORMAT_VERSION = 2
RESUMABLE_VERSION = 2  # before it, a checkpoint did not hold all that an exact resume needs
BESIDE_WEIGHTS = ("config", "classes", "preprocessing", "format_version", "zoo")  # in a .safetensors file, as JSON
OLD_TORCH = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)  # begins what torch wrote before 1.6, as published weights
ALLOWED = ("zoo.",)
PURE = ("zoo.models.", "zoo.layers.", "zoo.losses.", "zoo.optim.", "zoo.scratch.")  # functions, too, not only classes
ALLOWED_EXACTLY = ("torch.nn.ReLU", "torch.nn.Tanh", "torch.nn.Sigmoid", "torch.nn.GELU")


def data_dir() -> Path:
    """Where data sets and published weights lie, as configs/train.yaml has it."""
    return Path(os.environ.get("ZOO_DATA") or Path.home() / ".cache" / "zoo")


def find(source: str | Path) -> Path:
    """The file that `source` means: a run folder's best (else last) checkpoint, the file itself, or that of a name.

    Args:
        source: a place on this machine comes before a name of `zoo.pretrained`.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        for name in ("best.ckpt", "last.ckpt"):
            if (folder / name).is_file():
                return folder / name
        raise UserError(f"There is no checkpoint in {path}; a run folder holds checkpoints/best.ckpt or last.ckpt.")
    if not path.exists() and registry.is_name(str(source)):
        return registry.file_of(str(source), data_dir())
    if not path.is_file():
        near = suggest(str(source), registry.names()) if str(source) == path.name else "."
        advice = "give a run folder, a .ckpt or a .safetensors file, or a name that scripts/models.py lists"
        raise UserError(f"There is no checkpoint {path}; {advice}{near if 'did you mean' in near else '.'}")
    return path


def read(source: str | Path) -> dict[str, Any]:
    """What a checkpoint holds: at least state_dict, and config where there is one. Tensors are on the CPU.

    Raises:
        UserError: the file is missing, damaged, of a newer format, or holds more than tensors and plain containers.
    """
    path = find(source)
    checkpoint = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    check_form(checkpoint, path)
    if checkpoint.get("format_version", 0) > FORMAT_VERSION:
        raise UserError(
            f"{path} was written by a newer version of the zoo (format {checkpoint['format_version']}, this one reads "
            f"up to {FORMAT_VERSION}); update the zoo."
        )
    return checkpoint


def check_form(checkpoint: dict[str, Any], path: Path) -> None:
    """Raises UserError where what all readers rely on is of another kind than they take it for."""
    weights, version = checkpoint["state_dict"], checkpoint.get("format_version", 0)
    if not isinstance(version, int):
        raise UserError(f"{path} was refused: its format_version {version!r} is no number.")
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise UserError(f"{path} was refused: its state_dict is no table of tensors by their names.")
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{path} was refused: {name} in its state_dict is a {type(value).__name__}, not a tensor.")


def _read_torch(path: Path) -> dict[str, Any]:
    if not _is_of_old_torch(path):  # it has no checksums to look at
        _check_archive(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} was refused: it is no whole checkpoint of tensors and plain containers; all else may run code."
        ) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path} holds a {type(checkpoint).__name__}, not a checkpoint.")
    if "state_dict" not in checkpoint:
        if not checkpoint or not all(isinstance(value, Tensor) for value in checkpoint.values()):
            raise UserError(f"{path} holds no weights: there is neither a state_dict nor a plain table of tensors.")
        checkpoint = {"state_dict": checkpoint} | torchvision_weights.described(path)
    return checkpoint


def _is_of_old_torch(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(OLD_TORCH)) == OLD_TORCH


def _check_archive(path: Path) -> None:
    """Raises UserError where a checkpoint is not what was written.

    torch does not look at the checksums inside the file; a flipped byte would load as a wrong weight.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path} is no checkpoint, or it was cut off while it was written or copied.")
        with zipfile.ZipFile(path) as archive:
            folders = [entry.filename for entry in archive.infolist() if entry.external_attr & 0x10]  # torch skips them
            damaged = folders[0] if folders else archive.testzip()
    except UserError:
        raise
    except Exception as error:  # zipfile takes what is damaged for encrypted, for another compression, for a new format
        raise UserError(f"The checkpoint {path} is damaged ({error}); use an older one.") from error
    if damaged is not None:
        raise UserError(f"The checkpoint {path} is damaged (in {damaged}); use an older one.")


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        extras = {key: json.loads(value) for key, value in metadata.items() if key in BESIDE_WEIGHTS}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is no readable .safetensors file ({error}).") from error
    return {"state_dict": weights, **extras}


def model_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The network's own tensors by their plain names, whatever wrapped it while it was trained."""
    weights = {name.replace("_orig_mod.", ""): value for name, value in checkpoint["state_dict"].items()}
    if any(name.startswith("model.") for name in weights) and "config" in checkpoint:
        weights = {name.removeprefix("model."): v for name, v in weights.items() if name.startswith("model.")}
    if weights and all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
    return merged(weights)


def check_targets(config: Any, allow: Iterable[str] = (), where: str = "model") -> None:
    """Raises UserError unless every `_target_` in the configuration, at any depth, may be called."""
    allow = tuple(allow)
    if isinstance(config, dict):
        for key, value in config.items():
            if str(key).startswith("_") and key not in ("_target_", "_partial_", "_convert_", "_recursive_", "_args_"):
                raise UserError(f"The checkpoint's configuration was refused: {where} has the key '{key}'.")
            if key == "_target_":
                _check_target(value, allow, where)
            check_targets(value, allow, f"{where}.{key}")
    elif isinstance(config, (list, tuple)):
        for i, value in enumerate(config):
            check_targets(value, allow, f"{where}[{i}]")
    elif isinstance(config, str) and "${" in config:
        raise UserError(f"The checkpoint's configuration was refused: {where} holds an unresolved reference.")


def _check_target(target: Any, allow: tuple[str, ...], where: str) -> None:
    name = str(target)
    plain = all(part.isidentifier() for part in name.split("."))
    packages = tuple(entry for entry in allow if entry.endswith("."))
    if plain and (name in ALLOWED_EXACTLY or name in allow):
        return
    if plain and name.startswith(ALLOWED + packages) and _is_defined_in(name, packages):
        return
    package = name.split(".")[0]
    advice = "" if package == "zoo" else (
        f" If you trust it, allow it by name: allow={package}. for a script, load_model(..., allow=['{package}.'])."
    )  # fmt: skip
    raise UserError(f"The checkpoint's configuration was refused: {where} would call '{name}'.{advice}")


def _is_defined_in(name: str, packages: tuple[str, ...]) -> bool:
    """Whether `name` is a class of the zoo, a function of its pure rooms, or anything that `packages` define.

    What a module has merely imported does not count. Raises UserError where there is no such module or name.
    """
    module, _, attribute = name.rpartition(".")
    try:
        found = vars(importlib.import_module(module)).get(attribute)
    except ModuleNotFoundError as error:
        if "is not a package" in str(error):
            return False
        raise UserError(f"The checkpoint needs '{name}', and there is no {error.name}; start where it lies.") from error
    except Exception as error:  # whatever the user's own module does when it is imported
        if name.startswith("zoo."):
            raise  # a bug of ours
        raise UserError(f"The checkpoint needs '{name}', which cannot be imported: {error}.") from error
    if found is None:
        raise UserError(f"The checkpoint needs '{name}', which is not there; was it written by another version?")
    home = str(getattr(found, "__module__", ""))
    if packages and f"{home}.".startswith(packages):
        return inspect.isclass(found) or inspect.isfunction(found)
    return (inspect.isclass(found) and home.startswith(ALLOWED)) or (
        inspect.isfunction(found) and f"{home}.".startswith(PURE)
    )


def load_model(source: str | Path, allow: Sequence[str] = ()) -> nn.Module:
    """The network of a checkpoint, on the CPU, in evaluation mode, with its weights.

    Args:
        source: run folder (its best), .ckpt or .safetensors file.
        allow: names that its configuration may call besides the zoo's own: a class, or a package with a dot at its end.
    """
    path = find(source)
    return build_model(read(path), path, allow)


def build_model(checkpoint: dict[str, Any], path: Path, allow: Sequence[str] = ()) -> nn.Module:
    """The network of a checkpoint that was read from `path`; see `load_model`."""
    config = checkpoint.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise UserError(
            f"{path} does not say which model it belongs to; build the model and use pretrained= on train.py."
        )
    check_targets(config["model"], allow)
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    check_sizes(config["model"], model_weights(checkpoint), path)
    try:
        model = instantiate(config["model"], _convert_="all")
    except InstantiationException as error:
        raise UserError(f"The model of {path} cannot be built: {str(error).splitlines()[0]}") from error
    if not isinstance(model, nn.Module):
        raise UserError(f"The model of {path} cannot be built: its configuration gives a {type(model).__name__}.")
    use_dropout(model, (config.get("regularizer") or {}).get("dropout", "inverted"))
    try:
        model.load_state_dict(model_weights(checkpoint))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"The weights of {path} do not fit its model: {first}") from error
    if (config.get("trainer") or {}).get("channels_last"):  # as it was trained, to the bit
        model.to(memory_format=torch.channels_last)
    return model.eval()


def check_sizes(config: dict[str, Any], weights: dict[str, Tensor], path: Path) -> None:
    """Raises UserError where a network of the zoo has other tensors than the checkpoint, before memory is taken for it.

    A network that cannot be built without memory is left to `build_model`, and so is one of the user's own.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if not str(config.get("_target_")).startswith(ALLOWED):
        return
    try:
        with torch.device("meta"):
            model = instantiate(config, _convert_="all")
    except InstantiationException:
        return
    if isinstance(model, nn.Module):
        expected, found = (
            {name: tuple(x.shape) for name, x in state.items()} for state in (model.state_dict(), weights)
        )
        differs = [name for name in [*expected, *found] if expected.get(name) != found.get(name)]
        if differs:
            ours, theirs = (table.get(differs[0], "not there") for table in (expected, found))
            raise UserError(
                f"The weights of {path} do not fit its model: {differs[0]} is {ours} there, and {theirs} in the file."
            )


def find_resume(source: str) -> tuple[Path, dict[str, Any], list[str]]:
    """The newest checkpoint of a run folder that is whole (or the one that is named), its contents, and notes.

    Raises:
        UserError: there is none, or none that is whole.
    """
    path = Path(source).expanduser()
    if not path.is_dir():
        return find(path), read(path), []
    notes: list[str] = []
    for candidate in newest_first(path):
        try:
            checkpoint = read(candidate)
        except UserError as error:
            notes.append(str(error))
            continue
        return candidate, checkpoint, [*notes, *([f"{candidate} is used instead."] if notes else [])]
    if notes:
        raise UserError(f"No checkpoint in {path} is whole: {notes[0]}")
    raise UserError(f"There is no checkpoint in {path}; a run folder holds checkpoints/best.ckpt or last.ckpt.")


def newest_first(folder: Path) -> list[Path]:
    """What a run can be resumed from: last.ckpt, then the older ones, at last the best."""
    place = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    steps = {path: path.stem.rpartition("=")[2] for path in place.glob("epoch=*-step=*.ckpt")}
    older = {int(step): path for path, step in steps.items() if step.isdigit()}
    found = [place / "last.ckpt", *(older[step] for step in sorted(older, reverse=True)), place / "best.ckpt"]
    return [path for path in found if path.is_file()]


def check_resume(
    path: Path, checkpoint: dict[str, Any], task: nn.Module, fingerprint: str, classes: Sequence[str]
) -> int:
    """The iterations that the checkpoint has behind it. Raises UserError where this task cannot go on with it.

    Args:
        fingerprint, classes: of the data as it is now.
    """
    check_whole_state(path, checkpoint)
    states = (task.state_dict(), checkpoint["state_dict"])
    ours, theirs = ({name: tuple(x.shape) for name, x in state.items()} for state in states)
    if ours != theirs:
        differs = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        raise UserError(
            f"{path} is of another model ({differs[0]} differs, for instance); resume with the options that it was "
            "trained with, or start from its weights with pretrained=."
        )
    if fingerprint != checkpoint.get("data_fingerprint", fingerprint) or list(classes) != checkpoint["classes"]:
        raise UserError(
            f"The data has changed since {path} was written; bring back the data of that run, or start a new run from "
            f"its weights with pretrained={path}."
        )
    return int(checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"])


def check_whole_state(path: Path, checkpoint: dict[str, Any]) -> None:
    """Raises UserError for weights alone, and for the checkpoints of a version that kept too little."""
    if "loops" not in checkpoint:
        raise UserError(f"{path} holds weights alone, which do not say where training stopped; use pretrained={path}.")
    if checkpoint.get("format_version", 0) < RESUMABLE_VERSION:
        raise UserError(
            f"{path} was written by an older version of the zoo, which did not keep all that an exact resume needs; "
            f"start a new run from its weights with pretrained={path}."
        )


def training_config(path: Path, checkpoint: dict[str, Any], trusted: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration of the run that wrote a checkpoint, once nothing in it would call what it should not."""
    check_whole_state(path, checkpoint)
    config = checkpoint.get("config")
    if not isinstance(config, dict) or "model" not in config:
        raise UserError(f"{path} does not say how it was trained; start from its weights with pretrained={path}.")
    check_run(config, str(path), trusted)
    return config


def check_run(config: Any, where: str, trusted: Sequence[str] = ()) -> None:
    """Raises UserError unless each `_target_` of a whole run's configuration is something a run is built from.

    That is a class or function of the zoo, or a class of the kinds that a run is made of, wherever it is defined: to
    build a network, an optimizer or a callback runs its constructor, and nothing that a name alone could reach.

    Args:
        trusted: names that the user has typed beside `resume=`; "*" stands for all.
    """
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
    from lightning.pytorch.loggers import Logger
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    kinds = (nn.Module, Optimizer, LRScheduler, Callback, LightningDataModule, LightningModule, Trainer, Logger)
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "_target_" and value is not None and str(value) not in trusted and "*" not in trusted:
                name = str(value)
                own = name.startswith("zoo.") and _is_defined_in(name, ())
                if not own and not issubclass(_class_named(name), kinds):
                    raise UserError(
                        f"The configuration in {where} was refused: it would call '{name}'. If you trust it, type it "
                        f"beside resume=, for instance model._target_={name}."
                    )
            check_run(value, where, trusted)
    elif isinstance(config, (list, tuple)):
        for value in config:
            check_run(value, where, trusted)


def _class_named(name: str) -> type:
    """The class that a dotted name means; `object` where it means something else."""
    module, _, attribute = name.rpartition(".")
    if not all(part.isidentifier() for part in name.split(".")):
        return object
    try:
        found = vars(importlib.import_module(module)).get(attribute)
    except Exception as error:  # whatever the user's own module does when it is imported
        if "is not a package" in str(error):  # a method, or what a module has imported
            return object
        raise UserError(f"'{name}' is needed, and it cannot be imported: {error}.") from error
    return found if inspect.isclass(found) else object
