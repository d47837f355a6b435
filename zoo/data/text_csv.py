"""The user's own texts: a CSV file with a column of texts and a column of classes.

Whatever a file can have wrong ends in one line that names the row (as in the file, the header is row 1), the column
and what to do. The vocabulary is made of the training part alone.

Axes: N rows
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from zoo.data.base import PARTS, checked_shares, lacking, split_indices
from zoo.data.csv import MOST_CLASSES
from zoo.data.csv_file import read_csv
from zoo.data.sheet import Sheet, class_name, number
from zoo.data.texts import Labelled, Part, Texts
from zoo.errors import UserError, suggest


def read_texts(sheet: Sheet, column: str, *, key: str) -> list[str]:
    """N texts. Raises UserError where there is no such column, or an empty text.

    Args:
        key: the setting that names the column, for messages.
    """
    if column not in sheet.columns:
        raise UserError(f"{sheet.source} has no column '{column}' ({key}){suggest(column, sheet.columns)}")
    # "NA" and "null" are words here.
    texts = [str(cell or "").strip() for cell in sheet.columns[column]]
    empty = [i for i, text in enumerate(texts) if not text]
    if empty:
        raise UserError(
            f"{sheet.at(empty[0], column)}: the text is empty ({len(empty)} empty in the file); fill it in, or delete "
            "the row."
        )
    return texts


def read_classes(sheet: Sheet, target: str) -> list[str]:
    """N names of classes. Raises UserError at an empty cell; "None" and "NA" are names here, as they are words."""
    names = [class_name(cell) for cell in sheet.columns[target]]
    if "" in names:
        raise UserError(f"{sheet.at(names.index(''), target)}: the value is missing; fill it in, or delete the row.")
    return names


def names_of_classes(sheet: Sheet, target: str) -> list[str]:
    """The classes that a file has, sorted. Raises UserError where they are none to learn."""
    names = set(read_classes(sheet, target))
    numeric = all(number(name) is not None for name in names)
    if len(names) < 2:
        (name,) = names
        raise UserError(f"{sheet.source}: all rows are of one class, {name!r} in '{target}'; it needs two.")
    if numeric and len(names) > MOST_CLASSES:
        raise UserError(
            f"{sheet.source}: '{target}' is a quantity ({len(names)} different numbers), and texts have classes here; "
            "choose another data.target."
        )
    if len(names) == len(sheet) > 2:
        raise UserError(f"{sheet.source}: every row has another class in '{target}'; choose another data.target.")
    return sorted(names, key=lambda name: (number(name) if numeric else 0, name))


class TextCsv(Texts):
    """A CSV file with a header row.

    Args:
        path: the file; all of it is cut by `shares` unless there is a `test_path`.
        text: name of the column of texts.
        target: name of the column of classes.
        test_path: a second file with the same columns, which is the test part; only train and val are cut then.
        separator: one character; None finds comma, semicolon or tab in the header.
        encoding: of both files; the default is UTF-8 with or without a byte order mark.
        shares: of train, val and test, of each class.
        settings: see `Texts`.
    """

    def __init__(
        self,
        *,
        path: str,
        text: str | int,
        target: str | int,
        test_path: str | None = None,
        separator: str | None = None,
        encoding: str = "utf-8-sig",
        shares: Sequence[float] = (0.7, 0.15, 0.15),
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        checked_shares(shares)
        self.text, self.target = str(text), str(target)
        if self.text == self.target:
            raise UserError(f"data.text and data.target are both '{self.text}'; the class needs a column of its own.")
        self.path, self.test_path, self.separator, self.encoding = path, test_path, separator, encoding
        self.shares = (shares[0], shares[1], shares[2])

    def read(self) -> Labelled:
        sheet = self.sheet(self.path)
        names = self.earlier_classes or names_of_classes(sheet, self.target)
        texts, labels = self.labelled(sheet, names)
        shares = self.shares if self.test_path is None else (1 - self.shares[1], self.shares[1], 0.0)
        split = split_indices(len(texts), shares, seed=self.seed, labels=labels.numpy())
        parts: dict[str, Part] = {}
        rows: dict[str, list[str]] = {}
        for name, indices in zip(PARTS, split, strict=True):
            if len(indices):
                parts[name] = [texts[i] for i in indices.tolist()], labels[indices]
                rows[name] = [f"row {sheet.rows[i]}" for i in indices.tolist()]
        if "train" not in parts:
            raise UserError(f"{self.path} has too few rows for a training part; add rows or change data.shares.")
        if self.test_path is not None:
            other = self.sheet(self.test_path)
            parts["test"], rows["test"] = self.labelled(other, names), [f"row {row}" for row in other.rows]
        notes = lacking(parts, shares)
        return Labelled(parts, names, notes, rows)

    def sheet(self, path: str) -> Sheet:
        """One file that has both columns."""
        sheet = read_csv(path, separator=self.separator, encoding=self.encoding)
        for key, name in (("data.text", self.text), ("data.target", self.target)):
            if name not in sheet.columns:
                raise UserError(f"{path} has no column '{name}' ({key}){suggest(name, sheet.columns)}")
        return sheet.select([self.text, self.target])

    def labelled(self, sheet: Sheet, names: list[str]) -> Part:
        """Texts and labels of all rows. Raises UserError for an empty cell and for a class that is not in `names`."""
        texts, label = read_texts(sheet, self.text, key="data.text"), {name: k for k, name in enumerate(names)}
        found = read_classes(sheet, self.target)
        new = [i for i, name in enumerate(found) if name not in label]
        if new:
            raise UserError(
                f"{sheet.at(new[0], self.target)}: {found[new[0]]!r} is no class of the training file; it has "
                f"{', '.join(map(repr, names))}."
            )
        return texts, torch.from_numpy(np.array([label[name] for name in found], dtype=np.int64))
