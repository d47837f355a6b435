"""The user's own table: a CSV file, one column of it the target, or several.

Whatever a file can have wrong ends in one line that names the row (as in the file, the header is row 1), the column
and what to do. Everything that is learned or decided from values is taken from the training part alone.

Axes: N rows
"""

from collections import Counter
from collections.abc import Sequence

from zoo.data.base import Loaded, checked_shares
from zoo.data.csv_file import read_csv
from zoo.data.sheet import (
    Sheet,
    class_name,
    counts_as_missing,
    flag,
    is_missing,
    is_number_column,
    number,
)
from zoo.data.table import Table
from zoo.data.table_preprocessing import NO_VALUE, TablePreprocessing
from zoo.errors import UserError, listed, suggest

KINDS = ("auto", "classification", "regression")
MOST_CLASSES = 20  # an integer target of more values is a quantity
MOST_VALUES = 100  # a text column of more values is a name


def find_regression(sheet: Sheet, target: str) -> bool:
    """Whether a target is a quantity: real-valued, or an integer of more than 20 values."""
    try:
        if not is_number_column(sheet, target):
            return False
    except UserError as error:
        raise UserError(f"{error} If the values are classes, say data.kind=classification.") from None
    values = sheet.numbers(target)
    return bool((values % 1 != 0).any()) or len(set(values.tolist())) > MOST_CLASSES


def find_regression_of_all(sheet: Sheet, targets: Sequence[str]) -> bool:
    """Whether several targets are quantities; they are labels where all are of 0 and 1. Raises UserError otherwise."""
    if all(flag(cell) is not None for name in targets for cell in sheet.columns[name]):
        return False
    kinds = {name: kind_of_target(sheet, name) for name in targets}
    if set(kinds.values()) == {"a quantity"}:
        return True
    found = ", ".join(f"{name!r} {kind}" for name, kind in kinds.items())
    hint = ", or say data.kind=regression to take all as quantities"
    raise UserError(
        f"{sheet.source}: several targets are all of 0 and 1 (no and yes, false and true) or all quantities; here is "
        f"{found}. Learn them apart{hint if all(is_number_column(sheet, name) for name in targets) else ''}."
    )


def kind_of_target(sheet: Sheet, name: str) -> str:
    if all(flag(cell) is not None for cell in sheet.columns[name]):
        return "0 and 1"
    if find_regression(sheet, name):
        return "a quantity"
    return f"one of {len({class_name(cell) for cell in sheet.columns[name]})} classes"


def why_useless(train: Sheet, column: str, *, num_rows: int, alone: bool) -> str | None:
    """Why a column of the training part is left out; None where it is of use.

    Args:
        num_rows: rows of the whole file, what an integer that numbers them runs through.
        alone: no other column is there; then a numbering is taken for a measurement.
    """
    cells = train.columns[column]
    if is_number_column(train, column):
        values = [value for cell in cells if not is_missing(cell) and (value := number(cell)) is not None]
        different = len(set(values))
        if different < 2:
            return "it is constant in the training part"
        whole = all(str(cell).lstrip("+-").isdigit() for cell in cells)
        counts = different == len(cells) >= 5 and whole and max(values) - min(values) < num_rows
        return "it numbers the rows, like an identifier" if counts and not alone else None
    different = len(set(train.texts(column, fill=NO_VALUE)))
    if different < 2:
        return "it is constant in the training part"
    if different > MOST_VALUES or 2 * different > len(cells):
        return f"it has {different} different texts in {len(cells)} training rows, like an identifier"
    return None


def checked_targets(target: str | int | Sequence[str | int]) -> list[str]:
    """Names of the target columns. Raises UserError unless there is one at least, and none twice."""
    given = list(target) if isinstance(target, Sequence) and not isinstance(target, str) else [target]
    wrong = [name for name in given if not isinstance(name, (str, int, float)) or isinstance(name, bool)]
    if not given or wrong:
        what = f"holds {wrong[0]!r}" if wrong else "is empty"
        raise UserError(
            f"data.target {what}; give the name of a column, or several as data.target=[rain,wind], each in quotes "
            "where it is no plain word."
        )
    names = [str(name) for name in given]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"data.target has {twice[0]!r} more than once; name each column once.")
    return names


