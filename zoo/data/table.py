"""Tables: rows of numbers and text become a matrix of floats, and the tables that ship with scikit-learn.

Columns of numbers are standardized, columns of text become one-hot. All that this needs (means, values, classes) is
taken from the training part alone and kept as plain containers, so that new rows are prepared in the same way.

Axes: N rows, F features after encoding, V values of a text column, K classes
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.batches import TableBatch
from zoo.data.base import PARTS, DataModule, InMemory, Loaded, split_indices
from zoo.errors import UserError

Cell = str | float | None
MISSING = frozenset({"", "?", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "NULL", "Null", "null", "None"})
NO_VALUE = "(missing)"  # the category of empty cells in a text column
TOO_LARGE = 3e38  # about the largest float32


def is_missing(cell: Cell) -> bool:
    return cell is None or str(cell).strip() in MISSING


def number(cell: Cell) -> float | None:
    """The number that a cell spells; None where it is text."""
    if cell is None or (isinstance(cell, str) and "_" in cell):  # Python reads 1_000, tables do not
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return None if math.isnan(value) else value


def class_name(cell: Cell) -> str:
    """One name for each class: `1`, `1.0` and `01` are the same one."""
    value = number(cell)
    if value is None:
        return str(cell).strip()
    return str(int(value)) if value.is_integer() else str(value)


@dataclass(frozen=True)
class Sheet:
    """Columns of cells by name, each with N rows.

    Args:
        columns: the cells of each column.
        rows: number of each row in its file, for messages; 1..N where it is left out.
        source: name of the file, for messages.
    """

    columns: dict[str, list[Cell]]
    rows: list[int] = field(default_factory=list)
    source: str = "The table"

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def at(self, index: int, column: str) -> str:
        """The start of a message about one cell."""
        return f"{self.source}, row {self.rows[index] if self.rows else index + 1}, column {column!r}"

    def take(self, indices: Sequence[int]) -> "Sheet":
        columns = {name: [cells[i] for i in indices] for name, cells in self.columns.items()}
        return Sheet(columns, [self.rows[i] for i in indices] if self.rows else [i + 1 for i in indices], self.source)

    def select(self, names: Sequence[str]) -> "Sheet":
        return Sheet({name: self.columns[name] for name in names}, self.rows, self.source)

    def numbers(self, column: str, *, fill: float | None = None) -> np.ndarray:
        """(N,) float64. Raises UserError at a cell that is no finite number, or empty where there is no `fill`."""
        values = []
        for i, cell in enumerate(self.columns[column]):
            if is_missing(cell):
                values.append(self._filled(i, column, fill))
            elif (value := number(cell)) is None:
                raise UserError(f"{self.at(i, column)}: {cell!r} is not a number; mend it, or leave the column out.")
            elif abs(value) > TOO_LARGE:
                raise UserError(f"{self.at(i, column)}: {cell!r} is infinite or too large; mend it or drop the row.")
            else:
                values.append(value)
        return np.array(values, dtype=np.float64)

    def texts(self, column: str, *, fill: str | None = None) -> list[str]:
        """N stripped texts. Raises UserError at an empty cell where there is no `fill`."""
        cells = enumerate(self.columns[column])
        return [self._filled(i, column, fill) if is_missing(cell) else str(cell).strip() for i, cell in cells]

    def _filled(self, index: int, column: str, fill: Any) -> Any:
        if fill is None:
            raise UserError(
                f"{self.at(index, column)}: the value is missing; fill it in, or train with data.impute=true."
            )
        return fill


def nearly_none(num_strays: int, total: int) -> bool:
    """Whether texts among numbers are so few (under 10 %, or one in 4 cells and more) that they are typing errors."""
    return 10 * num_strays < total or (num_strays == 1 and total >= 4)


def is_number_column(sheet: Sheet, column: str) -> bool:
    """Whether every cell that is not empty spells a number. Raises UserError where nearly all do."""
    cells = sheet.columns[column]
    present = [i for i, cell in enumerate(cells) if not is_missing(cell)]
    strays = [i for i in present if number(cells[i]) is None]
    if strays and nearly_none(len(strays), len(present)):
        sheet.take(strays).numbers(column)  # raises at the first
    return not strays


@dataclass(frozen=True)
class NumberColumn:
    """(value - mean) / std; `fill` stands in for an empty cell, None refuses it."""

    name: str
    mean: float
    std: float
    fill: float | None

    @classmethod
    def fit(cls, sheet: Sheet, name: str, *, impute: bool) -> "NumberColumn":
        present = [number(cell) for cell in sheet.columns[name] if not is_missing(cell)]
        fill = float(np.median(present)) if impute and present else None  # type: ignore[arg-type]
        values = sheet.numbers(name, fill=fill)
        std = float(values.std()) if np.ptp(values) > 0 else 1.0
        return cls(name, float(values.mean()), std, fill)

    @property
    def features(self) -> list[str]:
        return [self.name]

    def encode(self, sheet: Sheet) -> tuple[np.ndarray, list[str]]:
        """(N, 1), and no notes."""
        values = sheet.numbers(self.name, fill=self.fill)
        return ((values - self.mean) / self.std)[:, None], []


@dataclass(frozen=True)
class TextColumn:
    """One-hot over the V `values`; `fill` stands in for an empty cell, None refuses it."""

    name: str
    values: list[str]
    fill: str | None

    @classmethod
    def fit(cls, sheet: Sheet, name: str, *, impute: bool) -> "TextColumn":
        # Empty cells that training has seen are a category of their own; later ones count as the most frequent value.
        counts = Counter(sheet.texts(name, fill=NO_VALUE if impute else None))
        fill = NO_VALUE if NO_VALUE in counts else min(counts, key=lambda value: (-counts[value], value))
        return cls(name, sorted(counts), fill if impute else None)

    @property
    def features(self) -> list[str]:
        return [f"{self.name}={value}" for value in self.values]

    def encode(self, sheet: Sheet) -> tuple[np.ndarray, list[str]]:
        """(N, V), and a note where values are new; their rows are zero."""
        place = {value: i for i, value in enumerate(self.values)}
        texts = sheet.texts(self.name, fill=self.fill)
        table = np.vstack([np.eye(len(place)), np.zeros(len(place))])  # (V + 1, V), the last row for new values
        rows = table[[place.get(text, -1) for text in texts]]
        new = [text for text in texts if text not in place]
        return rows, [f"column {self.name!r} has {len(new)} unseen values, such as {new[0]!r}: zeros."] if new else []


@dataclass(frozen=True)
class TablePreprocessing:
    """How rows become features, and answers become names again.

    Args:
        columns: what is done with each column that the model sees, in the order of the features.
        target: name of the column that is learned.
        task: "multiclass", "binary" or "regression".
        class_names: names of the K classes in the order of their labels; empty for regression.
    """

    columns: list[NumberColumn | TextColumn]
    target: str
    task: str
    class_names: list[str]

    @classmethod
    def fit(cls, train: Sheet, *, target: str, regression: bool, impute: bool = False) -> "TablePreprocessing":
        """Learns from the training part. Raises UserError for a cell that does not fit, and for a single class."""
        columns = [
            (NumberColumn if is_number_column(train, name) else TextColumn).fit(train, name, impute=impute)
            for name in train.columns
            if name != target
        ]
        if regression:
            return cls(columns, target, "regression", [])
        names = {class_name(cell) for cell in train.texts(target)}
        numeric = all(number(name) is not None for name in names)
        class_names = sorted(names, key=lambda name: (number(name) if numeric else 0, name))
        if len(names) < 2:
            raise UserError(f"{train.source}: the target {target!r} has one class, {class_names[0]!r}; it needs two.")
        return cls(columns, target, "binary" if len(names) == 2 else "multiclass", class_names)

    @property
    def features(self) -> list[str]:
        """Names of the F features."""
        return [feature for column in self.columns for feature in column.features]

    def check(self, sheet: Sheet) -> None:
        """Raises UserError where a column that the model sees is not there."""
        absent = [repr(column.name) for column in self.columns if column.name not in sheet.columns]
        if absent:
            raise UserError(
                f"{sheet.source} lacks what the model was trained on: {', '.join(absent)}. It has: "
                f"{', '.join(sheet.columns)}."
            )

    def encode(self, sheet: Sheet) -> tuple[Tensor, list[str]]:
        """Features (N, F) float32, and notes; columns are found by name, others are left alone.

        Raises UserError where a column is not there, or a cell does not fit its column.
        """
        self.check(sheet)
        encoded = [column.encode(sheet) for column in self.columns]
        x = np.concatenate([block for block, _ in encoded], axis=1)  # (N, F)
        return torch.from_numpy(x.astype(np.float32)), [note for _, notes in encoded for note in notes]

    def encode_target(self, sheet: Sheet) -> Tensor:
        """Labels (N,) int64, or for regression values (N, 1) float32.

        Raises UserError where a class is new, a value is missing or is no number.
        """
        if self.task == "regression":
            return torch.from_numpy(sheet.numbers(self.target).astype(np.float32)[:, None])  # (N, 1)
        label = {name: k for k, name in enumerate(self.class_names)}
        names = [class_name(text) for text in sheet.texts(self.target)]
        new = {name: i for i, name in reversed(list(enumerate(names))) if name not in label}
        if new:
            raise UserError(
                f"{sheet.at(min(new.values()), self.target)}: the training part has no class "
                f"{', '.join(map(repr, sorted(new)))}; it has {', '.join(map(repr, self.class_names))}."
            )
        return torch.tensor([label[name] for name in names], dtype=torch.int64)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers; `torch.load(weights_only=True)` reads them."""
        return {"kind": "table", **asdict(self)}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "TablePreprocessing":
        if state.get("kind") != "table":
            raise UserError(f"This model was trained on data of kind '{state.get('kind')}'; give it that, not a table.")
        state = {key: value for key, value in state.items() if key not in ("target_mean", "target_std")}
        columns = [(TextColumn if "values" in column else NumberColumn)(**column) for column in state["columns"]]
        return cls(columns, state["target"], state["task"], state["class_names"])


