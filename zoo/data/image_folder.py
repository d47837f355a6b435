"""Your own images, one folder a class.

    root/cats/*.jpg  root/dogs/*.jpg            split 70/15/15 by the seed, each class alike
    root/train/cats/*.jpg  root/val/cats/...    these parts; what is missing of val and test is cut from train

Axes: N files, B batch, C channels, H height, W width
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.batches import ImageBatch
from zoo.data.base import PARTS, DataModule, InMemory, Loaded, checked_shares, split_indices
from zoo.data.images import ImagePreprocessing, adopt_pixels, check_size, image_facts
from zoo.errors import UserError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}
PART_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
CUT_SHARE = 0.15  # of the training images, for each of val and test that is missing
SAMPLE_SIZE = 1000  # images that mean and deviation are taken from where not all are in memory


class LazyImages(Dataset):
    """Image files that are read when a batch asks for them; an index tensor gives a whole batch.

    Args:
        preprocessing: opens and normalizes.
        files: N paths.
        labels: (N,) int64.
    """

    def __init__(self, preprocessing: ImagePreprocessing, files: list[Path], labels: Tensor) -> None:
        self.preprocessing, self.files, self.labels = preprocessing, files, labels

    def __len__(self) -> int:
        return len(self.files)

    @property
    def make_batch(self) -> Callable[[Tensor, Tensor], ImageBatch]:
        return self.preprocessing.batch

    def __getitem__(self, indices: Tensor) -> ImageBatch:
        """(B,) indices -> B images, in that order. Raises UserError, naming the file, for a corrupt one."""
        return self.make_batch(*self.rows(indices))

    def rows(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) indices -> B images as they were read, (B, C, H, W) uint8, and their labels."""
        images = empty(self.preprocessing, len(indices))
        for image, index in zip(images, indices.tolist(), strict=True):
            image[:] = self.preprocessing.open(self.files[index]).numpy()
        return torch.from_numpy(images), self.labels[indices]

    def take(self, indices: Tensor) -> "LazyImages":
        return LazyImages(self.preprocessing, [self.files[i] for i in indices.tolist()], self.labels[indices])


@dataclass
class Listing:
    """The files that were found, in a fixed order.

    files: N paths; labels: (N,) int64 class indices; parts: (N,) the name of the part that each lies in.
    """

    files: list[Path]
    labels: np.ndarray
    parts: np.ndarray
    class_names: list[str]

    def keep(self, indices: np.ndarray) -> "Listing":
        files = [self.files[i] for i in indices]
        return Listing(files, self.labels[indices], self.parts[indices], self.class_names)

    def relabel(self, class_names: list[str]) -> "Listing":
        """The same files with the labels of an earlier run. Raises UserError for a class that it did not have."""
        new = [name for name in self.class_names if name not in class_names]
        if new:
            raise UserError(
                f"The model was not trained on the class folders {', '.join(new)}; it knows {', '.join(class_names)}."
            )
        place = np.array([class_names.index(name) for name in self.class_names], np.int64)
        return Listing(self.files, place[self.labels], self.parts, class_names)

    def fingerprint(self, root: Path) -> str:
        """Of names and sizes: contents would have to be read for it, and a lazy data set is not."""
        names = "".join(f"{file.relative_to(root).as_posix()}\0{file.stat().st_size}\n" for file in self.files)
        return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()[:16]


def visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in {"__macosx", "thumbs.db"}


def subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and visible(path.name))


def image_files(folder: Path) -> list[Path]:
    """Every image below `folder`, however deep, in a fixed order."""
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = filter(visible, folders)
        files += [Path(parent, name) for name in names if visible(name) and Path(name).suffix.lower() in EXTENSIONS]
    return sorted(files)


def part_folders(root: Path) -> dict[str, Path]:
    """The folder of each part; `root` itself is the training part where class folders lie directly in it."""
    found: dict[str, Path] = {}
    for folder in subfolders(root):
        for part, names in PART_FOLDERS.items():
            if folder.name.lower() in names:
                if part in found:
                    raise UserError(f"{root} has both {found[part].name}/ and {folder.name}/; keep one of them.")
                found[part] = folder
    if found and "train" not in found:
        raise UserError(f"{root} has {', '.join(f'{path.name}/' for path in found.values())} but no train/; add it.")
    return found or {"train": root}


def list_classes(folder: Path, *, fewest: int = 2) -> dict[str, list[Path]]:
    """The images of each class folder. Raises UserError where they are fewer, or one has no images."""
    classes = {path.name: image_files(path) for path in subfolders(folder)}
    endings = " ".join(sorted(ending[1:] for ending in EXTENSIONS))
    if not any(classes.values()):
        raise UserError(f"{folder} has no images in class folders; put them into {folder}/<class>/ ({endings}).")
    if empty_classes := [name for name, files in classes.items() if not files]:
        raise UserError(f"{folder} has class folders without images ({endings}): {', '.join(empty_classes)}.")
    if len(classes) < fewest:
        name = next(iter(classes))
        raise UserError(f"{folder} has one class folder only, '{name}'; add another, or let root name the one above.")
    return classes


