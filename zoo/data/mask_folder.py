"""Your own images, each with a mask that says what every pixel belongs to.

    root/images/a.jpg  root/masks/a.png               split 70/15/15 by the seed
    root/train/images/a.jpg  root/train/masks/a.png   and val/, test/ beside it; what is missing is cut from train

A mask is a picture of one number a pixel, grey or with a palette, of its image's size: the class, 0 for the first, and
255 where nobody knows (as in Pascal VOC), which counts neither in a loss nor in a metric.

Axes: N images, C channels, H height, W width, K classes
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from zoo.augment.targets import UNKNOWN
from zoo.data.base import PARTS, DataModule, Loaded, checked_shares, split_indices
from zoo.data.image_folder import CUT_SHARE, image_files, part_folders
from zoo.data.images import ImagePreprocessing, adopt_pixels, check_size, fingerprint
from zoo.data.targets import MaskedImages
from zoo.errors import UserError

LOSSY = {".jpg", ".jpeg", ".webp"}  # would change the numbers
FOLDERS = ("images", "masks")


class Pair(NamedTuple):
    image: Path
    mask: Path


def list_pairs(folder: Path) -> list[Pair]:
    """The images below folder/images with their masks, in a fixed order. Raises UserError where one has no other."""
    places = [folder / name for name in FOLDERS]
    if missing := [place for place in places if not place.is_dir()]:
        raise UserError(f"There is no folder {missing[0]}; put images into images/ and their masks into masks/.")
    found: list[dict[str, Path]] = []
    for place in places:
        files = {str(file.relative_to(place).with_suffix("")): file for file in image_files(place)}
        if len(files) < len(image_files(place)):
            raise UserError(f"{place} has several files of one name that differ in their endings; keep one of each.")
        found.append(files)
    images, masks = found
    if not images:
        raise UserError(f"{places[0]} has no images.")
    alone = [f"{name} has no mask" for name in images if name not in masks]
    alone += [f"{name} has a mask and no image" for name in masks if name not in images]
    if alone:
        more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
        raise UserError(f"In {folder} {', '.join(alone[:3])}{more}; an image and its mask have the same name.")
    return [Pair(image, masks[name]) for name, image in images.items()]


def open_mask(path: Path, size: tuple[int, int], like: Path) -> np.ndarray:
    """The numbers of a mask (H, W) uint8, scaled and cropped as its image is, each pixel the nearest one's.

    Args:
        size: (W, H).
        like: its image.

    Raises:
        UserError: the file cannot be read, has colours, or has another size than its image.
    """
    if path.suffix.lower() in LOSSY:
        raise UserError(f"{path} is in a format that changes numbers; save masks as png.")
    try:
        with Image.open(like) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5  # lies on its side
        with Image.open(path) as mask:
            mask.load()
    except Exception as error:  # Pillow's readers raise some ten different types for a broken file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read as a mask ({reason}); replace or remove it.") from None
    if mask.mode not in ("1", "L", "P") and not mask.mode.startswith("I"):
        raise UserError(f"{path} has colours ({mask.mode}); a mask has one number a pixel: save it in grey.")
    if mask.size != ((height, width) if turned else (width, height)):
        raise UserError(f"{path} is {mask.width} x {mask.height} and its image another size; make them alike.")
    numbers = np.asarray(mask).astype(np.int64)
    if numbers.min() < 0 or numbers.max() > UNKNOWN:
        raise UserError(f"{path} has numbers from {numbers.min()} to {numbers.max()}; classes go from 0 to 254.")
    fitted = ImageOps.fit(Image.fromarray(numbers.astype(np.uint8)), size, method=Image.Resampling.NEAREST)
    return np.asarray(fitted)


def read_pairs(pairs: Sequence[Pair], plain: ImagePreprocessing) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and masks (N, H, W), uint8. Raises UserError, naming a file, for those that are no pairs."""

    def read(pair: Pair) -> tuple[Tensor, np.ndarray] | str:
        try:
            return plain.open(pair.image), open_mask(pair.mask, (plain.width, plain.height), pair.image)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(read, pairs))
    if wrong := [one for one in found if isinstance(one, str)]:
        more = f" So are {len(wrong) - 1} more." if len(wrong) > 1 else ""
        raise UserError(wrong[0] + more)
    read_well = [one for one in found if not isinstance(one, str)]
    masks = torch.from_numpy(np.stack([mask for _, mask in read_well]))
    return torch.stack([image for image, _ in read_well]), masks


def as_classes(masks: Tensor, values: Sequence[int] | None) -> Tensor:
    """The numbers of masks (N, H, W) as classes, and 255 where nobody knows.

    Args:
        values: the number of each class in order; None: 0, 1, 2, ... and 255 for what nobody knows.

    Raises:
        UserError: they hold a number that is none of `values`, or nothing but 0 and 255.
    """
    there = masks.unique().tolist()
    if values is None:
        if there == [0, UNKNOWN]:
            raise UserError(
                "The masks hold 0 and 255 alone, and 255 is where nobody knows; if it is the second class, give "
                "data.values=[0,255]."
            )
        return masks
    if odd := [number for number in there if number not in values]:
        raise UserError(f"The masks hold {odd[0]}, which is not in data.values={list(values)}; add it.")
    table = torch.full((256,), UNKNOWN, dtype=torch.uint8)
    table[torch.tensor(list(values))] = torch.arange(len(values), dtype=torch.uint8)
    return table[masks.long()]