class Table(DataModule):
    """Base of the tables: subclasses read sheets in `load`, `cut` them into parts and `assemble` these."""

    def cut(
        self, sheet: Sheet, *, target: str, regression: bool, shares: tuple[float, float, float] = (0.7, 0.15, 0.15)
    ) -> dict[str, Sheet]:
        """The parts that have rows, drawn from the seed; every class is cut by the same shares."""
        labels = None if regression else np.array([class_name(cell) for cell in sheet.columns[target]])
        split = split_indices(len(sheet), shares, seed=self.seed, labels=labels)
        return {name: sheet.take(part.tolist()) for name, part in zip(PARTS, split, strict=True) if len(part)}

    def assemble(
        self,
        parts: dict[str, Sheet],
        *,
        target: str,
        regression: bool,
        impute: bool = False,
        notes: Sequence[str] = (),
    ) -> Loaded:
        """Fits the preprocessing to the training part (or takes an earlier run's) and encodes all parts with it."""
        fitted = (
            TablePreprocessing.fit(parts["train"], target=target, regression=regression, impute=impute)
            if self.earlier is None
            else TablePreprocessing.from_dict(self.earlier)
        )
        data, said, digest = {}, list(notes), hashlib.sha256()
        scale: dict[str, list[float]] = {}
        if regression and self.earlier is not None:
            scale = {"target_mean": self.earlier["target_mean"], "target_std": self.earlier["target_std"]}
        elif regression:
            # A net starts with outputs near 0 and of size 1; so do its targets, in units of the training part's spread.
            values = fitted.encode_target(parts["train"]).double()
            spread = values.std(0, correction=0)
            scale = {
                "target_mean": values.mean(0).tolist(),
                "target_std": torch.where(spread > 0, spread, 1.0).tolist(),
            }
        for name, sheet in parts.items():
            x, new = fitted.encode(sheet)  # (N, F)
            y = fitted.encode_target(sheet)  # (N,), or (N, 1) for regression
            if regression:
                mean, std = (torch.tensor(scale[key], dtype=y.dtype) for key in ("target_mean", "target_std"))
                y = (y - mean) / std
            data[name] = InMemory(TableBatch, x, y)
            said += [f"In the {name} part {note}" for note in new]
            digest.update(x.numpy().tobytes() + y.numpy().tobytes())
        said += [f"There are too few rows for a {name} part." for name in PARTS if name not in parts]
        facts: dict[str, Any] = {"kind": fitted.task, "num_features": len(fitted.features)}
        labels = None if regression else data["train"].tensors[1]
        if labels is None:
            facts |= {"num_targets": 1, **scale}
        else:
            facts["num_classes"] = len(fitted.class_names)
            facts["label_counts"] = torch.bincount(labels, minlength=len(fitted.class_names)).tolist()
        return Loaded(
            parts=dict(data),
            facts=facts,
            preprocessing=fitted.to_dict() | scale,
            class_names=fitted.class_names or [target],
            train_labels=labels,
            notes=said,
            fingerprint=digest.hexdigest()[:16],
        )

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

    def load(self) -> Loaded:
        from sklearn.datasets import load_iris

        iris = load_iris()
        species = iris.target_names[iris.target].tolist()
        return self.from_arrays(iris.data, species, names=iris.feature_names, target="species")


class Diabetes(Table):
    """442 patients, 10 measurements; the target is the progression of the disease after one year, 25 to 346."""

    def load(self) -> Loaded:
        from sklearn.datasets import load_diabetes

        # scikit-learn's scaled columns would carry statistics of the test part.
        data = load_diabetes(scaled=False)
        return self.from_arrays(
            data.data, data.target.tolist(), names=data.feature_names, target="progression", regression=True
        )


class BreastCancer(Table):
    """569 tumours, 30 measurements of cell nuclei (Wisconsin); label 0 is benign, 1 malignant."""

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
