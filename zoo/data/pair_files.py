"""The user's own pairs of texts: a table with two columns, or two files that belong together line by line.

Whatever a file can have wrong ends in one line that names the file, the line and what to do.

Axes: N pairs
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.data.base import PARTS, checked_shares, lacking, split_indices
from zoo.data.corpus import read_file
from zoo.data.csv_file import SEPARATORS, find_separator
from zoo.data.pairs import Found, Pairs, Part
from zoo.errors import UserError, suggest

SHOWN = 40  # characters of a text in a message


class Layout(NamedTuple):
    """How a table is written; see `PairFiles`."""

    separator: str | None = None
    encoding: str = "utf-8-sig"
    header: bool | None = None
    src_column: int | str | None = None
    tgt_column: int | str | None = None


def text_of(path: str, encoding: str, key: str) -> str:
    """A file's text. Raises UserError where there is none, naming the setting `key`."""
    try:
        return read_file(path, encoding)
    except UserError as error:
        raise UserError(str(error).replace("data.path", f"data.{key}")) from None


def rows_of(text: str, path: str, separator: str) -> list[tuple[int, list[str]]]:
    """The cells of each row and the number of its line; blank lines are left out.

    Tabs separate whatever stands between them, quotes included; other separators follow the rules of CSV.
    """
    if separator == "\t":
        lines = [(i, [cell.strip() for cell in line.split("\t")]) for i, line in enumerate(text.split("\n"), start=1)]
        return [(i, cells) for i, cells in lines if any(cells)]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    rows, before = [], 0
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((before + 1, [cell.strip() for cell in cells]))
            before = reader.line_num
    except csv.Error as error:
        raise UserError(f"{path}, line {before + 1}: not readable as CSV ({error}); look for a stray quote.") from None
    return rows


def place_of(name: int | str, key: str, header: list[str] | None, width: int, path: str) -> int:
    """Which column is meant, from 0 on: by its number, from 1 on, or by its name in the header."""
    if header is not None and str(name) in header:
        return header.index(str(name))
    if isinstance(name, int) and not isinstance(name, bool):
        if 1 <= name <= width:
            return name - 1
        raise UserError(f"{path} has {width} columns, and data.{key}={name} is none of them; columns count from 1.")
    if header is None:
        raise UserError(f"{path} is read without a header, so data.{key}={name} must be a number, from 1 on.")
    raise UserError(f"{path} has no column '{name}' (data.{key}){suggest(name, header)}")


def read_table(path: str, layout: Layout, key: str = "path") -> tuple[Part, list[str]]:
    """The pairs of a table, and what the user should know.

    Args:
        key: the setting that names the file, for messages.

    Raises:
        UserError: the file cannot be read, or a row has other columns than the first.
    """
    text, is_csv = text_of(path, layout.encoding, key), Path(path).suffix.lower() == ".csv"
    separator = layout.separator or (find_separator(text) if is_csv else "\t")
    separator = SEPARATORS.get(separator, separator)
    if len(separator) != 1 or separator in '"\r\n ':
        raise UserError(f"data.separator={separator!r} must be one character, such as ',', ';' or tab.")
    rows = rows_of(text, path, separator)
    width = len(rows[0][1]) if rows else 0
    if max((len(cells) for _, cells in rows), default=0) < 2:
        raise UserError(
            f"{path} has a single column when split at {separator!r}; it needs a source and a target in each line. Set "
            "data.separator to what it uses, or give two files with data.src_path and data.tgt_path."
        )
    for line, cells in rows:
        if len(cells) != width:
            raise UserError(
                f"{path}, line {line}: {width} columns expected, as in the first line, {len(cells)} found (split at "
                f"{separator!r}); mend it."
            )
    header, notes = None, []
    if is_csv if layout.header is None else layout.header:
        header = rows.pop(0)[1]
        names = ", ".join(map(repr, header))
        if layout.header is None:
            notes = [f"The first row of {path} is taken for names of columns ({names}); data.header=false reads it too"]
    if not rows:
        raise UserError(f"{path} has a header but no pairs below it.")
    src = place_of(1 if layout.src_column is None else layout.src_column, "src_column", header, width, path)
    tgt = place_of(2 if layout.tgt_column is None else layout.tgt_column, "tgt_column", header, width, path)
    if src == tgt:
        raise UserError("data.src_column and data.tgt_column are the same; the target needs a column of its own.")
    if width > 2:
        notes.append(f"{path} has {width} columns; sources are in column {src + 1}, targets in column {tgt + 1}")
    return [(cells[src], cells[tgt]) for _, cells in rows], notes