def numbers(values: object) -> bool:
    """Whether these can stand for classes in a mask."""
    if not isinstance(values, Sequence) or not all(type(value) is int and 0 <= value <= UNKNOWN for value in values):
        return False
    return len(set(values)) == len(values) > 1


class MaskFolder(DataModule):
    """Images (C, S, S) and masks (S, S) from folders, all in memory; see the top of this file for where they lie.

    Args:
        root: the folder; `~` is your home.
        classes: names of the K classes, the first of them that of number 0; None: their numbers, as many as there are.
        values: the numbers that stand for the classes in the masks, in order; None: 0, 1, 2, ... and 255 for unknown.
        shares: of the training images for train, val and test; a part that has a folder of its own takes nothing.
        image_size: S. Images of any size are scaled to cover S x S and cropped to the centre, masks along with them.
        channels: C, 3 for colour or 1 for grey.
        normalize: to mean 0 and deviation 1 of the training part in each channel; False gives pixels in [0, 1].
        batch_size, eval_batch_size, seed, fraction, overfit: see `DataModule`.
    """

    def __init__(
        self,
        *,
        root: str,
        classes: Sequence[str] | None = None,
        values: Sequence[int] | None = None,
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
        if values is not None and not numbers(values):
            raise UserError(f"data.values={values} must be different whole numbers from 0 to 255, two or more.")
        if classes is not None and values is not None and len(classes) != len(values):
            raise UserError(f"data.classes has {len(classes)} names and data.values {len(values)} numbers.")
        self.root, self.shares, self.normalize = Path(root).expanduser(), checked_shares(shares), normalize
        self.classes, self.values = classes and [str(name) for name in classes], values and list(values)
        self.plain = ImagePreprocessing.plain(channels, image_size, image_size)

    def adopt(self, preprocessing: dict[str, Any]) -> str:
        return adopt_pixels(self, preprocessing, self.plain)

    def load(self) -> Loaded:
        if not self.root.is_dir():
            raise UserError(f"data.root={self.root} is no folder; give one that has images/ and masks/.")
        listed = {part: list_pairs(folder) for part, folder in part_folders(self.root).items()}
        pairs = [pair for part in listed.values() for pair in part]
        images, found = read_pairs(pairs, self.plain)
        masks = as_classes(found, self.values)
        names = list(self.earlier_classes or self.classes or self.numbered(masks))
        if (highest := int(masks[masks != UNKNOWN].amax())) >= len(names):
            raise UserError(f"A mask has class {highest}, and there are {len(names)} classes: {', '.join(names)}.")
        split, notes = self.split({part: len(listed[part]) for part in listed})
        prepare = self.prepared(images, split["train"])
        whole = MaskedImages(prepare, images, masks)
        places = [pair.image.relative_to(self.root).as_posix() for pair in pairs]
        return Loaded(
            parts={part: whole.take(indices) for part, indices in split.items()},
            facts={"kind": "masks", "image_shape": list(images.shape[1:]), "mask_classes": len(names)},
            preprocessing=prepare.to_dict(),
            class_names=names,
            notes=notes,
            fingerprint=fingerprint([images, masks]),
            names={part: [places[i] for i in indices.tolist()] for part, indices in split.items()},
        )

    def numbered(self, masks: Tensor) -> list[str]:
        """A name for each class that is not named: its number, or what stands for it in the masks."""
        if self.values is not None:
            return [str(value) for value in self.values]
        known = masks[masks != UNKNOWN]
        if not len(known) or not known.any():
            raise UserError(f"The masks in {self.root} hold one class alone; there is nothing to learn.")
        return [str(k) for k in range(int(known.amax()) + 1)]

    def prepared(self, images: Tensor, train: Tensor) -> ImagePreprocessing:
        if self.earlier is not None:
            prepare = ImagePreprocessing.from_dict(self.earlier)
            prepare.check(images)
            return prepare
        return ImagePreprocessing.fit(images[train]) if self.normalize else self.plain

    def split(self, sizes: dict[str, int]) -> tuple[dict[str, Tensor], list[str]]:
        """The places of each part's images, in the order of `sizes`; what has no folder is cut from train."""
        starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
        places = {part: torch.arange(starts[part], starts[part] + size) for part, size in sizes.items()}
        wanted = dict(zip(PARTS, self.shares, strict=True))
        missing = [part for part in ("val", "test") if part not in places and wanted[part]]
        if not missing:
            return places, []
        val, test = (wanted[part] if part in missing else 0.0 for part in ("val", "test"))
        cut = split_indices(sizes["train"], (1 - val - test, val, test), seed=self.seed)._asdict()
        places |= {part: places["train"][cut[part]] for part in ("train", *missing) if len(cut[part])}
        told = " and ".join(f"{len(cut[part])} for {part}" for part in missing)
        return places, [f"No folder for {' and '.join(missing)}: {told} cut by the seed from {sizes['train']} images."]
