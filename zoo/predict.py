"""What a trained model says of new pictures, table rows, texts and series; its checkpoint alone suffices.

    predictor = load("outputs/.../")
    for answer in predictor.answers("photos/"):
        print(answer.file, answer.ranked[0])

A checkpoint holds the configuration, the names of the classes, and how inputs were prepared. Inputs are read and
answered a chunk at a time, so that memory does not grow with their number.

Axes: B inputs in a chunk, K classes, labels or target columns, L past steps of a series, H steps ahead of it
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.checkpoint import build_model, find, read
from zoo.errors import UserError, suggest
from zoo.losses.supervised import LOSSES
from zoo.purpose import misplaced, purpose

CHUNK = 64  # inputs that are in memory at a time
TABLE_ENDINGS = (".csv", ".tsv", ".txt")

Place = tuple[str, int | None]
Prepared = Tensor | tuple[Tensor, ...]  # what a model is called with, each (B, ...)


@dataclass(frozen=True)
class Answer:
    """What the model says of one input.

    Args:
        file, row: where the input came from; the row as in the file (the header of a table is row 1, a text is a line;
            of a forecast, where it will stand), None for a picture and a text that was typed.
        ranked: (class, probability or score), the best first. For several labels, or targets of a regression, all of
            them in the order of training: (label, probability or score), (target, value in its own units).
        because: where the answer comes from, for people; empty where nobody asked.
        explanation: the same as facts for a program.
    """

    file: str
    row: int | None
    ranked: list[tuple[str, float]]
    because: str = ""
    explanation: Mapping[str, Any] = field(default_factory=dict)


Explain = Callable[[list[Answer], Any], list[Answer]]  # answers to inputs (B, ...) -> the same with their reasons


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


@dataclass
class Predictor:
    """A trained model with what is needed to use it.

    Args:
        model: inputs -> (B, K), in evaluation mode.
        kind: "multiclass", "binary", "multilabel" or "regression".
        measure: what the numbers are: "probability", "score" or "value".
        names: of the K classes (2 for one logit), labels or target columns.
        preprocessing: of the checkpoint.
        data: settings of the data that it was trained on.
        device: where the model is.
        border: the probability or score above which one of two classes, or a label, holds.
    """

    model: nn.Module
    kind: str
    measure: str
    names: list[str]
    preprocessing: dict[str, Any]
    data: dict[str, Any]
    device: str = "cpu"
    border: float = 0.0

    def describe(self) -> str:
        """One line on what the numbers mean."""
        network = type(self.model).__name__
        if self.preprocessing["kind"] == "series":
            past, horizon = self.preprocessing["past"], self.preprocessing["horizon"]
            return (
                f"{network}: {', '.join(self.names)} of the {horizon} steps after the last, from {past}, in their own "
                "units."
            )
        if self.kind == "regression":
            return f"{network}: {', '.join(self.names)}, in the units of the training table."
        count = f"{len(self.names)} {'labels' if self.kind == 'multilabel' else 'classes'}"
        if self.measure == "score":
            return f"{network}: label and score, {count}; this model gives no probability."
        rule = {"multiclass": f"softmax over {count}", "binary": "sigmoid, two classes"}
        return f"{network}: label and probability ({rule.get(self.kind, f'a sigmoid for each of {count}')})."

    @torch.inference_mode()
    def measures(self, inputs: Prepared) -> Tensor:
        """-> (B, K): probabilities, scores, or values in the targets' own units; both classes of one logit."""
        given = (inputs,) if isinstance(inputs, Tensor) else inputs
        outputs = getattr(self.model, "scores", self.model)(*(x.to(self.device) for x in given)).cpu()
        series = self.preprocessing["kind"] == "series"
        if series:
            outputs = outputs.flatten(0, 1)  # (1, H, K) -> (H, K): a step is an answer
        if outputs.shape[1] != (1 if self.kind == "binary" else len(self.names)):
            raise UserError(f"The model gives {outputs.shape[1]} numbers an input, for {len(self.names)} names.")
        if self.kind == "regression":
            keys = ("mean", "std") if series else ("target_mean", "target_std")
            shift, spread = (self.preprocessing.get(key) for key in keys)
            return outputs if shift is None else outputs * torch.tensor(spread) + torch.tensor(shift)
        if self.measure == "probability" and not getattr(self.model, "gives_probabilities", False):
            outputs = outputs.softmax(1) if self.kind == "multiclass" else outputs.sigmoid()
        # The other class of one output is its mirror image: 1 - p of a probability, -a of a score with its border at 0.
        return torch.cat([2 * self.border - outputs, outputs], 1) if self.kind == "binary" else outputs

    def rank(self, measures: Tensor) -> list[tuple[str, float]]:
        """One row (K,) with names: the best first; as they come for several labels and for regression."""
        if self.kind in ("regression", "multilabel"):
            return list(zip(self.names, measures.tolist(), strict=True))
        order = measures.argsort(descending=True, stable=True).tolist()
        return [(self.names[k], float(measures[k])) for k in order]

    def open(self, path: str | Path, reading: Mapping[str, str] | None = None) -> Inputs:
        """The inputs at a path, not yet read.

        Args:
            path: for a model of images a picture or a folder, for one of tables or series a CSV file, for one of texts
                a CSV file or a text file with one text a line.
            reading: `separator` and `encoding` of the file and its column of texts (`text`), where they are not those
                of training.

        Raises:
            UserError: there is nothing, or nothing of the kind that the model was trained on.
        """
        path = Path(path).expanduser()
        if not path.exists():
            raise UserError(f"There is nothing at {path}; input= takes a file or a folder that is there.")
        return READERS[self.preprocessing["kind"]](self, path, reading or {})

    def typed(self, text: str) -> Inputs:
        """A single text. Raises UserError where it is empty, or the model was not trained on texts."""
        kind = self.preprocessing["kind"]
        if kind != "text":
            several = kind if kind.endswith("s") else f"{kind}s"
            raise UserError(f"text= is for models of texts, and this one knows {several}; use input=.")
        if not text.strip():
            raise UserError("text= is empty; give it a text, in quotes.")
        return inputs_of_texts(self, [(text, None)], [text], "In the text")

    def answers(self, inputs: Inputs | str | Path, explain: Explain | None = None) -> Iterator[Answer]:
        """One answer after another, in the order of the inputs (files by name, rows as in the file)."""
        opened = inputs if isinstance(inputs, Inputs) else self.open(inputs)
        for places, prepared in opened.chunks:
            answers = self.chunk(places, prepared)
            yield from answers if explain is None else explain(list(answers), prepared)

    def chunk(self, places: list[Place], prepared: Prepared) -> Iterator[Answer]:
        """The answers to inputs of those places."""
        for (file, row), measures in zip(places, self.measures(prepared), strict=True):
            if not measures.isfinite().all():
                raise UserError(f"The model gives no finite number for {file}; did its training go wrong?")
            yield Answer(file, row, self.rank(measures))

    def words(self, name: str, number: float) -> str:
        """One of what is ranked, for people."""
        forms = {"probability": "{} ({:.1%})", "score": "{} ({:.4g})", "value": "{} {:.6g}"}
        return forms[self.measure].format(name, number)

    def text(self, answer: Answer, top: int = 3) -> str:
        """One line for people, with the `top` best classes."""
        shown = answer.ranked[:top] if self.kind in ("multiclass", "binary") else answer.ranked
        place = answer.file if answer.row is None else f"row {answer.row}"
        because = f"; {answer.because}" if answer.because else ""
        return f"{place}: {', '.join(self.words(*pair) for pair in shown)}{because}"

    def json(self, answer: Answer, top: int = 3) -> str:
        """One line of JSON, with the `top` best classes in full precision, or with all labels and those that hold."""
        place = {"input": answer.file} | ({} if answer.row is None else {"row": answer.row})
        reason = {"explanation": answer.explanation} if answer.explanation else {}
        if self.kind == "regression":
            return json.dumps(place | {"values": dict(answer.ranked)} | reason)
        if self.kind == "multilabel":
            plural = "probabilities" if self.measure == "probability" else "scores"
            hold = [name for name, value in answer.ranked if value > self.border]
            return json.dumps(place | {"labels": hold, plural: dict(answer.ranked)} | reason)
        pairs = [{"label": name, self.measure: value} for name, value in answer.ranked]
        return json.dumps(place | pairs[0] | {"top": pairs[:top]} | reason)


