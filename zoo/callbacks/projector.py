"""Word vectors in TensorBoard's projector, with their words as labels.

The projector reads tables from files beside the event file: one of vectors, one of labels, and a list of both.
TensorBoard's own writer adds new tables at each call; here the newest take the place of the older.
"""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from zoo.callbacks.showing import pictured, writers
from zoo.errors import UserError

FOLDER, CONFIG = "projector", "projector_config.pbtxt"
MOST = 10_000  # words; a browser draws no more with ease


def label(word: str) -> str:
    """A word on a line of its own, whatever it holds."""
    return word if word.strip() and word.isprintable() else repr(word)[1:-1]


def write(folder: Path, name: str, vectors: Tensor, words: list[str]) -> None:
    """Writes what the projector shows of a run.

    Args:
        folder: where the event file lies.
        name: of the tensor.
        vectors: (V, D).
        words: V labels.
    """
    rows = ["\t".join(f"{x:.6g}" for x in row) for row in vectors.tolist()]
    config = (
        f'embeddings {{\n  tensor_name: "{name}"\n  tensor_path: "{FOLDER}/{name}.tsv"\n'
        f'  metadata_path: "{FOLDER}/words.tsv"\n}}\n'
    )
    files = {f"{FOLDER}/{name}.tsv": rows, f"{FOLDER}/words.tsv": map(label, words), CONFIG: config.splitlines()}
    try:
        (folder / FOLDER).mkdir(exist_ok=True)
        for path, lines in files.items():
            half = folder / f"{path}.tmp"
            half.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            half.replace(folder / path)  # who reads sees the old file or the new one
    except OSError as error:
        raise UserError(f"The word vectors cannot be written to {folder}: {error.strerror}; free some space.") from None


class Projector(Callback):
    """The vectors of a model that has `vectors` (V, D), after epochs 1, 2, 4, 8, ... and the last.

    Args:
        most: words that are shown, the most frequent ones.
    """

    lean = True

    def __init__(self, most: int = MOST) -> None:
        self.most = most

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not pictured(trainer):
            return
        vectors: Any = getattr(pl_module.model, "vectors", None)
        tokenizer = getattr(trainer.datamodule, "tokenizer", None)
        if vectors is None or tokenizer is None or len(vectors) != len(tokenizer.tokens):
            return
        for writer in writers(trainer):
            shown = vectors[: self.most].detach().float().cpu()
            write(Path(writer.log_dir), "word_vectors", shown, tokenizer.tokens[: self.most])
