"""Time series: windows of the past, and the steps that come after them.

The first steps are for training, those after them for validation, the last ones for the test. What is to be predicted
lies in the part itself; the past of a window may reach back into the part before, as in Zhou et al. 2021 (Informer) and
Zeng et al. 2022 (arXiv 2205.13504), since it is known by then. Columns are standardized by mean and deviation of the
training part.

Axes: N steps of the whole series, B batch, L steps of the past, H steps ahead (the horizon), C columns
"""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.batches import SeriesBatch
from zoo.data.base import PARTS, DataModule, Loaded
from zoo.data.csv_file import read_csv
from zoo.data.images import check_size, download, fingerprint
from zoo.data.known import far_off, kept
from zoo.data.published import read_published
from zoo.data.series_preprocessing import SeriesPreprocessing
from zoo.data.sheet import Sheet, is_missing, is_number_column
from zoo.errors import UserError, listed, suggest


class SeriesWindows(Dataset):
    """All windows of a stretch of steps; an index tensor gives a whole batch.

    Args:
        values: (N, C) of the whole series, standardized.
        starts: first step of each window's past.
        past, horizon: L and H.
    """

    def __init__(self, values: Tensor, starts: Tensor, *, past: int, horizon: int) -> None:
        self.values, self.starts, self.past, self.horizon = values, starts, past, horizon

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, indices: Tensor) -> SeriesBatch:
        places = self.starts[indices].unsqueeze(1) + torch.arange(self.past + self.horizon)  # (B, L + H)
        windows = self.values[places]  # (B, L + H, C)
        return SeriesBatch(windows[:, : self.past], windows[:, self.past :])

    def take(self, indices: Tensor) -> "SeriesWindows":
        return SeriesWindows(self.values, self.starts[indices], past=self.past, horizon=self.horizon)


def part_sizes(num_steps: int, shares: Sequence[float]) -> list[int]:
    """Steps of train, val and test: shares of all steps that sum to 1, or numbers of steps; the rest is left out.

    Raises:
        UserError: the three numbers are neither, or more than there is.
    """
    good = len(shares) == 3 and min(shares) >= 0 and shares[0] > 0
    if good and abs(sum(shares) - 1) < 1e-6:
        train, test = int(num_steps * shares[0] + 1e-9), int(num_steps * shares[2] + 1e-9)
        return [train, num_steps - train - test if shares[1] > 0 else 0, test]
    if not good or any(share != int(share) for share in shares):
        raise UserError(
            f"data.shares={list(shares)} must be shares of train, val and test that sum to 1, or three numbers of "
            "steps."
        )
    if sum(shares) > num_steps:
        raise UserError(f"data.shares={list(shares)} are {sum(shares)} steps, and the series has {num_steps}.")
    return [int(share) for share in shares]