def open_images(predictor: Predictor, path: Path, reading: Mapping[str, str]) -> Inputs:
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
    prepare = loaded(ImagePreprocessing.from_dict, predictor.preprocessing)
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


def open_table(predictor: Predictor, path: Path, reading: Mapping[str, str]) -> Inputs:
    """The rows of a CSV file: columns are found by their names, others than those of training are left alone."""
    from zoo.data.csv import read_csv
    from zoo.data.table_preprocessing import TablePreprocessing

    prepare = loaded(TablePreprocessing.from_dict, predictor.preprocessing)
    columns = ", ".join(column.name for column in prepare.columns)
    if path.is_dir() or path.suffix.lower() in image_endings():
        kind = "a folder" if path.is_dir() else "an image"
        raise UserError(f"{path} is {kind}, and this model was trained on a table; give it a CSV file with {columns}.")
    given = {key: predictor.data[key] for key in ("separator", "encoding") if predictor.data.get(key)} | dict(reading)
    sheet = read_csv(path, min_columns=1, **given)
    places: list[Place] = [(str(path), row) for row in sheet.rows]
    x, notes = prepare.encode(sheet)  # (N, F)
    chunks = ((places[i : i + CHUNK], x[i : i + CHUNK]) for i in range(0, len(places), CHUNK))
    return Inputs(len(places), chunks, notes=[f"In {path} {note}" for note in notes])


