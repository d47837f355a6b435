"""TensorBoard's projector: word vectors with their words, or images where a network puts them, with their classes.

The projector reads tables from files beside the event file: one of vectors, one of labels, a picture of all images, and
a list of these. TensorBoard's own writer adds new tables at each call; here the newest take the place of the older.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from zoo.batches import ImageBatch
from zoo.callbacks.showing import first_batch, pictured, writers
from zoo.errors import UserError
from zoo.layers.depth import entering, head
from zoo.pictures.sprite import sprite

FOLDER, CONFIG = "projector", "projector_config.pbtxt"
MOST = 10_000  # words; a browser draws no more with ease
MOST_IMAGES, MOST_AXES = 500, 256


class Points(NamedTuple):
    """What the projector shows.

    name: of the table.
    vectors: (N, D).
    columns: {title: N labels}; one column needs no title.
    images: (N, C, H, W), or None.
    """

    name: str
    vectors: Tensor
    columns: Mapping[str, Sequence[str]]
    images: Tensor | None = None


def label(word: str) -> str:
    """A word on a line of its own, whatever it holds."""
    return word if word.strip() and word.isprintable() else repr(word)[1:-1]


def write(folder: Path, points: Points) -> None:
    """Writes what the projector shows of a run, whose event file lies in the folder."""
    rows = ["\t".join(f"{x:.6g}" for x in row) for row in points.vectors.tolist()]
    labels = ["\t".join(map(label, row)) for row in zip(*points.columns.values(), strict=True)]
    titles = ["\t".join(points.columns)] if len(points.columns) > 1 else []
    lines = [f'  tensor_name: "{points.name}"', f'  tensor_path: "{FOLDER}/{points.name}.tsv"']
    lines += [f'  metadata_path: "{FOLDER}/labels.tsv"']
    files = {f"{FOLDER}/{points.name}.tsv": as_bytes(rows), f"{FOLDER}/labels.tsv": as_bytes(titles + labels)}
    if points.images is not None:
        files[f"{FOLDER}/images.png"], (width, height) = sprite(points.images)
        size = f"single_image_dim: {width} single_image_dim: {height}"
        lines += [f'  sprite {{ image_path: "{FOLDER}/images.png" {size} }}']
    files[CONFIG] = as_bytes(["embeddings {", *lines, "}"])
    try:
        (folder / FOLDER).mkdir(exist_ok=True)
        for path, content in files.items():
            half = folder / f"{path}.tmp"
            half.write_bytes(content)
            half.replace(folder / path)  # who reads sees the old file or the new one
    except OSError as error:
        raise UserError(f"The projector's files cannot be written to {folder}: {error.strerror}; free space.") from None


def as_bytes(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def on_few_axes(vectors: Tensor) -> Tensor:
    """(N, D) -> (N, D), or on its first principal axes where D is more than the projector takes with ease."""
    if vectors.shape[1] <= MOST_AXES:
        return vectors
    centred = vectors - vectors.mean(0)
    return centred @ torch.linalg.svd(centred, full_matrices=False)[2][: min(MOST_AXES, len(vectors))].T


class Projector(Callback):
    """After epochs 1, 2, 4, 8, ... and the last, of a model that has `vectors` (V, D): these, with their words. Of a
    classifier of images: what goes into its output layer. Of an autoencoder of images: their codes.

    Args:
        most: words that are shown, the most frequent ones.
        most_images: of the validation part that are shown.
    """

    lean = True

    def __init__(self, most: int = MOST, most_images: int = MOST_IMAGES) -> None:
        self.most, self.most_images = most, most_images

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not pictured(trainer) or not writers(trainer):
            return
        points = self.words(trainer, pl_module) or self.images(trainer, pl_module)
        if points is not None:
            for writer in writers(trainer):
                write(Path(writer.log_dir), points)

    def words(self, trainer: Trainer, pl_module: LightningModule) -> Points | None:
        vectors: Any = getattr(pl_module.model, "vectors", None)
        tokenizer = getattr(trainer.datamodule, "tokenizer", None)
        if vectors is None or tokenizer is None or len(vectors) != len(tokenizer.tokens):
            return None
        shown = vectors[: self.most].detach().float().cpu()
        return Points("word_vectors", shown, {"word": tokenizer.tokens[: self.most]})

    def images(self, trainer: Trainer, pl_module: LightningModule) -> Points | None:
        batch = first_batch(trainer, "val", self.most_images) if self.most_images else None
        if not isinstance(batch, ImageBatch) or batch.label.ndim != 1:
            return None
        model: Any = pl_module.model
        classifies = hasattr(pl_module, "class_names") and hasattr(pl_module, "predict")
        was_training = pl_module.training
        pl_module.eval()
        with torch.no_grad():
            placed = before_the_end(model, batch.image) if classifies else codes(model, batch.image)
            said = pl_module.predict(model(batch.image)) if classifies else None
        pl_module.train(was_training)
        if placed is None or not placed.isfinite().all():
            return None
        names = trainer.datamodule.prepare().class_names
        columns = {"true": named(batch.label, names)} | ({} if said is None else {"said": named(said, names)})
        return Points("images", on_few_axes(placed.flatten(1).float().cpu()), columns, batch.image)


def before_the_end(model: Any, images: Tensor) -> Tensor | None:
    """What goes into the output layer, (B, ...); None where it is called several times."""
    try:
        return entering(model, head(model), images)
    except ValueError:
        return None


def codes(model: Any, images: Tensor) -> Tensor | None:
    """(B, Z), the means of those that are drawn; None of a model that has none, or is told more than the image."""
    if not hasattr(model, "encode") or getattr(model, "num_classes", None):
        return None
    found = model.encode(images)
    found = found if isinstance(found, Tensor) else found.mean
    return found if found.is_floating_point() else None


def named(labels: Tensor, names: Sequence[str]) -> list[str]:
    return [str(names[k]) if 0 <= k < len(names) else str(k) for k in labels.long().tolist()]
