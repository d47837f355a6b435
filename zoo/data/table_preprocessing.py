"""How the columns of a table become numbers, and answers become names again.

Columns of numbers are standardized, columns of text become one-hot. All that this needs (means, values, classes) is
taken from the training part alone and kept as plain containers, so that new rows are prepared in the same way.

Axes: N rows, F features after encoding, V values of a text column, K classes, labels or target columns
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.sheet import Sheet, class_name, is_missing, is_number_column, number
from zoo.errors import UserError

NO_VALUE = "(missing)"  # the category of empty cells in a text column


@dataclass(frozen=True)
class NumberColumn:
    """(value - mean) / std; `fill` stands in for an empty cell, None refuses it; `comma`: the file writes 3,5."""

    name: str
    mean: float
    std: float
    fill: float | None
    comma: bool = False

    @classmethod
    def fit(cls, sheet: Sheet, name: str, *, impute: bool) -> "NumberColumn":
        present = [number(cell) for cell in sheet.columns[name] if not is_missing(cell)]
        fill = float(np.median(present)) if impute and present else None  # type: ignore[arg-type]
        values = sheet.numbers(name, fill=fill)
        std = float(values.std()) if np.ptp(values) > 0 else 1.0
        return cls(name, float(values.mean()), std, fill, name in sheet.commas)

    def knows(self, sheet: Sheet) -> bool:
        """Whether the column of a sheet is of this kind."""
        return is_number_column(sheet, self.name)

    def completed(self, own: "NumberColumn | TextColumn") -> "NumberColumn":
        """With what the same column of another table has besides: what stands in for empty cells, decimal commas."""
        if not isinstance(own, NumberColumn):
            return self
        return replace(self, fill=own.fill if self.fill is None else self.fill, comma=self.comma or own.comma)

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

    def knows(self, sheet: Sheet) -> bool:
        """Whether the column of a sheet has a value that is known."""
        return not set(self.values).isdisjoint(sheet.texts(self.name, fill=NO_VALUE))

    def completed(self, own: "NumberColumn | TextColumn") -> "TextColumn":
        """With what stands in for empty cells of the same column of another table; a new value is all 0."""
        return replace(self, fill=own.fill) if self.fill is None and isinstance(own, TextColumn) else self

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


def target_names(target: str | Sequence[str]) -> list[str]:
    return [target] if isinstance(target, str) else list(target)


@dataclass(frozen=True)
class TablePreprocessing:
    """How rows become features, and answers become names again.

    Args:
        columns: what is done with each column that the model sees, in the order of the features.
        target: name of the column that is learned, or the names of several.
        task: "multiclass", "binary", "multilabel" (several columns of 0 and 1) or "regression".
        class_names: names of the K classes in the order of their labels, or of the K labels; empty for regression.
    """

    columns: list[NumberColumn | TextColumn]
    target: str | list[str]
    task: str
    class_names: list[str]

    @classmethod
    def fit(
        cls, train: Sheet, *, target: str | Sequence[str], regression: bool, impute: bool = False
    ) -> "TablePreprocessing":
        """Learns from the training part. Raises UserError for a cell that does not fit, and for a single class.

        Several targets that are no regression are labels, each 0 or 1 in every row.
        """
        targets = target_names(target)
        columns = [
            (NumberColumn if is_number_column(train, name) else TextColumn).fit(train, name, impute=impute)
            for name in train.columns
            if name not in targets
        ]
        if len(targets) > 1:
            return cls(columns, targets, "regression", []) if regression else cls.fit_labels(train, columns, targets)
        (target,) = targets
        if regression:
            return cls(columns, target, "regression", [])
        names = {class_name(cell) for cell in train.texts(target)}
        numeric = all(number(name) is not None for name in names)
        class_names = sorted(names, key=lambda name: (number(name) if numeric else 0, name))
        if len(names) < 2:
            raise UserError(f"{train.source}: the target {target!r} has one class, {class_names[0]!r}; it needs two.")
        return cls(columns, target, "binary" if len(names) == 2 else "multiclass", class_names)

    @classmethod
    def fit_labels(
        cls, train: Sheet, columns: list[NumberColumn | TextColumn], targets: list[str]
    ) -> "TablePreprocessing":
        """For K labels. Raises UserError for one that is the same in every row, since nothing can be learned of it."""
        for name in targets:
            values = train.flags(name)
            if np.ptp(values) == 0:
                raise UserError(
                    f"{train.source}: the target {name!r} is {values[0]:.0f} in every row of the training part; it "
                    "needs 0 and 1, or leave it out of data.target."
                )
        return cls(columns, targets, "multilabel", targets)

    @property
    def targets(self) -> list[str]:
        """Names of the columns that are learned, one or several."""
        return target_names(self.target)

    @property
    def features(self) -> list[str]:
        """Names of the F features."""
        return [feature for column in self.columns for feature in column.features]

    @property
    def commas(self) -> frozenset[str]:
        """Names of the columns that had decimal commas in the file of training."""
        return frozenset(column.name for column in self.columns if isinstance(column, NumberColumn) and column.comma)

    def knows(self, sheet: Sheet) -> bool:
        """Whether a sheet has all columns of the features, and each is of the kind that it was."""
        return all(column.name in sheet.columns and column.knows(sheet) for column in self.columns)

    def with_columns_of(self, earlier: "TablePreprocessing") -> "TablePreprocessing":
        """Features as another network has them, in its order and scale; the answers are one's own."""
        own = {column.name: column for column in self.columns}
        return replace(self, columns=[column.completed(own[column.name]) for column in earlier.columns])

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
        """Labels (N,) int64, several labels (N, K) float32 of 0 and 1, or for regression values (N, K) float32.

        Raises UserError where a class is new, a value is missing or is no number.
        """
        if self.task in ("regression", "multilabel"):
            read = sheet.numbers if self.task == "regression" else sheet.flags
            values = np.stack([read(name) for name in self.targets], axis=1)  # (N, K)
            return torch.from_numpy(values.astype(np.float32))
        (target,) = self.targets
        label = {name: k for k, name in enumerate(self.class_names)}
        names = [class_name(text) for text in sheet.texts(target)]
        new = {name: i for i, name in reversed(list(enumerate(names))) if name not in label}
        if new:
            raise UserError(
                f"{sheet.at(min(new.values()), target)}: the training part has no class "
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