def open_texts(predictor: Predictor, path: Path, reading: Mapping[str, str]) -> Inputs:
    """The lines of a text file, or the texts of a CSV file; those that are empty are left out."""
    if path.is_dir() or path.suffix.lower() in image_endings():
        kind = "a folder" if path.is_dir() else "an image"
        raise UserError(
            f"{path} is {kind}, and this model was trained on texts; give it a .txt or .csv file, or text=."
        )
    given = {key: predictor.data[key] for key in ("separator", "encoding", "text") if predictor.data.get(key)}
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
    inputs = inputs_of_texts(predictor, places, texts, f"In {path}")
    inputs.total, inputs.unreadable = len(found), empty
    return inputs


def texts_of_table(path: Path, given: Mapping[str, str]) -> list[tuple[int, str]]:
    """Row and text of each row of a CSV file, from the column that `text` names, else its only one or `text`."""
    from zoo.data.csv import read_csv

    reading = {key: given[key] for key in ("separator", "encoding") if key in given}
    sheet = read_csv(path, min_columns=1, **reading)
    only = next(iter(sheet.columns)) if len(sheet.columns) == 1 else "text"
    column = str(given.get("text", only))
    if column not in sheet.columns:
        raise UserError(
            f"{path} has no column '{column}'; choose one with data.text=. There is: {', '.join(sheet.columns)}."
        )
    return list(zip(sheet.rows, (str(cell or "") for cell in sheet.columns[column]), strict=True))


def inputs_of_texts(predictor: Predictor, places: list[Place], texts: list[str], where: str) -> Inputs:
    """Texts as a model of texts takes them, padded to the longest of a chunk."""
    from zoo.data.texts import TextPreprocessing

    tokens, notes = loaded(TextPreprocessing.from_dict, predictor.preprocessing).encode(texts)

    def chunks() -> Iterator[tuple[list[Place], Prepared]]:
        for start in range(0, len(places), CHUNK):
            padded, mask = tokens[torch.arange(start, min(start + CHUNK, len(places)))]  # (B, T), (B, T)
            yield places[start : start + CHUNK], (padded.long(), mask)

    return Inputs(len(places), chunks(), notes=[f"{where} {note}" for note in notes])


