"""What a trained network knows of samples before its output layer, written down once for other networks to learn from.

    python scripts/predict.py ckpt=outputs/.../ input=photos/ features=features.npz
    python train.py model=mlp data=features data.path=features.npz

The features of a sample are what goes into the output layer. A linear model that is trained on them is what
`finetune=head` trains, without the frozen layers being run again in each epoch (and without augmentation, which would
need them). Samples pass through a chunk at a time, and the file grows on disk: memory does not grow with their number.

Axes: B samples in a chunk, N all samples, F features, K classes, labels or quantities
"""

import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo.checkpoint import check_targets, find, read
from zoo.data.base import PARTS, DataModule
from zoo.data.sheet import Sheet, class_name, is_missing
from zoo.errors import UserError, suggest
from zoo.layers.depth import entering, head
from zoo.trained.evaluate import build_data, prepare_torch
from zoo.trained.inputs import CHUNK, Inputs, Place, Prepared
from zoo.trained.predict import Predictor


class Chunk(NamedTuple):
    """Features (B, F) of some samples, their names, their labels (B,) or (B, K) and their parts, where known."""

    features: Tensor
    names: list[str]
    label: np.ndarray | None = None
    split: list[str] | None = None


@dataclass
class Known:
    """What is known of inputs beside themselves.

    Args:
        kind: "multiclass", "binary" or "regression"; empty where nothing is known.
        classes: K names.
        label: of each place, the number of its class, or its value.
        split: part of each place; empty where they are of one heap.
    """

    kind: str = ""
    classes: list[str] = field(default_factory=list)
    label: dict[Place, float] = field(default_factory=dict)
    split: dict[Place, str] = field(default_factory=dict)


@torch.inference_mode()
def features(predictor: Predictor, inputs: Prepared) -> Tensor:
    """What goes into the output layer: (B, F) float32 on the CPU. Raises UserError for a network that has none."""
    given = (inputs,) if isinstance(inputs, Tensor) else inputs
    try:
        found = entering(predictor.model, head(predictor.model), *(x.to(predictor.device) for x in given))
    except ValueError as error:
        network = type(predictor.model).__name__
        raise UserError(f"{network} has no output layer to take features from: {error}.") from error
    return found.flatten(1).float().cpu()


def of_inputs(predictor: Predictor, inputs: Inputs, known: Known, root: Path) -> Iterator[Chunk]:
    """Of inputs that a predictor has opened; `root` is what their names are relative to."""
    for places, prepared in inputs.chunks:
        names = [name_of(place, root) for place in places]
        label = np.array([known.label[place] for place in places]) if known.label else None
        split = [known.split[place] for place in places] if known.split else None
        if label is not None:
            label = label.astype(np.float32)[:, None] if known.kind == "regression" else label.astype(np.int64)
        yield Chunk(features(predictor, prepared), names, label, split)


def name_of(place: Place, root: Path) -> str:
    """`cats/3.png` below a folder, `row 2` of a file."""
    file, row = place
    if row is not None:
        return f"row {row}"
    return Path(file).relative_to(root).as_posix() if root.is_dir() else Path(file).name


def known_of(predictor: Predictor, path: Path, reading: Mapping[str, str]) -> Known:
    """What is known of the inputs at a path: class folders of images, a column of a table."""
    if path.is_dir():
        return known_images(path)
    return Known() if path.suffix.lower() == ".txt" else known_rows(predictor, path, reading)


def known_images(root: Path) -> Known:
    """Classes and parts of a folder where it is laid out as data=image_folder has it."""
    from zoo.data.image_folder import image_files, list_images

    try:
        listing = list_images(root)
    except UserError:
        return Known()
    if len(listing.files) != len(image_files(root)):  # some lie beside the class folders
        return Known()
    places: list[Place] = [(str(file), None) for file in listing.files]
    split = dict(zip(places, listing.parts.tolist(), strict=True)) if set(listing.parts) == set(PARTS) else {}
    return Known("multiclass", listing.class_names, dict(zip(places, listing.labels.tolist(), strict=True)), split)


