"""Tables: rows of numbers and text become a matrix of floats, and the tables that ship with scikit-learn.

Axes: N rows, F features after encoding, K classes, labels or target columns
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.batches import TableBatch
from zoo.data.base import PARTS, DataModule, InMemory, Loaded, lacking, split_indices
from zoo.data.known import far_off, kept
from zoo.data.sheet import Cell, Sheet, class_name
from zoo.data.table_preprocessing import NumberColumn, TablePreprocessing, target_names
from zoo.errors import UserError, listed

UNKNOWN = "those of this one are prepared by themselves, and its first layer knows nothing of them."
SHARES = (0.7, 0.15, 0.15)  # of train, val and test


def label_counts(labels: Tensor, num_classes: int) -> list[int]:
    """Samples of each class, from (N,) class indices; or of each label, from (N, K) of 0 and 1."""
    counts = torch.bincount(labels, minlength=num_classes) if labels.ndim == 1 else labels.sum(0).long()
    return [int(count) for count in counts]


class Table(DataModule):
    """Base of the tables: subclasses read sheets in `load`, `cut` them into parts and `assemble` these."""

    known: dict[str, Any] | None = None  # preprocessing of a pretrained network, of use where the columns are the same

    def adopt(self, preprocessing: dict[str, Any]) -> str:
        """See `DataModule.adopt`; whether the columns are the same is seen, and said, when the table is read."""
        if preprocessing.get("kind") == "table":
            self.known, self.loaded = preprocessing, None
        return ""

    def fitted(
        self, train: Sheet, *, target: str | list[str], regression: bool, impute: bool, notes: list[str]
    ) -> TablePreprocessing:
        """An earlier run's preprocessing, or that of the training part, with a pretrained network's columns."""
        if self.earlier is not None:
            return TablePreprocessing.from_dict(self.earlier)
        if self.known is None:
            return TablePreprocessing.fit(train, target=target, regression=regression, impute=impute)
        known = TablePreprocessing.from_dict(self.known)
        targets = target_names(target)
        seen = self.seen(train.select([name for name in train.columns if name not in targets]))
        if not seen:
            self.known = None
            had = listed([repr(column.name) for column in known.columns])
            notes.append(f"The pretrained network has seen a table with other columns ({had}); {UNKNOWN}")
            return TablePreprocessing.fit(train, target=target, regression=regression, impute=impute)
        own = train.select([*seen, *targets])
        fitted = TablePreprocessing.fit(own, target=target, regression=regression, impute=impute).with_columns_of(known)
        numbers = [column for column in fitted.columns if isinstance(column, NumberColumn)]
        values = [own.numbers(column.name, fill=column.fill) for column in numbers]  # (N,) each
        notes.append(kept("Columns have the order and the scale"))
        notes += far_off((c.name, there, c.mean, c.std) for c, there in zip(numbers, values, strict=True))
        return fitted

    def seen(self, features: Sheet) -> list[str]:
        """Names of a pretrained network's columns, where these are among them and of the same kind; else none."""
        known = None if self.known is None else TablePreprocessing.from_dict(self.known)
        return [column.name for column in known.columns] if known is not None and known.knows(features) else []

    def cut(
        self,
        sheet: Sheet,
        *,
        target: str | list[str],
        regression: bool,
        shares: tuple[float, float, float] = SHARES,
    ) -> dict[str, Sheet]:
        """The parts that have rows, drawn from the seed; every class of a single target is cut by the same shares."""
        labels = None
        if not regression and isinstance(target, str):
            labels = np.array([class_name(cell) for cell in sheet.columns[target]])
        split = split_indices(len(sheet), shares, seed=self.seed, labels=labels)
        return {name: sheet.take(part.tolist()) for name, part in zip(PARTS, split, strict=True) if len(part)}

    def assemble(
        self,
        parts: dict[str, Sheet],
        *,
        target: str | list[str],
        regression: bool,
        impute: bool = False,
        notes: Sequence[str] = (),
        shares: tuple[float, float, float] = SHARES,
    ) -> Loaded:
        """Fits the preprocessing to the training part (or takes an earlier run's) and encodes all parts with it."""
        data, said, digest = {}, list(notes), hashlib.sha256()
        fitted = self.fitted(parts["train"], target=target, regression=regression, impute=impute, notes=said)
        scale = self.scale(fitted, parts["train"]) if regression else {}
        for name, sheet in parts.items():
            x, new = fitted.encode(sheet)  # (N, F)
            y = fitted.encode_target(sheet)  # (N,), or (N, K) for several labels and for regression
            if regression:
                mean, std = (torch.tensor(scale[key], dtype=y.dtype) for key in ("target_mean", "target_std"))
                y = (y - mean) / std
            data[name] = InMemory(TableBatch, x, y)
            said += [f"In the {name} part {note}" for note in new]
            digest.update(x.numpy().tobytes() + y.numpy().tobytes())
        said += lacking(parts, shares)
        facts: dict[str, Any] = {"kind": fitted.task, "num_features": len(fitted.features)}
        if regression:
            facts |= {"num_targets": len(fitted.targets), **scale}
        else:
            facts["num_classes"] = len(fitted.class_names)
            facts["label_counts"] = label_counts(data["train"].tensors[1], len(fitted.class_names))
        return Loaded(
            parts=dict(data),
            facts=facts,
            preprocessing=fitted.to_dict() | scale,
            class_names=fitted.class_names or fitted.targets,
            train_labels=data["train"].tensors[1] if fitted.task in ("multiclass", "binary") else None,
            notes=said,
            fingerprint=digest.hexdigest()[:16],
            names={name: [f"row {row}" for row in sheet.rows] for name, sheet in parts.items() if sheet.rows},
        )

    def scale(self, fitted: TablePreprocessing, train: Sheet) -> dict[str, list[float]]:
        """Mean and deviation of each of K real-valued targets, by which they are standardized."""
        earlier = self.earlier
        if earlier is None and self.known is not None and self.known.get("target") == fitted.target:
            earlier = self.known  # the same answers: the output layer speaks in their scale
        if earlier is not None and "target_mean" in earlier:
            return {"target_mean": earlier["target_mean"], "target_std": earlier["target_std"]}
        # A net starts with outputs near 0 and of size 1; so do its targets, in units of the training part's spread.
        values = fitted.encode_target(train).double()  # (N, K)
        spread = values.std(0, correction=0)  # (K,)
        return {
            "target_mean": values.mean(0).tolist(),
            "target_std": torch.where(spread > 0, spread, 1.0).tolist(),
        }

    def _cut(self, loaded: Loaded) -> None:
        super()._cut(loaded)
        if loaded.facts["kind"] == "multilabel":
            labels = loaded.parts["train"].tensors[1]  # type: ignore[attr-defined]
            loaded.facts["label_counts"] = label_counts(labels, loaded.facts["num_classes"])

    def from_arrays(
        self, x: np.ndarray, y: Sequence[Cell], *, names: Sequence[str], target: str, regression: bool = False
    ) -> Loaded:
        """A whole table from (N, F) measurements and N answers, cut 70/15/15."""
        columns = {name: x[:, i].tolist() for i, name in enumerate(names)}
        sheet = Sheet({**columns, target: list(y)}, source=type(self).__name__)
        parts = self.cut(sheet, target=target, regression=regression)
        return self.assemble(parts, target=target, regression=regression)