def open_series(predictor: Predictor, path: Path, reading: Mapping[str, str]) -> Inputs:
    """The last steps of a CSV file: the past of those to come, of which each is answered by itself."""
    from zoo.data.csv import read_csv
    from zoo.data.series import SeriesPreprocessing, column_of

    prepare = loaded(SeriesPreprocessing.from_dict, predictor.preprocessing)
    columns = ", ".join(prepare.columns)
    if path.is_dir() or path.suffix.lower() in image_endings():
        kind = "a folder" if path.is_dir() else "an image"
        raise UserError(f"{path} is {kind}, and this model was trained on a series; give it a CSV file with {columns}.")
    given = {key: predictor.data[key] for key in ("separator", "encoding") if predictor.data.get(key)} | dict(reading)
    sheet = read_csv(path, min_columns=1, **{key: given[key] for key in ("separator", "encoding") if key in given})
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
    return Inputs(prepare.horizon, [(places, past)])


def image_endings() -> set[str]:
    from zoo.data.image_folder import EXTENSIONS

    return EXTENSIONS


def open_features(predictor: Predictor, path: Path, reading: Mapping[str, str]) -> Inputs:
    """The samples of a file that `zoo.features` wrote."""
    from zoo.data.features import prepared, read_features

    stored = read_features(path)
    x = prepared(stored.features, predictor.preprocessing, path)  # (N, F)
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


def load(source: str | Path, allow: Sequence[str] = ()) -> Predictor:
    """The model of a checkpoint, ready to be used, on the GPU where there is one.

    Args:
        source: run folder (its best), or .ckpt.
        allow: see `zoo.checkpoint.load_model`.

    Raises:
        UserError: no checkpoint, one that was refused, or one of a model that answers with neither labels nor values.
    """
    path = find(source)
    checkpoint = read(path)
    model = build_model(checkpoint, path, allow)
    kind, measure, border = answer_kind(checkpoint, model, path)
    config, preprocessing = checkpoint["config"], checkpoint["preprocessing"]
    names = [str(name) for name in checkpoint.get("classes") or []] or numbered(config, kind)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Predictor(model.to(device), kind, measure, names, preprocessing, config.get("data") or {}, device, border)


def numbered(config: dict[str, Any], kind: str) -> list[str]:
    """Names where the data had none."""
    size = config["task"].get("num_targets" if kind == "regression" else "num_classes") or 1
    return [str(k) for k in range(size)]


def answer_kind(checkpoint: Mapping[str, Any], model: nn.Module, path: Path) -> tuple[str, str, float]:
    """(kind, measure, border) of a checkpoint's task and its model; see `Predictor`.

    Raises:
        UserError: inputs that nobody here can open, or another answer than labels and values.
    """
    task = checkpoint["config"].get("task") or {}
    name, kind = str(task.get("_target_", "")).rpartition(".")[2], str(task.get("kind"))
    preprocessing = checkpoint.get("preprocessing")
    if not isinstance(preprocessing, dict) or not preprocessing.get("kind"):
        raise UserError(f"{path} cannot be used on new inputs: it does not say how they are prepared.")
    opened = purpose(checkpoint)[1] in READERS
    if opened and name in ("Regression", "Forecasting"):
        return "regression", "value", 0.0
    if not opened or name != "Classification" or kind not in ("multiclass", "binary", "multilabel"):
        raise misplaced(path, checkpoint, "answers with neither labels nor values", "python train.py model=lenet5")
    loss = LOSSES.get(str(task.get("loss")))
    if loss is None or hasattr(model, "scores"):
        return kind, "score", 0.0
    # Sigmoids of several classes need not sum to 1.
    rivals = kind == "multiclass" and type(getattr(model, "output_activation", None)).__name__ == "Sigmoid"
    if loss.takes == "logits" or (getattr(model, "gives_probabilities", False) and not rivals):
        return kind, "probability", 0.5
    return kind, "score", loss.border