def read_lines(src_path: str, tgt_path: str, encoding: str, keys: tuple[str, str]) -> Part:
    """The pairs of two files, line by line. Raises UserError where one is longer, or cannot be read.

    Args:
        keys: the settings that name the files, for messages.
    """
    paths = (src_path, tgt_path)
    sides = [
        [line.strip() for line in text_of(path, encoding, key).removesuffix("\n").split("\n")]
        for path, key in zip(paths, keys, strict=True)
    ]
    first, second = map(len, sides)
    if first != second:
        longer, line = int(second > first), min(first, second)
        lost = sides[longer][line]
        raise UserError(
            f"{src_path} has {first:,} lines and {tgt_path} {second:,}: line {line + 1} of {paths[longer]}, "
            f"{lost[:SHOWN]!r}, has no partner. Both need as many lines, an empty one where there is nothing."
        )
    return list(zip(*sides, strict=True))


def shared_out(pairs: Part, shares: Sequence[float], *, seed: int) -> dict[str, Part]:
    """The parts that pairs are cut into by the seed; an empty one is left out."""
    split = split_indices(len(pairs), (shares[0], shares[1], shares[2]), seed=seed)
    return {
        part: [pairs[i] for i in indices.tolist()] for part, indices in zip(PARTS, split, strict=True) if len(indices)
    }


class PairFiles(Pairs):
    """Pairs in files.

    Args:
        path: a table with the training pairs; its name ends in .csv, or its columns are separated by tabs.
        src_path, tgt_path: instead of it, two files, the sources and the targets line by line.
        val_path, val_src_path, val_tgt_path, test_path, test_src_path, test_tgt_path: the same for the other parts. A
            part without files is cut from the training files.
        shares: of train, val and test in what is cut.
        separator: of the columns, one character; None is a tab, or in a .csv what is found in the first line.
        encoding: of all files; the default is UTF-8 with or without a byte order mark.
        header: whether the first row of a table has the names of its columns; None: that of a .csv has.
        src_column, tgt_column: by number, from 1 on, or by name; None: the first and the second.
        settings: see `Pairs`.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        src_path: str | None = None,
        tgt_path: str | None = None,
        val_path: str | None = None,
        val_src_path: str | None = None,
        val_tgt_path: str | None = None,
        test_path: str | None = None,
        test_src_path: str | None = None,
        test_tgt_path: str | None = None,
        shares: Sequence[float] = (0.8, 0.1, 0.1),
        separator: str | None = None,
        encoding: str = "utf-8-sig",
        header: bool | None = None,
        src_column: int | str | None = None,
        tgt_column: int | str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        checked_shares(shares)
        self.shares, self.layout = shares, Layout(separator, encoding, header, src_column, tgt_column)
        self.paths = {
            "train": (path, src_path, tgt_path),
            "val": (val_path, val_src_path, val_tgt_path),
            "test": (test_path, test_src_path, test_tgt_path),
        }
        for part in PARTS:
            self.check_paths(part)

    def check_paths(self, part: str) -> None:
        """Raises UserError unless there is one table, or two files, or for another part than train nothing."""
        table, src, tgt = self.paths[part]
        before = "" if part == "train" else f"{part}_"
        if table is not None and (src is not None or tgt is not None):
            one = "src" if src is not None else "tgt"
            raise UserError(f"data.{before}path and data.{before}{one}_path are two answers to one question; give one.")
        if (src is None) != (tgt is None):
            given, missing = ("tgt", "src") if src is None else ("src", "tgt")
            raise UserError(f"data.{before}{given}_path needs data.{before}{missing}_path, its partner line by line.")
        if part == "train" and table is None and src is None:
            raise UserError(
                "data=pairs needs data.path=pairs.tsv, a table with two columns, or data.src_path and data.tgt_path, "
                "two files that belong together line by line."
            )

    def read_part(self, part: str, notes: list[str]) -> Part:
        """The pairs of the files of one part."""
        table, src, tgt = self.paths[part]
        before = "" if part == "train" else f"{part}_"
        if table is not None:
            pairs, said = read_table(table, self.layout, f"{before}path")
            notes += said
            return pairs
        assert src is not None
        assert tgt is not None
        return read_lines(src, tgt, self.layout.encoding, (f"{before}src_path", f"{before}tgt_path"))

    def read(self) -> Found:
        notes: list[str] = []
        given = {part: self.read_part(part, notes) for part in PARTS if any(self.paths[part])}
        rest = [0.0 if part in given else share for part, share in zip(PARTS, self.shares, strict=True)][1:]
        parts = shared_out(given["train"], (1 - sum(rest), *rest), seed=self.seed) | {
            part: pairs for part, pairs in given.items() if part != "train"
        }
        if "train" not in parts:
            raise UserError("There are too few pairs for a training part; add some, or change data.shares.")
        return Found({part: parts[part] for part in PARTS if part in parts}, notes + remarks(parts, self.shares))


def remarks(parts: dict[str, Part], shares: Sequence[float]) -> list[str]:
    """Parts that there are too few pairs for, and sources of val and test that training knows; a line each."""
    known = {src for src, _ in parts["train"]}
    notes = lacking(parts, shares, "pairs")
    for part in PARTS[1:]:
        seen = sum(src in known for src, _ in parts.get(part, ()))
        if seen:
            notes.append(f"{seen:,} of {len(parts[part]):,} sources of the {part} part stand in training, too")
    return notes
