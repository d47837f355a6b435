"""Features that a trained network has made of samples, from a .npz file that `scripts/predict.py features=` wrote.

    features (N, F) float32        names (N,) text        kind: multiclass, binary, multilabel or regression
    label    (N,) int64, or (N, K) float32 of several labels and of quantities in their own units
    classes  (K,) text: names of classes, labels or quantities        split (N,) text: train, val or test

`label`, `kind` and `classes` are left out where nothing is known of the samples, `split` where they are of one heap.
Nothing in the file is ever unpickled.

Axes: N samples, F features, K classes, labels or quantities
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo.batches import TableBatch
from zoo.data.base import PARTS, DataModule, InMemory, Loaded, checked_shares, split_indices
from zoo.data.known import kept
from zoo.data.table import label_counts
from zoo.errors import UserError

KIND = "features"  # of preprocessing
KINDS = ("multiclass", "binary", "multilabel", "regression")
MADE_BY = "python scripts/predict.py ckpt=... features=out.npz writes one"


class Stored(NamedTuple):
    """What a file holds; see its top for the axes. `label` is None where nothing is known of the samples."""

    features: Tensor
    names: list[str]
    label: Tensor | None = None
    classes: list[str] = []  # noqa: RUF012 - a tuple's default, never changed
    kind: str = ""
    split: np.ndarray | None = None


def read_features(path: str | Path) -> Stored:
    """A file of features. Raises UserError where it is missing, damaged, pickled, or does not fit together."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"There is no file {path}; {MADE_BY}.")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in Stored._fields if name in file.files}
    except Exception as error:  # zipfile, zlib, the header's parser and whoever finds that no memory suffices
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path} was refused: it is no whole .npz file of plain arrays ({reason}); {MADE_BY}."
        ) from error
    features, names = arrays.get("features"), arrays.get("names")
    if features is None or features.ndim != 2 or features.dtype.kind != "f" or not features.size:
        raise UserError(f"{path} has no array 'features' of N rows and F numbers; {MADE_BY}.")
    if not np.isfinite(features).all():
        raise UserError(f"{path} has features that are no finite numbers; make it again from a network that works.")
    names = np.arange(1, len(features) + 1).astype(str) if names is None else names
    for name, array in {"names": names, "split": arrays.get("split")}.items():
        if array is not None and (array.dtype.kind != "U" or array.shape != features.shape[:1]):
            raise UserError(f"'{name}' in {path} is not one text for each of {len(features)} rows; {MADE_BY}.")
    if "split" in arrays and not set(arrays["split"].tolist()) <= set(PARTS):
        raise UserError(f"'split' in {path} may say {', '.join(PARTS)}, and says something else.")
    stored = Stored(torch.from_numpy(features.astype(np.float32)), names.tolist(), split=arrays.get("split"))
    return stored._replace(**labels(path, arrays)) if "label" in arrays else stored


