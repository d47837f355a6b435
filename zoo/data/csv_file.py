"""CSV files: encodings, separators, decimal commas and headers, and what can be wrong with them.

How a column is written (decimal comma) is read from the whole file. Messages name the row as the file has it; the
header is row 1.

Axes: N rows
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from zoo.data.sheet import MISSING, Sheet, nearly_none, number
from zoo.errors import UserError

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t"}
DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?([eE][+-]?\d+)?")  # 3,5 and 1.234,5
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")
GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})*(\.\d+)?")  # 1,234.5


def read_text(path: str | Path, encoding: str) -> str:
    """The text of a file. Raises UserError where it is not there, empty or not text."""
    try:
        path = Path(path).expanduser()
        if path.is_dir():
            raise UserError(f"{path} is a folder; data.path needs a CSV file.")
        raw = path.read_bytes()
        codecs.lookup(encoding)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; give an existing one with data.path.") from None
    except LookupError:
        raise UserError(f"There is no encoding '{encoding}'; try data.encoding=utf-8-sig or latin-1.") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    wide = any(size in encoding for size in ("16", "32"))
    if not wide and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{path} is UTF-16 text; say data.encoding=utf-16, or save it as UTF-8.")
    if not wide and b"\0" in raw:
        raise UserError(f"{path} is not text (zero byte at offset {raw.index(0)}); export the table as CSV.")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding.startswith("utf-8") else encoding
        raise UserError(
            f"{path} is not {name} text (byte 0x{raw[error.start]:02x} at offset {error.start}); "
            f"save it as UTF-8, or say data.encoding=latin-1 if that is what it is."
        ) from None
    if not text.strip():
        raise UserError(f"{path} is empty; it needs a header row and rows of values.")
    return text


def find_separator(text: str) -> str:
    """The most frequent of comma, semicolon and tab in the header row, outside quotes."""
    counts: Counter[str] = Counter()
    quoted = False
    for character in text.lstrip("\r\n"):
        quoted ^= character == '"'
        if not quoted:
            if character in "\r\n":
                break
            counts[character] += 1
    return max(",;\t", key=lambda separator: counts[separator])


def plain_numbers(cells: list[str], style: re.Pattern[str]) -> list[str]:
    """`3,5` as `3.5`, and `1.234,5`, or in comma-separated files `1,234.5`, as `1234.5`."""
    thousands = "," if style is GROUPED else "."
    return [cell.replace(thousands, "").replace(",", ".") if style.fullmatch(cell) else cell for cell in cells]


def is_written_in(style: re.Pattern[str], cells: list[str]) -> bool:
    """Whether nearly all cells are numbers in this style, and not all are plain numbers."""
    strays = sum(not style.fullmatch(cell) for cell in cells)
    return any(number(cell) is None for cell in cells) and nearly_none(strays, len(cells))


def read_numbers(
    columns: dict[str, list[str]], separator: str, commas: Collection[str]
) -> tuple[dict[str, list[str]], frozenset[str], list[str]]:
    """The cells with numbers as Python has them; the columns that have decimal commas; what there is to say.

    `1.234` alone may be either number. It is 1234 where the column is known to have decimal commas, or another column
    of the file has them.

    Args:
        commas: names of columns that had decimal commas in the file of training.
    """
    style = GROUPED if separator == "," else DECIMAL_COMMA
    present = {name: [cell for cell in cells if cell not in MISSING] for name, cells in columns.items()}
    written = {name for name, cells in present.items() if is_written_in(style, cells)}
    notes = []
    if style is DECIMAL_COMMA:
        either = {name for name, cells in present.items() if is_either(cells)}
        for name in [name for name in columns if name in either and (written or name in commas)]:
            cell = next(cell for cell in present[name] if "." in cell)
            why = "as in the file of training" if name in commas else f"as {min(written)!r} has decimal commas"
            notes.append(f"column {name!r}: {cell} is {cell.replace('.', '')}, {why}.")
            written.add(name)
    cells = {name: plain_numbers(cells, style) if name in written else cells for name, cells in columns.items()}
    return cells, frozenset(written) if style is DECIMAL_COMMA else frozenset(), notes


def is_either(cells: list[str]) -> bool:
    """Whether all cells are numbers, some with a point, and each point could as well stand between thousands."""
    dotted = [cell for cell in cells if "." in cell]
    return bool(dotted) and all(map(THOUSANDS.fullmatch, dotted)) and all(number(cell) is not None for cell in cells)


def read_csv(
    path: str | Path,
    *,
    separator: str | None = None,
    encoding: str = "utf-8-sig",
    min_columns: int = 2,
    commas: Collection[str] = (),
) -> Sheet:
    """Reads a file with a header row; cells are stripped texts, blank lines are left out.

    Args:
        path: `~` is expanded.
        separator: one character, or "comma", "semicolon", "tab"; None finds it in the header.
        min_columns: 1 where a file need not have a target beside what is measured.
        commas: names of columns of which it is known that they have decimal commas.

    Raises UserError for a file that is missing, empty, not text, ragged, or has a header with gaps or doubles.
    """
    text, source = read_text(path, encoding), str(path)
    separator = find_separator(text) if separator is None else SEPARATORS.get(separator, separator)
    if len(separator) != 1 or separator in '"\r\n ':
        raise UserError(f"data.separator={separator!r} must be one character, such as ',', ';' or tab.")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    header: list[str] = []
    records, rows = [], []
    row = 0
    try:
        for row, record in enumerate(reader, start=1):
            if not record:
                continue
            fields = [cell.strip() for cell in record]
            if not header:
                header = checked_header(fields, source, separator, min_columns)
            elif len(fields) != len(header):
                raise UserError(
                    f"{source}, row {row}: {len(header)} fields expected, as in the header, {len(fields)} found; "
                    f"mend it, and quote a field that holds the separator {separator!r}."
                )
            else:
                records.append(fields)
                rows.append(row)
    except csv.Error as error:
        raise UserError(f"{source}, row {row + 1}: not readable as CSV ({error}); look for a stray quote.") from None
    if not records:
        raise UserError(f"{source} has a header but no rows below it.")
    columns = {name: [fields[j] for fields in records] for j, name in enumerate(header)}
    cells, written, notes = read_numbers(columns, separator, commas)
    return Sheet({name: list(cells[name]) for name in header}, rows, source, commas=written, notes=tuple(notes))


def checked_header(names: list[str], source: str, separator: str, min_columns: int) -> list[str]:
    if len(names) < min_columns:
        raise UserError(
            f"{source} has a single column when split at {separator!r}; set data.separator to what it uses."
        )
    if "" in names:
        raise UserError(
            f"{source}: column {names.index('') + 1} has no name in the header; name it or delete it "
            f"(pandas writes such an index column without index=False)."
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{source}: the header has {twice[0]!r} more than once; rename one.")
    return names