class Series(DataModule):
    """Base of time series: a subclass says how to `read` one.

    Args:
        past: L, steps that are known.
        future: H, steps that are to be predicted.
        shares: of train, val and test, in this order in time: they sum to 1, or are three numbers of steps. A share of
            0 leaves the part out.
        batch_size: windows in one global batch.
        eval_batch_size, seed, fraction, overfit: see `DataModule`; the seed is that of the order alone.
    """

    def __init__(
        self,
        *,
        past: int = 96,
        future: int = 24,
        shares: Sequence[float] = (0.7, 0.1, 0.2),
        batch_size: int | str = 32,
        eval_batch_size: int = 512,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, fraction=fraction, overfit=overfit
        )
        check_size("past", past, 1)
        check_size("horizon", future, 1)
        self.past, self.horizon, self.shares = past, future, shares

    source = "The series"  # what messages call it
    commas: Collection[str] = ()  # see `SeriesPreprocessing`
    known: SeriesPreprocessing | None = None  # of a pretrained network, of use where the columns are the same

    def adopt(self, preprocessing: dict[str, Any]) -> str:
        """See `DataModule.adopt`; whether the columns are the same is seen, and said, when the series is read."""
        if preprocessing.get("kind") == "series":
            self.known, self.loaded = SeriesPreprocessing.from_dict(preprocessing), None
        return ""

    def fitted(self, train: np.ndarray, names: list[str], notes: list[str]) -> SeriesPreprocessing:
        """An earlier run's preprocessing, a pretrained network's, or that of the training part (N, C)."""
        if self.earlier is not None:
            return SeriesPreprocessing.from_dict(self.earlier)
        own = SeriesPreprocessing.fit(train, names, past=self.past, horizon=self.horizon)
        own = replace(own, commas=sorted(self.commas))
        if self.known is None:
            return own
        known = replace(own, columns=self.known.columns, mean=self.known.mean, std=self.known.std)
        if known.columns != names:
            had = listed([repr(name) for name in known.columns])
            notes.append(
                f"The pretrained network has seen a series of other columns ({had}); those of this one are scaled by "
                "themselves."
            )
            return own
        notes.append(kept("Columns have the scale"))
        notes += far_off(zip(names, train.T, known.mean, known.std, strict=True))
        return known

    @abstractmethod
    def read(self, notes: list[str]) -> tuple[np.ndarray, list[str]]:
        """(N, C) float64 in the order of time, and the names of the columns; may add to the notes."""

    def load(self) -> Loaded:
        notes: list[str] = []
        values, names = self.read(notes)
        starts = self.windows(len(values))
        fitted = self.fitted(values[: self.num_train(len(values))], names, notes)
        scaled = fitted(values)
        sizes = {"past": self.past, "horizon": self.horizon}
        return Loaded(
            parts={part: SeriesWindows(scaled, windows, **sizes) for part, windows in starts.items()},
            facts={
                "kind": "series",
                "input_size": len(names),
                "num_targets": len(names),
                "seq_len": self.past,
                "horizon": self.horizon,
            },
            preprocessing=fitted.to_dict(),
            class_names=names,
            notes=notes,
            fingerprint=fingerprint([torch.from_numpy(values)]),
        )

    def num_train(self, num_steps: int) -> int:
        return part_sizes(num_steps, self.shares)[0]

    def windows(self, num_steps: int) -> dict[str, Tensor]:
        """First steps of the windows of each part: those whose futures lie in it.

        Raises:
            UserError: a part is too short for one window.
        """
        found, begin = {}, 0
        for part, size in zip(PARTS, part_sizes(num_steps, self.shares), strict=True):
            end = begin + size
            first = max(0, begin - self.past)
            number = end - self.horizon - self.past - first + 1
            if number < 1 and self.shares[PARTS.index(part)] > 0:
                needed = self.horizon if begin >= self.past else self.past + self.horizon
                raise UserError(
                    f"{self.source} has {num_steps} steps, {size} of them in the {part} part, which needs {needed} "
                    f"with data.past={self.past} and data.horizon={self.horizon}; make these smaller, or change "
                    "data.shares."
                )
            if number > 0:
                found[part] = torch.arange(first, first + number)
            begin = end
        return found


class SeriesCsv(Series):
    """The user's own series: a CSV file with a header row and a row for each step, the oldest first.

    Args:
        path: the file.
        columns: names of those that are read and predicted; None takes all that hold numbers.
        date: name of a column of dates or step numbers, which is left out.
        separator: one character; None finds comma, semicolon or tab in the header.
        encoding: of the file.
        past, future, shares, batch_size, eval_batch_size, seed, fraction, overfit: see `Series`.
    """

    def __init__(
        self,
        *,
        path: str,
        columns: Sequence[str | int] | str | None = None,
        date: str | None = None,
        separator: str | None = None,
        encoding: str = "utf-8-sig",
        past: int = 96,
        future: int = 24,
        shares: Sequence[float] = (0.7, 0.1, 0.2),
        batch_size: int | str = 32,
        eval_batch_size: int = 512,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            past=past,
            future=future,
            shares=shares,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            fraction=fraction,
            overfit=overfit,
        )
        self.path, self.date, self.separator, self.encoding = path, date, separator, encoding
        self.columns = [columns] if isinstance(columns, str) else None if columns is None else [*map(str, columns)]
        self.source = str(path)

    def read(self, notes: list[str]) -> tuple[np.ndarray, list[str]]:
        before = SeriesPreprocessing.from_dict(self.earlier) if self.earlier else self.known
        commas = before.commas if before else ()
        sheet = read_csv(self.path, separator=self.separator, encoding=self.encoding, min_columns=1, commas=commas)
        notes += [f"In {self.path} {note}" for note in sheet.notes]
        names = self.chosen(sheet, notes)
        self.commas = sheet.commas.intersection(names)
        return np.stack([column_of(sheet, name) for name in names], axis=1), names

    def chosen(self, sheet: Sheet, notes: list[str]) -> list[str]:
        """Names of the columns that are read. Raises UserError where one is not there, or none holds numbers."""
        wanted = self.columns if self.earlier is None else SeriesPreprocessing.from_dict(self.earlier).columns
        if self.earlier is None and self.known is not None and self.date not in self.known.columns:
            seen = self.known.columns
            asked = wanted is None or set(wanted) == set(seen)  # in whatever order
            if asked and all(name in sheet.columns and is_number_column(sheet, name) for name in seen):
                wanted = seen
        for name in [*(wanted or []), *([] if self.date is None else [self.date])]:
            if name not in sheet.columns:
                raise UserError(f"{sheet.source} has no column {name!r}{suggest(name, sheet.columns)}")
        if wanted is not None:
            if not wanted or len(set(wanted)) < len(wanted) or self.date in wanted:
                raise UserError(f"data.columns={wanted} must name each column once, and not the date.")
            return wanted
        names = [name for name in sheet.columns if name != self.date and is_number_column(sheet, name)]
        if not names:
            raise UserError(f"{sheet.source} has no column of numbers; a series needs one at least.")
        left = [name for name in sheet.columns if name not in names and name != self.date]
        if left:
            notes.append(f"Left out, since no numbers: {', '.join(map(repr, left))}.")
        notes.append(f"Read and predicted: {', '.join(map(repr, names))}.")
        return names


