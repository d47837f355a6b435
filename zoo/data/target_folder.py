"""Your own images, each with a file that says what is where in it: what `mask_folder` and `box_folder` have in common.

    root/images/a.jpg  root/<others>/a.*               split 70/15/15 by the seed
    root/train/images/a.jpg  root/train/<others>/a.*   and val/, test/ beside it; what is missing is cut from train

Axes: N images, C channels, H height, W width, K classes
"""

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from zoo.data.base import DataModule, InMemory, Loaded, checked_shares
from zoo.data.image_folder import CUT_SHARE, cut_from_train, image_files, part_folders
from zoo.data.images import ImagePreprocessing, adopt_pixels, check_size, fingerprint
from zoo.errors import UserError

ORIENTATION = 0x0112  # of a photo, in its EXIF data; from 5 on it lies on its side


class Pair(NamedTuple):
    image: Path
    other: Path


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture as it is to be looked at; of its pixels nothing is read."""
    with Image.open(path) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(ORIENTATION, 1) >= 5 else (width, height)


def by_name(place: Path, files: Iterable[Path]) -> dict[str, Path]:
    """Files below a folder by their names without endings. Raises UserError where two have the same."""
    files = list(files)
    found = {str(file.relative_to(place).with_suffix("")): file for file in files}
    if len(found) < len(files):
        raise UserError(f"{place} has several files of one name that differ in their endings; keep one of each.")
    return found


def read_side_by_side(read: Callable[[Pair], tuple[Any, ...]], pairs: Sequence[Pair]) -> list[tuple[Any, ...]]:
    """What `read` makes of each pair. Raises UserError, naming a file, where it raises one."""

    def read_or_say(pair: Pair) -> tuple[Any, ...] | str:
        try:
            return read(pair)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(read_or_say, pairs))
    if wrong := [one for one in found if isinstance(one, str)]:
        more = f" So are {len(wrong) - 1} more." if len(wrong) > 1 else ""
        raise UserError(wrong[0] + more)
    return [one for one in found if not isinstance(one, str)]


class TargetFolder(DataModule):
    """Images (C, S, S) from folders, and what is where in them, all in memory.

    Args:
        root: the folder; `~` is your home.
        classes: names of the K classes, the first of them that of number 0; None: their numbers, as many as there are.
        shares: of the training images for train, val and test; a part that has a folder of its own takes nothing.
        image_size: S. Images of any size are scaled to cover S x S and cropped to the centre.
        channels: C, 3 for colour or 1 for grey.
        normalize: to mean 0 and deviation 1 of the training part in each channel; False gives pixels in [0, 1].
        batch_size, eval_batch_size, seed, fraction, overfit: see `DataModule`.
    """

    others: ClassVar[str]  # name of the folder of what belongs to the images
    kind: ClassVar[str]
    counted: ClassVar[str]  # fact that says how many classes there are

    def __init__(
        self,
        *,
        root: str,
        classes: Sequence[str] | None = None,
        shares: Sequence[float] = (1 - 2 * CUT_SHARE, CUT_SHARE, CUT_SHARE),
        image_size: int = 64,
        channels: int = 3,
        normalize: bool = True,
        batch_size: int | str = 16,
        eval_batch_size: int = 64,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, fraction=fraction, overfit=overfit
        )
        check_size("image_size", image_size, 1)
        if channels not in (1, 3):
            raise UserError(f"data.channels={channels} must be 3 (colour) or 1 (grey).")
        self.root, self.shares, self.normalize = Path(root).expanduser(), checked_shares(shares), normalize
        self.classes = classes and self.checked([str(name) for name in classes])
        self.plain = ImagePreprocessing.plain(channels, image_size, image_size)

    @staticmethod
    def checked(classes: list[str]) -> list[str]:
        """Names, each of one class."""
        if twice := [name for name in classes if classes.count(name) > 1]:
            raise UserError(f"Two classes have the name '{twice[0]}'; give each a name of its own (data.classes=).")
        return classes

    @abstractmethod
    def other_files(self, place: Path) -> list[Path]:
        """The files below a folder that belong to images."""

    @abstractmethod
    def read(self, pairs: Sequence[Pair]) -> tuple[Tensor, ...]:
        """Images (N, C, S, S) uint8 and what is where in them, N rows each. Raises UserError, naming a file."""

    @abstractmethod
    def classes_of(self, targets: Sequence[Tensor]) -> Tensor:
        """The numbers of all classes that are there, in any order."""

    @abstractmethod
    def make_part(self, prepare: ImagePreprocessing, images: Tensor, *targets: Tensor) -> InMemory: ...

    def adopt(self, preprocessing: dict[str, Any]) -> str:
        return adopt_pixels(self, preprocessing, self.plain)

    def list_pairs(self, folder: Path) -> list[Pair]:
        """The images of a part with what belongs to them, in a fixed order. Raises UserError where one is alone."""
        places = [folder / "images", folder / self.others]
        if missing := [place for place in places if not place.is_dir()]:
            raise UserError(
                f"There is no folder {missing[0]}; put images into images/ and what belongs to them into "
                f"{self.others}/."
            )
        images, others = by_name(places[0], image_files(places[0])), by_name(places[1], self.other_files(places[1]))
        if not images:
            raise UserError(f"{places[0]} has no images.")
        alone = [f"{name} is only in images/" for name in images if name not in others]
        alone += [f"{name} is only in {self.others}/" for name in others if name not in images]
        if alone:
            more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
            raise UserError(f"In {folder} {', '.join(alone[:3])}{more}; both files of an image have the same name.")
        return [Pair(image, others[name]) for name, image in images.items()]

    def load(self) -> Loaded:
        if not self.root.is_dir():
            raise UserError(f"data.root={self.root} is no folder; give one that has images/ and {self.others}/.")
        listed = {part: self.list_pairs(folder) for part, folder in part_folders(self.root).items()}
        pairs = [pair for part in listed.values() for pair in part]
        images, *targets = self.read(pairs)
        names = self.named(self.classes_of(targets))
        numbers = torch.arange(len(pairs)).split([len(part) for part in listed.values()])
        split, notes = cut_from_train(dict(zip(listed, numbers, strict=True)), self.shares, seed=self.seed)
        prepare = self.prepared(images, split["train"])
        whole = self.make_part(prepare, images, *targets)
        places = [pair.image.relative_to(self.root).as_posix() for pair in pairs]
        return Loaded(
            parts={part: whole.take(indices) for part, indices in split.items()},
            facts={"kind": self.kind, "image_shape": list(images.shape[1:]), self.counted: len(names)},
            preprocessing=prepare.to_dict(),
            class_names=names,
            notes=notes,
            fingerprint=fingerprint([images, *targets]),
            names={part: [places[i] for i in indices.tolist()] for part, indices in split.items()},
        )

    def named(self, there: Tensor) -> list[str]:
        """The names of the classes, of which those `there` are in use."""
        highest = int(there.amax()) if len(there) else -1
        names = list(self.earlier_classes or self.classes or self.numbered(highest))
        if highest >= len(names):
            raise UserError(
                f"In {self.root} there is class {highest}, and there are {len(names)} classes: {', '.join(names)}."
            )
        return names

    def numbered(self, highest: int) -> list[str]:
        """What classes are called that have no names."""
        return [str(k) for k in range(highest + 1)]

    def prepared(self, images: Tensor, train: Tensor) -> ImagePreprocessing:
        if self.earlier is not None:
            prepare = ImagePreprocessing.from_dict(self.earlier)
            prepare.check(images)
            return prepare
        return ImagePreprocessing.fit(images[train]) if self.normalize else self.plain