def known_rows(predictor: Predictor, path: Path, reading: Mapping[str, str]) -> Known:
    """The column of a table that `target` names, else that of training where it is there."""
    from zoo.data.csv_file import read_csv

    if predictor.preprocessing["kind"] not in ("table", "text"):
        return Known()
    trained = predictor.data.get("target")
    given = {key: predictor.data[key] for key in ("separator", "encoding") if predictor.data.get(key)} | dict(reading)
    sheet = read_csv(path, min_columns=1, **{key: given[key] for key in ("separator", "encoding") if key in given})
    column = reading.get("target", trained if isinstance(trained, str) else None)
    if column not in sheet.columns:
        if "target" in reading:
            raise UserError(f"{path} has no column '{column}' (data.target){suggest(str(column), sheet.columns)}")
        return Known()
    return known_column(sheet, str(column), str(path), of_texts=predictor.preprocessing["kind"] == "text")


def known_column(sheet: Sheet, column: str, path: str, *, of_texts: bool) -> Known:
    """Classes, or quantities where the column has many numbers. Raises UserError for an empty cell.

    Args:
        of_texts: "None" and "NA" are names, and not missing.
    """
    from zoo.data.csv import find_regression

    cells = sheet.columns[column]
    empty = [i for i, cell in enumerate(cells) if (not cell if of_texts else is_missing(cell))]
    if empty:
        raise UserError(f"{sheet.missing(empty[0], column)}; fill it in, or delete the row.")
    places: list[Place] = [(path, row) for row in sheet.rows]
    if find_regression(sheet, column):
        return Known("regression", [column], dict(zip(places, sheet.numbers(column).tolist(), strict=True)))
    names = [class_name(cell) for cell in cells]
    classes = sorted(set(names))
    return Known("multiclass", classes, {place: classes.index(name) for place, name in zip(places, names, strict=True)})


def data_of(source: str, settings: Mapping[str, Any], allow: Sequence[str]) -> DataModule:
    """The data that a checkpoint was trained on, `settings` of which may be changed; its labels may be others.

    Raises:
        UserError: see `zoo.trained.evaluate.evaluate`.
    """
    checkpoint = read(find(source))
    check_targets(checkpoint["config"].get("data"), allow, "data")
    prepare_torch(checkpoint["config"])
    return build_data(checkpoint, settings, own_labels=False)


def of_data(predictor: Predictor, data: DataModule) -> Iterator[Chunk]:
    """Of every part of a data set."""
    facts = data.prepare().facts
    mean, spread = (np.array(facts.get(f"target_{key}", default)) for key, default in (("mean", 0.0), ("std", 1.0)))
    for part in (name for name in PARTS if name in data.prepare().parts):
        dataset: Any = data.part(part)
        for places in torch.arange(len(dataset)).split(CHUNK):
            batch = dataset[places]
            label = batch.targets.numpy()
            label = (label * spread + mean).astype(np.float32) if label.dtype.kind == "f" else label
            names = [f"{part} {place}" for place in places.tolist()]
            yield Chunk(features(predictor, batch.inputs), names, label, [part] * len(places))


def write(path: Path, chunks: Iterable[Chunk], kind: str, classes: Sequence[str]) -> tuple[int, int]:
    """Writes a .npz file, whole or not at all; returns N and F. See `zoo.data.features` for what it holds.

    Raises:
        UserError: there is no sample, or samples have different numbers of features.
    """
    names: list[str] = []
    rest: dict[str, list[Any]] = {"label": [], "split": []}
    width = 0
    unfinished = path.with_name(f"{path.name}.tmp")
    with tempfile.TemporaryFile(dir=path.parent) as spool:
        for chunk in chunks:
            if width and chunk.features.shape[1] != width:
                raise UserError("The network makes more features of longer inputs; only as many of each can be kept.")
            width = chunk.features.shape[1]
            spool.write(chunk.features.contiguous().numpy().astype("<f4").tobytes())
            names += chunk.names
            for key, values in (("label", chunk.label), ("split", chunk.split)):
                rest[key] += [] if values is None else [np.asarray(values)]
        if not names:
            raise UserError("None of the inputs could be read; no features are written.")
        arrays = {"names": np.array(names)} | {key: np.concatenate(values) for key, values in rest.items() if values}
        if "label" in arrays:
            arrays |= {"kind": np.array(kind), "classes": np.array([str(name) for name in classes])}
        try:
            pack(unfinished, spool, (len(names), width), arrays)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return len(names), width


def pack(path: Path, spool: Any, shape: tuple[int, int], arrays: Mapping[str, np.ndarray]) -> None:
    """The file as numpy.savez writes it, its largest array copied from disk to disk."""
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("features.npy", "w", force_zip64=True) as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            spool.seek(0)
            shutil.copyfileobj(spool, member)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