def column_of(sheet: Sheet, name: str) -> np.ndarray:
    """(N,) float64. Raises UserError at a cell that is empty or no number: a step left out would shift all after it."""
    for i, cell in enumerate(sheet.columns[name]):
        if is_missing(cell):
            raise UserError(
                f"{sheet.missing(i, name)}; fill it in, for instance with the one before it, or name other columns in "
                "data.columns."
            )
    return sheet.numbers(name)


class Etth1(Series):
    """ETTh1: two years of an electricity transformer, hour by hour: six loads and the temperature of its oil.

    Zhou et al., "Informer", 2021 (arXiv 2012.07436). 17,420 steps of 7 columns. By default 12, 4 and 4 months of 30
    days are used, as by Zeng et al. 2022.

    Args:
        data_dir: holds `ETT-small/ETTh1.csv`; it is downloaded where it is missing.
        past, future, shares, batch_size, eval_batch_size, seed, fraction, overfit: see `Series`.
    """

    checksum: ClassVar[str] = "8381763947c85f4be6ac456c508460d6"
    mirror: ClassVar[str] = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv"
    num_columns: ClassVar[int] = 7

    def __init__(
        self,
        *,
        data_dir: str,
        past: int = 336,
        future: int = 96,
        shares: Sequence[float] = (8640, 2880, 2880),
        batch_size: int | str = 32,
        eval_batch_size: int = 512,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            past=past,
            future=future,
            shares=shares,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            fraction=fraction,
            overfit=overfit,
        )
        self.file = Path(data_dir).expanduser() / "ETT-small" / "ETTh1.csv"
        self.source = str(self.file)

    def fetch(self) -> None:
        if not self.file.is_file():
            folder = self.file.parent
            advice = f"Put ETTh1.csv into {folder}, or let data_dir (or ZOO_DATA) name a folder that has ETT-small."
            download([self.mirror], folder, md5=self.checksum, advice=advice)

    def read(self, notes: list[str]) -> tuple[np.ndarray, list[str]]:
        header, *lines = read_published(self.file, checksum=self.checksum).decode().splitlines()
        values = np.loadtxt(lines, delimiter=",", usecols=range(1, self.num_columns + 1))  # (N, C)
        return values, header.split(",")[1:]


class Waves(Series):
    """A series made from the seed: a daily and a weekly wave over a trend, in three mixtures, with noise.

    Each step is an hour. The data needs no download, so that a forecaster can be tried anywhere.

    Args:
        num_steps: N.
        noise: its standard deviation; that of the waves is about 0.7.
        past, future, shares, batch_size, eval_batch_size, seed, fraction, overfit: see `Series`.
    """

    def __init__(
        self,
        *,
        num_steps: int = 2000,
        noise: float = 0.1,
        past: int = 96,
        future: int = 24,
        shares: Sequence[float] = (0.7, 0.1, 0.2),
        batch_size: int | str = 32,
        eval_batch_size: int = 512,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            past=past,
            future=future,
            shares=shares,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            fraction=fraction,
            overfit=overfit,
        )
        check_size("num_steps", num_steps, 1)
        if noise < 0:
            raise UserError(f"data.noise={noise} must not be negative.")
        self.num_steps, self.noise = num_steps, noise

    def read(self, notes: list[str]) -> tuple[np.ndarray, list[str]]:
        generator = np.random.default_rng(self.seed)
        hours = np.arange(self.num_steps)
        phases = generator.uniform(0, 2 * np.pi, 2)
        day, week = (
            np.sin(2 * np.pi * hours / period + phase) for period, phase in zip((24, 168), phases, strict=True)
        )
        parts = np.stack([day, week, hours / 1000], 1)  # (N, 3)
        mixture = np.array([[1.0, 0.3, 0.2], [0.3, 1.0, -0.2], [0.7, 0.7, 0.0]])
        noise = self.noise * generator.standard_normal(parts.shape)
        return parts @ mixture.T + noise, ["by day", "by week", "by both"]