class Csv(Table):
    """A CSV file with a header row.

    Args:
        path: the file; all of it is cut by `shares` unless there is a `test_path`.
        target: name of the column to learn, or a list of several: all of 0 and 1 (or no and yes, false and true), which
            are labels, or all quantities.
        test_path: a second file with the same columns, which is the test part; only train and val are cut then.
        separator: one character; None finds comma, semicolon or tab in the header.
        encoding: of both files; the default is UTF-8 with or without a byte order mark.
        ignore: columns to leave out.
        impute: fill empty cells (numbers: training median; text: a category of their own) instead of refusing them,
            and drop the rows that have no target.
        kind: "classification", "regression" or "auto": regression for a target that is real-valued or an integer of
            more than 20 values. Several targets of classes are labels.
        shares: of train, val and test.
    """

    def __init__(
        self,
        *,
        path: str,
        target: str | int | Sequence[str | int],
        test_path: str | None = None,
        separator: str | None = None,
        encoding: str = "utf-8-sig",
        ignore: Sequence[str | int] | str = (),
        impute: bool = False,
        kind: str = "auto",
        shares: Sequence[float] = (0.7, 0.15, 0.15),
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
        if kind not in KINDS:
            raise UserError(f"Unknown data.kind '{kind}'{suggest(kind, KINDS)}")
        self.path, self.test_path, self.targets = path, test_path, checked_targets(target)
        self.target: str | list[str] = self.targets[0] if len(self.targets) == 1 else self.targets
        self.separator, self.encoding = separator, encoding
        self.ignore = [ignore] if isinstance(ignore, str) else [str(name) for name in ignore]
        self.impute, self.kind = impute, kind
        self.shares = checked_shares(shares)

    def load(self) -> Loaded:
        notes: list[str] = []
        sheet = self.read(self.path, notes, self.commas())
        if self.earlier is not None:
            regression = self.earlier["task"] == "regression"
        else:
            regression = self.is_regression(sheet, notes)
        self.check_targets(sheet, regression)
        parts = self.read_parts(sheet, regression, notes)
        names = [*self.useful(parts["train"], len(sheet), notes), *self.targets]
        return self.assemble(
            {part: rows.select(names) for part, rows in parts.items()},
            target=self.target,
            regression=regression,
            impute=self.impute,
            notes=notes,
            shares=self.shares,
        )

    def is_regression(self, sheet: Sheet, notes: list[str]) -> bool:
        """What data.kind says, or the values of the targets."""
        if self.kind != "auto":
            return self.kind == "regression"
        if isinstance(self.target, str):
            regression = find_regression(sheet, self.target)
            notes.append(f"The target '{self.target}' is {'a quantity: regression' if regression else 'a class'}.")
        else:
            regression = find_regression_of_all(sheet, self.targets)
            found = "quantities: regression" if regression else "of 0 and 1: labels, any of which may hold"
            notes.append(f"The targets {', '.join(map(repr, self.targets))} are {found}.")
        return regression

    def check_targets(self, sheet: Sheet, regression: bool) -> None:
        """Raises UserError at the first cell of the file that does not fit the kind of target."""
        for name in self.targets:
            if regression:
                sheet.numbers(name)
            elif len(self.targets) > 1:
                sheet.flags(name)
            elif self.earlier is None and len({class_name(cell) for cell in sheet.columns[name]}) == len(sheet) > 1:
                raise UserError(f"{self.path}: every row has another class in '{name}'; choose another data.target.")

    def commas(self) -> frozenset[str]:
        """Names of the columns that had decimal commas in an earlier run, or where a network was pretrained."""
        before = self.earlier or self.known
        return TablePreprocessing.from_dict(before).commas if before else frozenset()

    def read(self, path: str, notes: list[str], commas: frozenset[str]) -> Sheet:
        """One file without the ignored columns, and nothing missing that may not be."""
        sheet = read_csv(path, separator=self.separator, encoding=self.encoding, commas=commas)
        notes += [f"In {path} {note}" for note in sheet.notes]
        for name in self.targets:
            if name not in sheet.columns:
                raise UserError(f"{path} has no column '{name}' (data.target){suggest(name, sheet.columns)}")
        sheet = sheet.select(self.kept(path, sheet, notes))
        gaps = [(i, name) for name, cells in sheet.columns.items() for i, cell in enumerate(cells) if is_missing(cell)]
        if gaps and not self.impute:
            first = min(gaps, key=lambda gap: gap[0])
            other = ", call it otherwise" if counts_as_missing([sheet.columns[first[1]][first[0]]]) else ""
            raise UserError(
                f"{sheet.missing(*first, more=f'{len(gaps)} missing in the file')}; fill it in{other}, or say "
                "data.impute=true."
            )
        answers = list(zip(*(sheet.columns[name] for name in self.targets), strict=True))
        known = [i for i, cells in enumerate(answers) if not any(map(is_missing, cells))]
        if not known:
            what = f"the target '{self.target}'" if isinstance(self.target, str) else "all of data.target"
            raise UserError(f"{path}: no row has a value in {what}.")
        if len(known) < len(sheet):
            words = counts_as_missing(cell for cells in answers for cell in cells if is_missing(cell))
            notes.append(
                f"{path}: {len(sheet) - len(known)} rows without a target were dropped{words and f' ({words})'}."
            )
        return sheet.take(known)

    def kept(self, path: str, sheet: Sheet, notes: list[str]) -> list[str]:
        """Columns to look at: those of an earlier run or a pretrained network, else all but the ignored ones."""
        if self.earlier is not None:
            earlier = TablePreprocessing.from_dict(self.earlier)
            if sorted(earlier.targets) != sorted(self.targets):
                raise UserError(
                    f"The model was trained on data.target={','.join(earlier.targets)}, not on "
                    f"{','.join(self.targets)}; leave data.target out."
                )
            earlier.check(sheet)
            return [*(column.name for column in earlier.columns), *self.targets]
        for name in self.targets:
            if name in self.ignore:
                raise UserError(f"'{name}' is both data.target and in data.ignore; take it out of one.")
        for name in self.ignore:
            if name not in sheet.columns:
                raise UserError(f"{path} has no column '{name}' (data.ignore){suggest(name, sheet.columns)}")
        names = [name for name in sheet.columns if name not in self.ignore]
        seen = self.seen(sheet.select([name for name in names if name not in self.targets]))
        others = [repr(name) for name in names if name not in (*seen, *self.targets)]
        line = f"Left out, since the pretrained network has not seen them: {listed(others)}."
        if seen and others and line not in notes:  # of the test file, too
            notes.append(line)
        return [*seen, *self.targets] if seen else names

    def read_parts(self, sheet: Sheet, regression: bool, notes: list[str]) -> dict[str, Sheet]:
        """Cuts the file; the test part is the second file where there is one."""
        shares, test = self.shares, None
        if self.test_path is not None:
            test = self.read(self.test_path, notes, self.commas() | sheet.commas)
            for lacks, has in ((test, sheet), (sheet, test)):
                extra = [repr(name) for name in has.columns if name not in lacks.columns]
                if extra:
                    raise UserError(
                        f"{lacks.source} lacks {', '.join(extra)} of {has.source}; give both the same columns."
                    )
            shares = (1 - shares[1], shares[1], 0.0)
        parts = self.cut(sheet, target=self.target, regression=regression, shares=shares)
        if "train" not in parts:
            raise UserError(f"{self.path} has too few rows for a training part; add rows or change data.shares.")
        return parts if test is None else {**parts, "test": test}

    def useful(self, train: Sheet, num_rows: int, notes: list[str]) -> list[str]:
        """Names of the columns that are kept; the others are noted."""
        names = [name for name in train.columns if name not in self.targets]
        if self.earlier is not None or self.seen(train.select(names)):  # a column that is constant here was none there
            return names
        why = {name: why_useless(train, name, num_rows=num_rows, alone=len(names) == 1) for name in names}
        dropped = [f"Column {name!r} is left out: {reason}." for name, reason in why.items() if reason]
        if len(dropped) == len(names):
            taken = "data.ignore" if self.ignore else "data.target"
            raise UserError(f"{self.path} has no column to learn from. {' '.join(dropped) or f'All are in {taken}.'}")
        notes += dropped
        return [name for name in names if not why[name]]