def list_images(root: Path, *, of_known: bool = False) -> Listing:
    """Finds all images of all parts. Raises UserError where the folders do not make a data set.

    Args:
        of_known: a network that knows its classes is asked about these: one is enough, and each part may have others.
    """
    if not root.exists():
        raise UserError(f"data.root={root} does not exist; give a folder that has one folder of images a class.")
    if not root.is_dir():
        raise UserError(f"data.root={root} is a file; give a folder that has one folder of images a class.")
    folders = part_folders(root)
    parts = {part: list_classes(folder, fewest=1 if of_known else 2) for part, folder in folders.items()}
    names = sorted({name for classes in parts.values() for name in classes} if of_known else parts["train"])
    for part, classes in ({} if of_known else parts).items():
        odd = [f"{name} is only in {folders['train'].name}/" for name in names if name not in classes]
        odd += [f"{name} is only in {folders[part].name}/" for name in sorted(classes) if name not in names]
        if odd:
            raise UserError(f"The class folders in {root} differ: {', '.join(odd)}. Give each part the same ones.")
    rows = [(file, names.index(name), part) for part in parts for name in names for file in parts[part].get(name, ())]
    files, labels, of_part = zip(*rows, strict=True)
    return Listing(list(files), np.array(labels, np.int64), np.array(of_part), names)


