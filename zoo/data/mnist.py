"""MNIST and Fashion-MNIST: 60,000 + 10,000 grey images of 28x28 pixels, 10 classes.

LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998.
Xiao, Rasul, Vollgraf, "Fashion-MNIST", 2017 (arXiv 1708.07747).

The published files are read where they lie, and nothing is written beside them.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from zoo.data.images import Images, Part, download, md5
from zoo.errors import UserError


def read_idx(path: Path, shape: tuple[int, ...], *, checksum: str | None = None) -> Tensor:
    """Reads an idx file: its kind and number of axes, the size of each axis, then bytes.

    Args:
        path: packed (`.gz`) or not.
        shape: what each item has to look like, () for labels and (28, 28) for images.
        checksum: MD5 of the file, where it is known.

    Returns:
        (N, *shape) uint8.

    Raises:
        UserError: the file is damaged or something else.
    """
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}); delete it and fetch it again.") from None
    num_axes = 1 + len(shape)
    magic, header = bytes([0, 0, 8, num_axes]), 4 + 4 * num_axes  # 8: unsigned bytes
    if content[:4] != magic or len(content) < header:
        raise UserError(
            f"{path} is no idx file of {num_axes} axes: it starts with {content[:4].hex() or 'nothing'}, "
            f"not {magic.hex()}; replace it by the published file."
        )
    found = struct.unpack_from(f">{num_axes}I", content, 4)
    if found[1:] != shape or len(content) - header != math.prod(found):
        raise UserError(
            f"{path} announces {'x'.join(map(str, found))} values of {'x'.join(['N', *map(str, shape)])} "
            f"and holds {len(content) - header}; delete it and fetch it again."
        )
    if checksum and md5(raw) != checksum:
        raise UserError(
            f"{path} is not the published file (its MD5 is {md5(raw)}, not {checksum}); "
            "delete it and fetch it again, or unpack it to use it as it is."
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(found).copy())


class Mnist(Images):
    """Images (1, S, S) of handwritten digits, with the official test part.

    Args:
        data_dir: holds `MNIST/raw/` with the four idx files, packed or not; they are downloaded where they are missing.
        image_size: S, 28 as published.
        val_size: training images set aside for validation.
        normalize, classes, leave_out, batch_size, eval_batch_size, seed, fraction, overfit: see `Images`.
    """

    class_names = tuple("0123456789")
    folder: ClassVar[str] = "MNIST"
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    )
    checksums: ClassVar[dict[str, str]] = {  # MD5 of each .gz, as torchvision has them
        "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
    }

    def __init__(
        self,
        *,
        data_dir: str,
        image_size: int = 28,
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
        self.raw = Path(data_dir).expanduser() / self.folder / "raw"

    def fetch(self) -> None:
        advice = (
            f"Put {', '.join(f'{name}.gz' for name in self.checksums)} into {self.raw}, "
            f"or let data_dir (or ZOO_DATA) name a folder that has {self.folder}/raw."
        )
        for name, checksum in self.checksums.items():
            if not (self.raw / name).is_file() and not (self.raw / f"{name}.gz").is_file():
                urls = [f"{mirror}{name}.gz" for mirror in self.mirrors]
                download(urls, self.raw, md5=checksum, advice=advice)

    def read(self) -> dict[str, Part]:
        return {"train": self._part("train"), "test": self._part("t10k")}

    def _part(self, prefix: str) -> Part:
        images = self._file(f"{prefix}-images-idx3-ubyte", (28, 28))
        labels = self._file(f"{prefix}-labels-idx1-ubyte", ())
        if len(images) != len(labels):
            raise UserError(
                f"{self.raw} has {len(images)} {prefix} images and {len(labels)} labels; "
                "delete both files and fetch them again."
            )
        if len(labels) and labels.max() >= len(self.class_names):
            raise UserError(
                f"{self.raw} has the {prefix} label {labels.max()}, but the classes are 0 to "
                f"{len(self.class_names) - 1}; delete the labels and fetch them again."
            )
        return images.unsqueeze(1), labels.long()  # (N, 1, 28, 28), (N,)

    def _file(self, name: str, shape: tuple[int, ...]) -> Tensor:
        packed = self.raw / f"{name}.gz"
        if packed.is_file():
            return read_idx(packed, shape, checksum=self.checksums[name])
        return read_idx(self.raw / name, shape)


class FashionMnist(Mnist):
    """Images (1, S, S) of clothes, made to take the place of MNIST: same sizes, harder. Same arguments as `Mnist`."""

    class_names = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    folder = "FashionMNIST"
    mirrors = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
    checksums: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
    }
