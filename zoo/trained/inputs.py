"""New pictures, table rows, texts, series and features, read and prepared as a trained model has seen its own.

They are read a chunk at a time, so that memory does not grow with their number.

Axes: B inputs in a chunk, N all of them, L past steps of a series, K columns, F features, T tokens
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from zoo.errors import UserError, suggest

CHUNK = 64  # inputs that are in memory at a time
TABLE_ENDINGS = (".csv", ".tsv", ".txt")

Place = tuple[str, int | None]
Prepared = Tensor | tuple[Tensor, ...]  # what a model is called with, each (B, ...)


class Trained(Protocol):
    """What is known of a model here: how its inputs are prepared, and the settings of the data it was trained on."""

    preprocessing: dict[str, Any]
    data: dict[str, Any]


@dataclass
class Inputs:
    """Inputs that wait to be read.

    Args:
        total: how many there are.
        chunks: (B places, prepared inputs) a chunk at a time; a place is a file and perhaps a row of it.
        unreadable: one line for each input that could not be read, filled while the chunks are read.
        notes: what the user should know, a line each.
    """

    total: int
    chunks: Iterable[tuple[list[Place], Prepared]]
    unreadable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def open_images(model: Trained, path: Path, reading: Mapping[str, str]) -> Inputs:
    """A picture, or every picture below a folder in the order of their names; those that are broken are left out."""
    from zoo.data.image_folder import image_files
    from zoo.data.images import ImagePreprocessing

    files = image_files(path) if path.is_dir() else [path]
    if path.suffix.lower() in TABLE_ENDINGS and path.is_file():
        raise UserError(
            f"{path} looks like a table, and this model was trained on images; give it an image or a folder."
        )
    if not files:
        raise UserError(f"There is no image in {path}; input= takes an image or a folder with images.")
    prepare = loaded(ImagePreprocessing.from_dict, model.preprocessing)
    unreadable: list[str] = []

    def attempt(file: Path) -> Tensor | UserError:
        try:
            return prepare.open(file)
        except UserError as error:
            return error

    def chunks() -> Iterator[tuple[list[Place], Tensor]]:
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(files), CHUNK):
                some = files[start : start + CHUNK]
                results = list(zip(some, pool.map(attempt, some), strict=True))
                unreadable.extend(str(result) for _, result in results if isinstance(result, UserError))
                good = [(str(file), result) for file, result in results if isinstance(result, Tensor)]
                if good:
                    images = torch.stack([image for _, image in good])  # (B, C, H, W)
                    yield [(file, None) for file, _ in good], prepare(images)

    return Inputs(len(files), chunks(), unreadable)


def open_table(model: Trained, path: Path, reading: Mapping[str, str]) -> Inputs:
    """The rows of a CSV file: columns are found by their names, others than those of training are left alone."""
    from zoo.data.csv_file import read_csv
    from zoo.data.table_preprocessing import TablePreprocessing

    prepare = loaded(TablePreprocessing.from_dict, model.preprocessing)
    columns = ", ".join(column.name for column in prepare.columns)
    if path.is_dir() or path.suffix.lower() in image_endings():
        kind = "a folder" if path.is_dir() else "an image"
        raise UserError(f"{path} is {kind}, and this model was trained on a table; give it a CSV file with {columns}.")
    given = {key: model.data[key] for key in ("separator", "encoding") if model.data.get(key)} | dict(reading)
    sheet = read_csv(path, min_columns=1, commas=prepare.commas, **given)
    places: list[Place] = [(str(path), row) for row in sheet.rows]
    x, notes = prepare.encode(sheet)  # (N, F)
    notes = [*sheet.notes, *notes]
    chunks = ((places[i : i + CHUNK], x[i : i + CHUNK]) for i in range(0, len(places), CHUNK))
    return Inputs(len(places), chunks, notes=[f"In {path} {note}" for note in notes])


def open_texts(model: Trained, path: Path, reading: Mapping[str, str]) -> Inputs:
    """The lines of a text file, or the texts of a CSV file; those that are empty are left out."""
    if path.is_dir() or path.suffix.lower() in image_endings():
        kind = "a folder" if path.is_dir() else "an image"
        raise UserError(
            f"{path} is {kind}, and this model was trained on texts; give it a .txt or .csv file, or text=."
        )
    given = {key: model.data[key] for key in ("separator", "encoding", "text") if model.data.get(key)}
    if path.suffix.lower() == ".txt":
        from zoo.data.corpus import read_file

        lines = read_file(path, reading.get("encoding", "utf-8-sig")).rstrip("\n").split("\n")
        found = list(enumerate(lines, start=1))
    else:
        found = texts_of_table(path, given | dict(reading))
    places: list[Place] = [(str(path), row) for row, text in found if text.strip()]
    empty = [f"{path}, row {row}: the text is empty." for row, text in found if not text.strip()]
    if not places:
        raise UserError(f"{path} has no text; it needs one in each row.")
    texts = [text for _, text in found if text.strip()]
    inputs = inputs_of_texts(model, places, texts, f"In {path}")
    inputs.total, inputs.unreadable = len(found), empty
    return inputs


def texts_of_table(path: Path, given: Mapping[str, str]) -> list[tuple[int, str]]:
    """Row and text of each row of a CSV file, from the column that `text` names, else its only one or `text`."""
    from zoo.data.csv_file import read_csv

    reading = {key: given[key] for key in ("separator", "encoding") if key in given}
    sheet = read_csv(path, min_columns=1, **reading)
    only = next(iter(sheet.columns)) if len(sheet.columns) == 1 else "text"
    column = str(given.get("text", only))
    if column not in sheet.columns:
        raise UserError(
            f"{path} has no column '{column}'; choose one with data.text=. There is: {', '.join(sheet.columns)}."
        )
    return list(zip(sheet.rows, (str(cell or "") for cell in sheet.columns[column]), strict=True))


def inputs_of_texts(model: Trained, places: list[Place], texts: list[str], where: str) -> Inputs:
    """Texts as a model of texts takes them, padded to the longest of a chunk."""
    from zoo.data.texts import TextPreprocessing

    tokens, notes = loaded(TextPreprocessing.from_dict, model.preprocessing).encode(texts)

    def chunks() -> Iterator[tuple[list[Place], Prepared]]:
        for start in range(0, len(places), CHUNK):
            padded, mask = tokens[torch.arange(start, min(start + CHUNK, len(places)))]  # (B, T), (B, T)
            yield places[start : start + CHUNK], (padded.long(), mask)

    return Inputs(len(places), chunks(), notes=[f"{where} {note}" for note in notes])


def open_series(model: Trained, path: Path, reading: Mapping[str, str]) -> Inputs:
    """The last steps of a CSV file: the past of those to come, of which each is answered by itself."""
    from zoo.data.csv_file import read_csv
    from zoo.data.series import column_of
    from zoo.data.series_preprocessing import SeriesPreprocessing

    prepare = loaded(SeriesPreprocessing.from_dict, model.preprocessing)
    columns = ", ".join(prepare.columns)
    if path.is_dir() or path.suffix.lower() in image_endings():
        kind = "a folder" if path.is_dir() else "an image"
        raise UserError(f"{path} is {kind}, and this model was trained on a series; give it a CSV file with {columns}.")
    given = {key: model.data[key] for key in ("separator", "encoding") if model.data.get(key)} | dict(reading)
    reading = {key: given[key] for key in ("separator", "encoding") if key in given}
    sheet = read_csv(path, min_columns=1, commas=prepare.commas, **reading)
    for name in prepare.columns:
        if name not in sheet.columns:
            raise UserError(f"{path} has no column {name!r}{suggest(name, sheet.columns)}")
    if len(sheet) < prepare.past:
        raise UserError(
            f"{path} has {len(sheet)} steps, and this model forecasts from {prepare.past} (data.past of its training); "
            "give it as many."
        )
    last = sheet.take(range(len(sheet) - prepare.past, len(sheet)))
    past = prepare(np.stack([column_of(last, name) for name in prepare.columns], axis=1))[None]  # (1, L, K)
    places: list[Place] = [(str(path), last.rows[-1] + step) for step in range(1, prepare.horizon + 1)]
    return Inputs(prepare.horizon, [(places, past)], notes=[f"In {path} {note}" for note in sheet.notes])


def image_endings() -> set[str]:
    from zoo.data.image_folder import EXTENSIONS

    return EXTENSIONS


def open_features(model: Trained, path: Path, reading: Mapping[str, str]) -> Inputs:
    """The samples of a file that `zoo.trained.features` wrote."""
    from zoo.data.features import prepared, read_features

    stored = read_features(path)
    x = prepared(stored.features, model.preprocessing, path)  # (N, F)
    places: list[Place] = [(name, None) for name in stored.names]
    chunks = ((places[i : i + CHUNK], x[i : i + CHUNK]) for i in range(0, len(places), CHUNK))
    return Inputs(len(places), chunks)


READERS: dict[str, Callable[..., Inputs]] = {
    "image": open_images,
    "table": open_table,
    "text": open_texts,
    "series": open_series,
    "features": open_features,
}


def loaded(from_dict: Callable[[dict[str, Any]], Any], preprocessing: dict[str, Any]) -> Any:
    """The preprocessing of a checkpoint. Raises UserError where it is not as this version writes it."""
    try:
        return from_dict(preprocessing)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"How the checkpoint prepares inputs is not understood ({error}).") from error