def cut_from_train(
    places: dict[str, Tensor], shares: tuple[float, float, float], *, seed: int, labels: np.ndarray | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """The places of each part, those of parts that have none cut from train by the seed, and what to say of it.

    Args:
        places: of the samples of each part among all.
        shares: of train, val and test; of one that is 0 nothing is cut.
        labels: of all samples; given, each class is cut alike.
    """
    wanted, train = dict(zip(PARTS, shares, strict=True)), places["train"]
    split = {name: indices for name, indices in places.items() if len(indices)}
    missing = [name for name in ("val", "test") if name not in split and wanted[name]]
    if not missing:
        return split, []
    val, test = (wanted[name] if name in missing else 0.0 for name in ("val", "test"))
    of_train = None if labels is None else labels[train.numpy()]
    cut = split_indices(len(train), (1 - val - test, val, test), seed=seed, labels=of_train)._asdict()
    split |= {name: train[cut[name]] for name in ("train", *missing)}
    sizes = " and ".join(f"{len(split[name])} for {name}" for name in missing)
    note = f"No folder for {' and '.join(missing)}: {sizes} cut by the seed from {len(train)} images."
    return {name: indices for name, indices in split.items() if len(indices)}, [note]


def empty(preprocessing: ImagePreprocessing, num_images: int) -> np.ndarray:
    shape = (num_images, preprocessing.channels, preprocessing.height, preprocessing.width)
    return np.empty(shape, np.uint8)


def read_all(preprocessing: ImagePreprocessing, files: list[Path], images: np.ndarray | None) -> list[int]:
    """Reads the files in parallel.

    Args:
        images: (N, C, H, W) uint8, filled in the order of `files`; None only tries whether they can be read.

    Returns:
        positions of the files that cannot be read.
    """

    def is_corrupt(index: int) -> bool:
        try:
            image = preprocessing.open(files[index])
        except UserError:
            return True
        if images is not None:
            images[index] = image.numpy()
        return False

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [index for index, corrupt in enumerate(pool.map(is_corrupt, range(len(files)))) if corrupt]


class ImageFolder(DataModule):
    """Images (C, S, S) from folders; see the top of this file for where they lie.

    Args:
        root: the folder; `~` is your home.
        shares: of the training images for train, val and test; a part that has a folder of its own takes nothing.
        image_size: S. Images of any size are scaled to cover S x S and cropped to the centre.
        channels: C, 3 for colour or 1 for grey.
        normalize: to mean 0 and deviation 1 of the training part in each channel; False gives pixels in [0, 1].
        in_memory_mb: images are read once where they fit this many MiB, else when a batch needs them.
        skip_corrupt: leave out files that cannot be read, instead of stopping. Reads each file once at the start.
        num_workers: processes that read images where they do not lie in memory.
        batch_size, eval_batch_size, seed, fraction, overfit: see `DataModule`.
    """

    def __init__(
        self,
        *,
        root: str,
        shares: Sequence[float] = (1 - 2 * CUT_SHARE, CUT_SHARE, CUT_SHARE),
        image_size: int = 64,
        channels: int = 3,
        normalize: bool = True,
        in_memory_mb: float = 1024,
        skip_corrupt: bool = False,
        batch_size: int | str = 64,
        eval_batch_size: int = 512,
        seed: int = 0,
        fraction: float = 1.0,
        num_workers: int = 0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            fraction=fraction,
            num_workers=num_workers,
            overfit=overfit,
        )
        check_size("image_size", image_size, 1)
        if channels not in (1, 3):
            raise UserError(f"data.channels={channels} must be 3 (colour) or 1 (grey).")
        self.shares = checked_shares(shares)
        self.root, self.normalize = Path(root).expanduser(), normalize
        self.in_memory_mb, self.skip_corrupt = in_memory_mb, skip_corrupt
        self.plain = ImagePreprocessing.plain(channels, image_size, image_size)

    def adopt(self, preprocessing: dict[str, Any]) -> str:
        return adopt_pixels(self, preprocessing, self.plain)

    def load(self) -> Loaded:
        listing = list_images(self.root, of_known=bool(self.earlier_classes))
        if self.earlier_classes:
            listing = listing.relabel(self.earlier_classes)
        notes: list[str] = []
        pixels = len(listing.files) * self.plain.channels * self.plain.height * self.plain.width
        images = empty(self.plain, len(listing.files)) if pixels <= self.in_memory_mb * 2**20 else None
        if images is not None or self.skip_corrupt:
            good = self._check(listing, read_all(self.plain, listing.files, images), notes)
            if len(good) < len(listing.files):
                listing, images = listing.keep(good), None if images is None else images[good]
        split = self._split(listing, notes)
        if self.earlier is not None:
            preprocessing = ImagePreprocessing.from_dict(self.earlier)
            preprocessing.check(torch.empty(0, self.plain.channels, self.plain.height, self.plain.width))
        else:
            preprocessing = self._fit(listing, images, split["train"]) if self.normalize else self.plain
        labels = torch.from_numpy(listing.labels)
        whole: InMemory | LazyImages = (
            LazyImages(preprocessing, listing.files, labels)
            if images is None
            else InMemory(preprocessing.batch, torch.from_numpy(images), labels)
        )
        train_labels = labels[split["train"]]
        return Loaded(
            parts={name: whole.take(indices) for name, indices in split.items()},
            facts=image_facts(preprocessing, train_labels, len(listing.class_names)),
            preprocessing=preprocessing.to_dict(),
            class_names=listing.class_names,
            train_labels=train_labels,
            notes=notes,
            fingerprint=listing.fingerprint(self.root),
            names={
                name: [listing.files[i].relative_to(self.root).as_posix() for i in indices.tolist()]
                for name, indices in split.items()
            },
        )

    def _check(self, listing: Listing, corrupt: list[int], notes: list[str]) -> np.ndarray:
        """Positions of the readable files. Raises UserError, naming the others, unless they are to be skipped."""
        good = np.setdiff1d(np.arange(len(listing.files)), corrupt)
        if not corrupt:
            return good
        names = ", ".join(str(listing.files[index].relative_to(self.root)) for index in corrupt[:5])
        more = f" and {len(corrupt) - 5} more" if len(corrupt) > 5 else ""
        found = f"{len(corrupt)} of {len(listing.files)} images in {self.root} cannot be read: {names}{more}"
        if not self.skip_corrupt:
            raise UserError(f"{found}. Replace or remove them, or leave them out with data.skip_corrupt=true.")
        notes.append(f"{found}; left out.")
        readable = set(listing.labels[good[listing.parts[good] == "train"]].tolist())
        if lost := [name for k, name in enumerate(listing.class_names) if k not in readable]:
            raise UserError(f"No training image of {', '.join(lost)} in {self.root} can be read; replace them.")
        return good

    def _split(self, listing: Listing, notes: list[str]) -> dict[str, Tensor]:
        """Indices of each part; what has no folder of its own is cut from train, each class alike."""
        found = {name: torch.from_numpy(np.flatnonzero(listing.parts == name)) for name in PARTS}
        split, more = cut_from_train(found, self.shares, seed=self.seed, labels=listing.labels)
        notes += more
        return split

    def _fit(self, listing: Listing, images: np.ndarray | None, train: Tensor) -> ImagePreprocessing:
        """Mean and deviation of the training part, or of a sample of it where it is not in memory."""
        if images is None:
            order = torch.randperm(len(train), generator=torch.Generator().manual_seed(self.seed))
            sample = listing.keep(train[order[:SAMPLE_SIZE]].numpy())
            images = empty(self.plain, len(sample.files))
            self._check(sample, read_all(self.plain, sample.files, images), [])
        else:
            images = images[train.numpy()]
        fitted = ImagePreprocessing.fit(torch.from_numpy(images))
        return replace(self.plain, mean=fitted.mean, std=fitted.std)