def labels(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """label, classes and kind of a file. Raises UserError where they do not fit together."""
    label, kind, number = arrays["label"], str(arrays.get("kind")), len(arrays["features"])
    classes = [str(name) for name in arrays["classes"].ravel()] if "classes" in arrays else []
    of_classes = kind in ("multiclass", "binary")
    shape = (number,) if of_classes else (number, len(classes))
    fits = label.shape == shape and label.dtype.kind == ("i" if of_classes else "f") and len(classes) > 0
    if kind not in KINDS or not fits or not np.isfinite(label).all():
        raise UserError(f"'label', 'kind' and 'classes' in {path} do not fit {number} rows of features; {MADE_BY}.")
    if of_classes and not set(label.tolist()) <= set(range(len(classes))):
        raise UserError(f"'label' in {path} has numbers for which there is no name in 'classes'; {MADE_BY}.")
    values = torch.from_numpy(label.astype(np.int64 if of_classes else np.float32))
    return {"label": values, "classes": classes, "kind": kind}


def fitted(x: Tensor, standardize: bool) -> dict[str, list[float]]:
    """Mean and deviation of each of F features (N, F), by which they are standardized; 0 and 1 change nothing."""
    if not standardize:
        return {"mean": [0.0] * x.shape[1], "std": [1.0] * x.shape[1]}
    spread = x.double().std(0, correction=0)  # (F,)
    return {
        "mean": x.double().mean(0).tolist(),
        "std": torch.where(spread > 1e-6, spread, 1.0).tolist(),  # a unit that never wakes
    }


def prepared(x: Tensor, preprocessing: dict[str, Any], path: str | Path) -> Tensor:
    """(N, F), standardized as `preprocessing` says. Raises UserError where F is another number."""
    mean, std = (torch.tensor(preprocessing[key], dtype=x.dtype) for key in ("mean", "std"))
    if x.shape[1] != len(mean):
        raise UserError(
            f"{path} has {x.shape[1]} features a sample, and the model was trained on {len(mean)}; make it with the "
            "same network."
        )
    return (x - mean) / std


class Features(DataModule):
    """Features (F,) with the labels that lie beside them.

    Args:
        path: the .npz file.
        shares: of train, val and test, where the file does not say which sample is of which part.
        standardize: each feature to mean 0 and deviation 1 of the training part; False leaves them as they are.
        batch_size, eval_batch_size, seed, fraction, overfit: see `DataModule`.
    """

    def __init__(
        self, *, path: str, shares: Sequence[float] = (0.7, 0.15, 0.15), standardize: bool = True, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.path, self.standardize = path, standardize
        self.shares = checked_shares(shares)

    known: dict[str, Any] | None = None  # preprocessing of a pretrained network, of use where features are as many

    def adopt(self, preprocessing: dict[str, Any]) -> str:
        """See `DataModule.adopt`; whether features are as many is seen, and said, when the file is read."""
        if preprocessing.get("kind") == KIND and self.standardize:
            self.known, self.loaded = preprocessing, None
        return ""

    def load(self) -> Loaded:
        stored = self.relabelled(read_features(self.path))
        label = stored.label
        if label is None:
            raise UserError(
                f"{self.path} has features without labels, from which nothing can be learned; make it of images in a "
                "folder for each class, of a table with its target, or of the data of a run."
            )
        split = self.split(stored.split, label)
        if "train" not in split:
            raise UserError(f"{self.path} has no sample for a training part; add some or change data.shares.")
        train, scale = split["train"], self.scale(stored.kind, label[split["train"]])
        preprocessing = self.earlier or {"kind": KIND, **fitted(stored.features[train], self.standardize)}
        notes = []
        if self.earlier is None and self.known and len(self.known["mean"]) == stored.features.shape[1]:
            preprocessing |= {key: self.known[key] for key in ("mean", "std")}
            notes.append(kept("Features have the scale"))
        x = prepared(stored.features, preprocessing, self.path)  # (N, F)
        if scale:
            label = (label - torch.tensor(scale["target_mean"])) / torch.tensor(scale["target_std"])
            sizes: dict[str, Any] = {"num_targets": len(stored.classes), **scale}
        else:
            number = len(stored.classes)
            sizes = {"num_classes": number, "label_counts": label_counts(label[train], number)}
        whole = InMemory(TableBatch, x, label)
        return Loaded(
            parts={name: whole.take(indices) for name, indices in split.items()},
            facts={"kind": stored.kind, "num_features": x.shape[1]} | sizes,
            preprocessing=preprocessing | scale,
            class_names=stored.classes,
            notes=notes,
            train_labels=label[train] if stored.kind in ("multiclass", "binary") else None,
            names={name: [stored.names[i] for i in indices.tolist()] for name, indices in split.items()},
            fingerprint=hashlib.sha256(stored.features.numpy().tobytes() + label.numpy().tobytes()).hexdigest()[:16],
        )

    def scale(self, kind: str, train: Tensor) -> dict[str, list[float]]:
        """Mean and deviation by which quantities (N, K) are standardized; empty for classes."""
        if kind != "regression":
            return {}
        found = {f"target_{key}": values for key, values in fitted(train, True).items()}
        return {key: (self.earlier or found)[key] for key in found}

    def relabelled(self, stored: Stored) -> Stored:
        """With the numbers that an earlier run gave its classes. Raises UserError where one is new."""
        if stored.label is None or not self.earlier_classes or stored.classes == self.earlier_classes:
            return stored
        new = [name for name in stored.classes if name not in self.earlier_classes]
        if new or stored.kind not in ("multiclass", "binary"):
            raise UserError(
                f"{self.path} has {', '.join(new or stored.classes)}, and the model was trained on "
                f"{', '.join(self.earlier_classes)}."
            )
        places = torch.tensor([self.earlier_classes.index(name) for name in stored.classes])
        return stored._replace(label=places[stored.label], classes=self.earlier_classes)

    def split(self, told: np.ndarray | None, label: Tensor) -> dict[str, Tensor]:
        """Indices of each part that has samples, from the file or by the seed, then each class alike."""
        if told is not None:
            found = {name: torch.from_numpy(np.flatnonzero(told == name)) for name in PARTS}
        else:
            known = label.numpy() if label.ndim == 1 else None
            found = split_indices(len(label), self.shares, seed=self.seed, labels=known)._asdict()
        return {name: indices for name, indices in found.items() if len(indices)}
