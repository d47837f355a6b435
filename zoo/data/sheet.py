"""A sheet: the cells of a table by column, and what a cell spells. Messages name row and column as the file has them.

Axes: N rows
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from zoo.errors import UserError

Cell = str | float | None
MISSING = frozenset({"", "?", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "NULL", "Null", "null", "None"})
TOO_LARGE = 3e38  # about the largest float32
FLAGS = {"0": 0.0, "no": 0.0, "false": 0.0, "1": 1.0, "yes": 1.0, "true": 1.0}


def is_missing(cell: Cell) -> bool:
    return cell is None or str(cell).strip() in MISSING


def counts_as_missing(cells: Iterable[Cell]) -> str:
    """Which words among missing cells are taken for such, since somebody may mean a class or a name by them."""
    words = sorted({str(cell).strip() for cell in cells if cell is not None} - {""})
    return f"{', '.join(map(repr, words))} {'counts' if len(words) == 1 else 'count'} as such" if words else ""


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


def flag(cell: Cell) -> float | None:
    """0 or 1 as a cell spells it, also as no or yes, false or true; None for anything else."""
    return FLAGS.get(class_name(cell).lower())


@dataclass(frozen=True)
class Sheet:
    """Columns of cells by name, each with N rows.

    Args:
        columns: the cells of each column.
        rows: number of each row in its file, for messages; 1..N where it is left out.
        source: name of the file, for messages.
        commas: names of the columns whose file writes numbers with decimal commas or points between thousands.
        notes: what there is to say of how it was read, a line each.
    """

    columns: dict[str, list[Cell]]
    rows: list[int] = field(default_factory=list)
    source: str = "The table"
    commas: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def at(self, index: int, column: str) -> str:
        """The start of a message about one cell."""
        return f"{self.source}, row {self.rows[index] if self.rows else index + 1}, column {column!r}"

    def take(self, indices: Sequence[int]) -> "Sheet":
        columns = {name: [cells[i] for i in indices] for name, cells in self.columns.items()}
        rows = [self.rows[i] for i in indices] if self.rows else [i + 1 for i in indices]
        return replace(self, columns=columns, rows=rows)

    def select(self, names: Sequence[str]) -> "Sheet":
        return replace(self, columns={name: self.columns[name] for name in names})

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

    def flags(self, column: str) -> np.ndarray:
        """(N,) float64 of 0 and 1. Raises UserError at a cell that is neither, or empty."""
        values = []
        for i, text in enumerate(self.texts(column)):
            if (value := flag(text)) is None:
                raise UserError(
                    f"{self.at(i, column)}: {text!r} is neither 0 nor 1 (no or yes, false or true), as each of several "
                    "labels must be."
                )
            values.append(value)
        return np.array(values, dtype=np.float64)

    def texts(self, column: str, *, fill: str | None = None) -> list[str]:
        """N stripped texts. Raises UserError at an empty cell where there is no `fill`."""
        cells = enumerate(self.columns[column])
        return [self._filled(i, column, fill) if is_missing(cell) else str(cell).strip() for i, cell in cells]

    def _filled(self, index: int, column: str, fill: Any) -> Any:
        if fill is None:
            raise UserError(f"{self.missing(index, column)}; fill it in, or train with data.impute=true.")
        return fill

    def missing(self, index: int, column: str, more: str = "") -> str:
        """The start of a message about a cell that is missing; a word that counts as such is named."""
        words = [more, counts_as_missing([self.columns[column][index]])]
        said = "; ".join(filter(None, words))
        return f"{self.at(index, column)}: the value is missing{f' ({said})' if said else ''}"


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
