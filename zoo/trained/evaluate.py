"""A checkpoint judged again, on the data of its run or on other data, from what the checkpoint itself says.

Inputs and labels are prepared as the run prepared them, so other data is seen with the eyes of the trained model.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from torch import nn

from zoo.batches import PairBatch
from zoo.build import build_task
from zoo.checkpoint import build_model, check_targets, data_dir, find, read
from zoo.config.instantiate import make, named, parameters
from zoo.config.settings import FACTS
from zoo.data.base import PARTS, DataModule, Loader
from zoo.errors import UserError, suggest
from zoo.layers.lora import merged
from zoo.running.trainer import quiet_libraries

PLACES = ("path", "root")  # settings that say where data lies
TRAINER_SETTINGS = ("precision", "deterministic", "limit_test_batches")
LIMIT = "limit_test_batches"
WHOLE = {"fraction": 1.0, "overfit": False}  # what a run has left out of its own data says nothing of another file
SPLIT_SETTINGS = (
    "seed",
    "shares",
    "val_size",
    "fold",
    "folds",
    "leave_out",
    "fraction",
    "overfit",
)  # what decides which samples a part has


@dataclass
class Evaluation:
    """What came out.

    Args:
        metrics: `<part>/<metric>` for the part that was judged.
        title: one line on checkpoint, part and number of samples.
        notes: what the user should know, a line each.
    """

    metrics: dict[str, float]
    title: str
    notes: list[str] = field(default_factory=list)


class Chain:
    """The batches of several loaders, one after another; pairs go on counting from one to the next.

    Args:
        loaders: of the parts.
        sizes: how many pairs each part has as it was read, of which a loader may give a share.
    """

    def __init__(self, loaders: Sequence[Loader], sizes: Sequence[int]) -> None:
        self.loaders, self.sizes = loaders, sizes

    def __len__(self) -> int:
        return sum(map(len, self.loaders))

    def __iter__(self) -> Iterator[Any]:
        before = 0
        for loader, size in zip(self.loaders, self.sizes, strict=True):
            for batch in loader:
                numbered = isinstance(batch, PairBatch) and batch.index is not None
                yield batch._replace(index=batch.index + before) if numbered else batch
            before += size


class Judged(LightningDataModule):
    """Some parts of a data set, one after another, as if they were its test part."""

    def __init__(self, data: DataModule, names: Sequence[str]) -> None:
        super().__init__()
        self.data, self.names = data, names

    def test_dataloader(self) -> Chain:
        has_pairs = hasattr(self.data, "references")
        sizes = [len(self.data.references(name)) if has_pairs else 0 for name in self.names]
        return Chain([self.data.loader(name) for name in self.names], sizes)

    def references(self, part: str) -> list[str]:
        """The targets of all these parts, in the order in which `Chain` counts."""
        return [text for name in self.names for text in self.data.references(name)]

    def __getattr__(self, name: str) -> Any:
        if name == "data":  # before it is there
            raise AttributeError(name)
        return getattr(self.data, name)


def evaluate(
    source: str, part: str | None = None, settings: Mapping[str, Any] | None = None, allow: Sequence[str] = ()
) -> Evaluation:
    """The metrics of a checkpoint, equal to those that its run wrote where data and machine are the same.

    Args:
        source: run folder (its best), or .ckpt.
        part: "train", "val", "test" or "all" (every sample that is read). Left out, it is "test", and "all" where
            `settings` name another file or folder, of which the run has seen nothing.
        settings: changes to the data's own settings, by key; `data` is where it lies, be that a `path` or a `root`.
        allow: see `zoo.checkpoint.load_model`.

    Raises:
        UserError: one line on what is missing, refused or does not fit.
    """
    settings = dict(settings or {})
    path = find(source)
    checkpoint = read(path)
    another = bool({"data", *PLACES} & set(settings))
    part = part or ("all" if another else "test")
    if part not in (*PARTS, "all"):
        raise UserError(f"There is no part '{part}'{suggest(part, (*PARTS, 'all'))}")
    if not isinstance(checkpoint.get("preprocessing"), dict):
        raise UserError(
            f"{path} does not say how its data was prepared; only checkpoints of train.py can be evaluated."
        )
    model = build_model(checkpoint, path, allow)
    config = checkpoint["config"]
    if another:  # is judged as a whole
        config = config | {"trainer": {k: v for k, v in (config.get("trainer") or {}).items() if k != LIMIT}}
    for group in ("data", "task", "optimizer"):
        check_targets(config.get(group), ["torch.optim.", *allow], group)
    quiet_libraries()
    prepare_torch(config)
    data = build_data(checkpoint, settings, part)
    task = rebuild_task(checkpoint, model, data)
    names = [name for name in PARTS if name in data.prepare().parts] if part == "all" else [part]
    num_samples = sum(map(len, map(data.part, names)))  # type: ignore[arg-type]
    metrics = judge(task, Judged(data, names), config)
    named = {f"{part}/{name.removeprefix('test/')}": value for name, value in metrics.items()}
    finished = checkpoint.get("epoch")  # how many; one inside its first epoch has none
    epoch = f" (after epoch {finished})" if isinstance(finished, int) and finished else ""
    title = f"{path}{epoch}, {'all data' if part == 'all' else f'{part} part'}: {num_samples} samples"
    limit, notes = (config.get("trainer") or {}).get(LIMIT), changes(checkpoint, data, settings, part)
    if limit not in (None, 1.0) or (limit == 1 and type(limit) is int):
        notes.insert(0, f"Note: as in the run, trainer.{LIMIT}={limit}: not all of these samples are judged.")
    return Evaluation(named, title, notes)


def prepare_torch(config: Mapping[str, Any]) -> None:
    """Seed and threads of the run; sums come out in another order on another number of threads."""
    threads = (config.get("trainer") or {}).get("num_threads")
    if isinstance(threads, int) and threads > 0:
        torch.set_num_threads(threads)
    seed_everything(int(config.get("seed") or 0), workers=True, verbose=False)


def build_data(
    checkpoint: Mapping[str, Any], settings: Mapping[str, Any], part: str = "test", *, own_labels: bool = True
) -> DataModule:
    """The data of the checkpoint's configuration with `settings` changed, read and prepared as its run did.

    Args:
        own_labels: what the data asks must be what the model answers; False where its answers are not looked at.
    """
    config = checkpoint["config"]["data"]
    settings = dict(settings)
    if "data" in settings:
        key = next((key for key in PLACES if key in config), None)
        if key is None:
            raise UserError(
                "data= names a file or a folder, and this model's data is neither; change data.<key>= of it."
            )
        settings.setdefault(key, settings.pop("data"))
    if part == "all" and "path" in settings and checkpoint["preprocessing"].get("kind") == "series":
        settings.setdefault("shares", [1.0, 0.0, 0.0])  # windows may lie anywhere in it
    own = {key: value for key, value in config.items() if key not in FACTS}
    if "data_dir" in parameters(named(str(own.get("_target_")), "data")):
        own.setdefault("data_dir", str(data_dir()))  # an exported checkpoint knows no places
    keys = [key for key in own if not key.startswith("_")]
    for key in settings:
        if key not in keys:
            raise UserError(f"There is no key 'data.{key}'{suggest(key, keys)}")
    if set(PLACES) & set(settings):
        own |= {key: value for key, value in WHOLE.items() if key in own}
    if "path" in settings and "test_path" in own:
        own["test_path"] = None  # the test file of the run says nothing about another file
    data = make(own | settings, "data")
    if not isinstance(data, DataModule):
        raise UserError(f"The configuration's data is a {type(data).__name__}, not a data set.")
    data.prepare_as(checkpoint["preprocessing"], checkpoint.get("classes") or ())
    found = data.prepare().facts
    for key in (key for key in FACTS if own_labels or key not in ("num_classes", "num_targets")):
        if key in config and key in found and config[key] != found[key]:
            raise UserError(f"The data has {key}={found[key]}, and the model was trained on {key}={config[key]}.")
    known, asked = list(checkpoint.get("classes") or []), list(data.prepare().class_names)
    if own_labels and known and asked != known:
        raise UserError(
            f"The data has {', '.join(asked)}, and the model answers with {', '.join(known)}; fine-tune it on this "
            "data first (train.py pretrained=)."
        )
    return data


def rebuild_task(checkpoint: Mapping[str, Any], model: nn.Module, data: DataModule) -> Any:
    # Nothing is trained, so neither optimizer nor schedule is built.
    task = build_task(checkpoint["config"] | {"optimizer": {}, "scheduler": None}, model, data)
    if any(name.startswith("model.") for name in checkpoint["state_dict"]):
        try:
            task.load_state_dict(merged(checkpoint["state_dict"]))  # a task may have weights beside those of the model
        except RuntimeError as error:
            raise UserError(f"The weights do not fit the task: {str(error).splitlines()[-1].strip()}") from error
    return task


def judge(task: Any, data: Judged, config: Mapping[str, Any]) -> dict[str, float]:
    """Runs the task's test over the data, on the run's kind of device where this machine has one."""
    trainer_config = config.get("trainer") or {}
    settings = {
        key: trainer_config[key] for key in TRAINER_SETTINGS if isinstance(trainer_config.get(key), int | str | float)
    }
    accelerator = "cpu" if trainer_config.get("accelerator") == "cpu" else "auto"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec")
        warnings.filterwarnings("ignore", category=UserWarning, module=r"lightning\..*")
        trainer = Trainer(
            accelerator=accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **settings,
        )
        trainer.test(task, data, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def changes(checkpoint: Mapping[str, Any], data: DataModule, settings: Mapping[str, Any], part: str) -> list[str]:
    """One line where the data is not that of the run, and what the data set itself has to say."""
    notes = list(data.prepare().notes)
    then, now = checkpoint.get("data_fingerprint"), data.prepare().fingerprint
    split = [f"data.{key}" for key in SPLIT_SETTINGS if key in settings]
    if split:
        notes.insert(0, f"Note: {', '.join(split)} cuts other parts than training did; they may hold training samples.")
    elif then and then != now:
        notes.insert(0, f"Note: the data is not what this model was trained on (fingerprint {then} then, {now} now).")
    elif part == "all":
        notes.insert(0, "Note: this is the data of the run itself; most of the samples were trained on.")
    return notes