class Iris(Table):
    """150 flowers, 4 measurements in cm, 3 species (Fisher 1936)."""

    imports = ("sklearn.datasets",)

    def load(self) -> Loaded:
        from sklearn.datasets import load_iris

        iris = load_iris()
        species = iris.target_names[iris.target].tolist()
        return self.from_arrays(iris.data, species, names=iris.feature_names, target="species")


class Diabetes(Table):
    """442 patients, 10 measurements; the target is the progression of the disease after one year, 25 to 346."""

    imports = ("sklearn.datasets",)

    def load(self) -> Loaded:
        from sklearn.datasets import load_diabetes

        # scikit-learn's scaled columns would carry statistics of the test part.
        data = load_diabetes(scaled=False)
        return self.from_arrays(
            data.data, data.target.tolist(), names=data.feature_names, target="progression", regression=True
        )


class BreastCancer(Table):
    """569 tumours, 30 measurements of cell nuclei (Wisconsin); label 0 is benign, 1 malignant."""

    imports = ("sklearn.datasets",)

    def load(self) -> Loaded:
        from sklearn.datasets import load_breast_cancer

        data = load_breast_cancer()
        diagnosis = data.target_names[data.target].tolist()
        return self.from_arrays(data.data, diagnosis, names=data.feature_names.tolist(), target="diagnosis")


class Xor(Table):
    """The corners (0,0), (0,1), (1,0), (1,1) in turn, with Gaussian noise; the label is their exclusive or.

    Args:
        num_samples: N over the three parts, at least 8.
        noise: standard deviation around each corner.
    """

    def __init__(
        self,
        *,
        num_samples: int = 400,
        noise: float = 0.1,
        batch_size: int | str = 64,
        eval_batch_size: int = 512,
        seed: int = 0,
        fraction: float = 1.0,
        num_workers: int = 0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            fraction=fraction,
            num_workers=num_workers,
            overfit=overfit,
        )
        if num_samples < 8 or noise < 0:
            raise UserError(
                f"data.num_samples={num_samples} must be at least 8, and data.noise={noise} must not be negative."
            )
        self.num_samples, self.noise = num_samples, noise

    def load(self) -> Loaded:
        corner = np.arange(self.num_samples) % 4
        bits = np.stack([corner // 2, corner % 2], axis=1)  # (N, 2)
        x = bits + self.noise * np.random.default_rng(self.seed).standard_normal(bits.shape)
        return self.from_arrays(x, (bits[:, 0] ^ bits[:, 1]).tolist(), names=["a", "b"], target="a xor b")
