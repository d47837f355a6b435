"""What a trained model is for, and which script uses it: for whoever gives a checkpoint to another one."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import UserError

PAIRS, CAPTIONS, WRITING = ("sequence", "pairs"), ("sequence", "captions"), ("next_step", "running_text")
TEXT, PHOTO, ROWS = (
    'predict.py {ckpt} text="..."',
    "predict.py {ckpt} input=photo.png",
    "predict.py {ckpt} input=rows.csv",
)
# (head of the task, kind of the data): what such a model does, and what is typed to have it do so.
USES = {
    PAIRS: ("turns a text into another", 'translate.py {ckpt} input="..."', "generate.py {ckpt} interactive=true"),
    CAPTIONS: ("says what an image shows", "translate.py {ckpt} input=photo.png"),
    WRITING: ("goes on with a text", 'generate.py {ckpt} prompt="..."', "generate.py {ckpt} interactive=true"),
    ("classifier", "text"): ("answers to a text", TEXT),
    ("regressor", "text"): ("answers to a text", TEXT),
    ("classifier", "image"): ("answers to an image", PHOTO),
    ("segmenter", "image"): ("says what each pixel shows", PHOTO),
    ("detector", "image"): ("draws boxes around things", PHOTO),
    ("classifier", "table"): ("answers to rows of a table", ROWS),
    ("regressor", "table"): ("answers to rows of a table", ROWS),
    ("forecaster", "series"): ("forecasts a series", "predict.py {ckpt} input=series.csv"),
    ("reconstruction", "image"): ("makes codes of images", "codes.py {ckpt}"),
    ("reconstruction", "table"): ("makes codes of rows", "codes.py {ckpt}"),
    ("vector", "image"): ("tells classes apart by a few examples", "few_shot.py {ckpt}"),
    ("vector", "table"): ("tells classes apart by a few examples", "few_shot.py {ckpt}"),
    ("nearby", "running_text"): ("knows which words are alike", "neighbours.py {ckpt} word=..."),
}
GENERATIVE = ("Variational", "Adversarial", "ContrastiveDivergence")  # tasks


def purpose(checkpoint: Mapping[str, Any]) -> tuple[str, str]:
    """(head of its task, kind of its data) of a checkpoint; an empty text where it does not say."""
    task, preprocessing = task_of(checkpoint), checkpoint.get("preprocessing")
    kind = preprocessing.get("kind") if isinstance(preprocessing, dict) else None
    return str(task.get("head") or ""), str(kind or "")


def task_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of its task; {} where it has none."""
    config = checkpoint.get("config")
    task = config.get("task") if isinstance(config, dict) else None
    return task if isinstance(task, dict) else {}


def makes_samples(checkpoint: Mapping[str, Any]) -> bool:
    """Whether its model has learnt to make new images or rows."""
    return str(task_of(checkpoint).get("_target_")).rpartition(".")[2] in GENERATIVE


def misplaced(path: Path, checkpoint: Mapping[str, Any], lacks: str, train: str) -> UserError:
    """What to say of a checkpoint that a script has no use for.

    Args:
        lacks: what its model does not do, as in "goes on with no text".
        train: the command that trains one that would do.
    """
    head, kind = purpose(checkpoint)
    name = str(task_of(checkpoint).get("_target_") or "no task").rpartition(".")[2]
    start = f"{path} was trained by {name}{f' on {kind}' if kind else ''}, and {lacks}"
    if makes_samples(checkpoint):
        typed = f"python scripts/generate.py ckpt={shlex.quote(str(path))} n=64 out=samples.png"
        return UserError(f"{start}. It makes new samples: {typed}. A model for this script: {train}.")
    if (head, kind) not in USES:
        return UserError(f"{start}; train a model that does first, for instance {train}.")
    does, *commands = USES[head, kind]
    ckpt = f"ckpt={shlex.quote(str(path))}"
    typed = " or ".join(f"python scripts/{command.format(ckpt=ckpt)}" for command in commands)
    return UserError(f"{start}. It {does}: {typed}. A model for this script: {train}.")
