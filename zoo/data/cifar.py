"""CIFAR-10: 50,000 + 10,000 colour images of 32x32 pixels, 10 classes.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from zoo.data.images import Images, Part, download, md5
from zoo.errors import UserError


def _dtype(name: str, align: int, copy: int) -> np.dtype:
    return np.dtype(name, bool(align), bool(copy))  # numpy 2.4 warns of the old integers


class _ArraysOnly(pickle.Unpickler):
    """Reads containers, numbers, text and numpy arrays; a pickle that names anything else is refused, not run."""

    allowed: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return self.allowed[module, name]


def read_batch(path: Path, checksum: str) -> Part:
    """One of the six published files -> images (N, 3, 32, 32) uint8, labels (N,) int64.

    Raises:
        UserError: the file is missing, damaged or something else.
    """
    try:
        content = path.read_bytes()
        if md5(content) != checksum:
            raise ValueError(f"its MD5 is {md5(content)}, not {checksum}")
        batch = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
        images, labels = batch["data"].reshape(-1, 3, 32, 32), np.asarray(batch["labels"], np.int64)
    except Exception as error:  # a broken pickle raises whatever its bytes happen to mean
        raise UserError(f"{path} is not the published file ({error}); delete it and fetch it again.") from None
    return torch.from_numpy(images.copy()), torch.from_numpy(labels)


class Cifar10(Images):
    """Images (3, S, S) of ten kinds of things, with the official test part.

    Args:
        data_dir: holds `cifar-10-batches-py/`; it is downloaded where it is missing (170 MB).
        image_size: S, 32 as published.
        val_size: training images set aside for validation.
        normalize, classes, leave_out, batch_size, eval_batch_size, seed, fraction, overfit: see `Images`.
    """

    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    url: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    archive_checksum: ClassVar[str] = "c58f30108f718f92721af3b95e74349a"
    checksums: ClassVar[dict[str, str]] = {  # MD5 of each file, as torchvision has them
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    }

    def __init__(
        self,
        *,
        data_dir: str,
        image_size: int = 32,
        val_size: int = 5000,
        normalize: bool = True,
        classes: Sequence[int | str] | None = None,
        leave_out: Sequence[int | str] | None = None,
        batch_size: int | str = 128,
        eval_batch_size: int = 512,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            image_size=image_size,
            val_size=val_size,
            normalize=normalize,
            classes=classes,
            leave_out=leave_out,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            fraction=fraction,
            overfit=overfit,
        )
        self.folder = Path(data_dir).expanduser() / "cifar-10-batches-py"

    def fetch(self) -> None:
        if not all((self.folder / name).is_file() for name in self.checksums):
            advice = (
                f"Unpack {self.url} so that {self.folder} holds {', '.join(self.checksums)}, "
                f"or let data_dir (or ZOO_DATA) name a folder that has {self.folder.name}."
            )
            download([self.url], self.folder.parent, md5=self.archive_checksum, advice=advice, unpack=True)

    def read(self) -> dict[str, Part]:
        batches = {name: read_batch(self.folder / name, checksum) for name, checksum in self.checksums.items()}
        test = batches.pop("test_batch")
        images, labels = zip(*batches.values(), strict=True)
        return {"train": (torch.cat(images), torch.cat(labels)), "test": test}
