"""Images: one way to prepare them for training and for use, and the base of image sets that lie in memory.

Pixels stay uint8 until a batch is made; then one multiply-add per pixel normalizes it.

Axes: N samples in a part, B batch, C channels, H height, W width, K classes
"""

import hashlib
import io
import math
import socket
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from zoo.batches import ImageBatch
from zoo.data.base import DataModule, InMemory, Loaded, split_indices
from zoo.errors import UserError, suggest

Part = tuple[Tensor, Tensor]  # uint8 images (N, C, H, W) and int64 labels (N,)


@dataclass(frozen=True)
class ImagePreprocessing:
    """How a picture becomes the input of a model; plain containers, so that it can lie in a checkpoint.

    Args:
        channels: C, 1 (grey) or 3 (red, green, blue).
        height, width: H and W, the size that `open` gives a picture.
        mean, std: one of each for every channel, for pixels on the scale [0, 1].
    """

    channels: int
    height: int
    width: int
    mean: list[float]
    std: list[float]

    @classmethod
    def plain(cls, channels: int, height: int, width: int) -> "ImagePreprocessing":
        """Scales to [0, 1] and does nothing else."""
        return cls(channels, height, width, mean=[0.0] * channels, std=[1.0] * channels)

    @classmethod
    def fit(cls, images: Tensor) -> "ImagePreprocessing":
        """Mean 0 and standard deviation 1 in each channel of `images`, uint8 (N, C, H, W)."""
        return cls.fit_chunks([images])

    @classmethod
    def fit_chunks(cls, chunks: Iterable[Tensor]) -> "ImagePreprocessing":
        """`fit` where the images come some at a time; there must be one."""
        levels = torch.arange(256, dtype=torch.float64) / 255  # (256,)
        total = torch.zeros((), dtype=torch.int64)
        for images in chunks:
            _, channels, height, width = images.shape
            # A count of each grey level: exact, and no copy of all pixels as floats.
            total = total + torch.stack(
                [torch.bincount(images[:, c].flatten(), minlength=256) for c in range(channels)]
            )
        share = total.double()
        share /= share.sum(1, keepdim=True)  # (C, 256)
        mean = share @ levels  # (C,)
        std = (share @ levels**2 - mean**2).clamp(min=0).sqrt()  # (C,)
        std[std < 1e-6] = 1.0  # a channel that never changes
        return cls(channels, height, width, mean.tolist(), std.tolist())

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "ImagePreprocessing":
        """The inverse of `to_dict`. Raises UserError where it is of another kind of data, or makes no sense."""
        if saved.get("kind") != "image":
            raise UserError(f"This model was trained on data of kind '{saved.get('kind')}', not on images.")
        try:
            found = cls(**{name: value for name, value in saved.items() if name != "kind"})
            sizes, numbers = (found.channels, found.height, found.width), [*found.mean, *found.std]
            sound = all(type(size) is int and size > 0 for size in sizes) and len(found.mean) == found.channels
            sound &= len(found.std) == found.channels and all(math.isfinite(number) for number in numbers)
            sound &= all(number > 0 for number in found.std)
        except TypeError as error:
            raise UserError(f"How the checkpoint prepares images is not understood ({error}).") from error
        if not sound:
            raise UserError("How the checkpoint prepares images makes no sense: sizes, mean and deviation of channels.")
        return found

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "image", **asdict(self)}

    @cached_property
    def _scale_and_shift(self) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (self.mean, self.std))
        return (1 / (255 * std)).float(), (mean / std).float()  # (C, 1, 1) each

    def __call__(self, images: Tensor) -> Tensor:
        """Pixels 0..255, (B, C, H, W) uint8 -> (B, C, H, W) float32, normalized."""
        scale, shift = (values.to(images.device) for values in self._scale_and_shift)
        return images.to(torch.float32, copy=True).mul_(scale).sub_(shift)

    def check(self, images: Tensor) -> None:
        """Raises UserError where images (N, C, H, W) are not of this size."""
        if tuple(images.shape[1:]) != (self.channels, self.height, self.width):
            raise UserError(
                f"The images are {'x'.join(map(str, images.shape[1:]))} (channels x height x width), and the model was "
                f"trained on {self.channels}x{self.height}x{self.width}; leave data.image_size as it was."
            )

    def batch(self, images: Tensor, labels: Tensor) -> ImageBatch:
        return ImageBatch(self(images), labels)

    def open(self, path: str | Path, content: bytes | None = None) -> Tensor:
        """Reads any photo upright, scaled (antialiased) to cover H x W and cropped to its centre: (C, H, W) uint8.

        Args:
            path: the file, or what to call `content`, the bytes of one.

        Raises:
            UserError: the file is missing, truncated or no image.
        """
        try:
            with Image.open(path if content is None else io.BytesIO(content)) as image:
                # A large JPEG is decoded at a half, a quarter or an eighth, where that is still twice what is needed.
                image.draft(None, (2 * max(self.height, self.width),) * 2)
                ImageOps.exif_transpose(image, in_place=True)
                flat = flatten(image, "L" if self.channels == 1 else "RGB")
                fitted = ImageOps.fit(flat, (self.width, self.height), method=Image.Resampling.BILINEAR)
        except FileNotFoundError:
            raise UserError(f"There is no image at {path}; check the path.") from None
        except UnidentifiedImageError:
            raise UserError(f"{path} is not an image that can be read; replace or remove it.") from None
        except Exception as error:  # Pillow's readers raise some ten different types for a broken file
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{path} cannot be read as an image ({reason}); replace or remove it.") from None
        pixels = np.asarray(fitted).reshape(self.height, self.width, self.channels)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())  # (C, H, W)


def flatten(image: Image.Image, mode: str) -> Image.Image:
    """A picture of any kind in `mode` ("L" or "RGB"), 8 bits a channel, what is transparent on white."""
    if image.mode == "F" or image.mode.startswith("I"):  # floats; 16 bits, which `convert` would clip at 255
        pixels = np.asarray(image).astype(np.float64)
        brightest = pixels.max() if image.mode == "F" else 65535
        white = next((level for level in (1, 255) if brightest <= level), 65535)
        image = Image.fromarray((pixels * (255 / white)).clip(0, 255).round().astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def resize(images: Tensor, size: int, *, chunk: int = 1024) -> Tensor:
    """Antialiased bilinear, (N, C, H, W) uint8 -> (N, C, size, size) uint8, `chunk` images at a time."""
    if images.shape[2:] == (size, size):
        return images
    resized = torch.empty(*images.shape[:2], size, size, dtype=torch.uint8)
    for start in range(0, len(images), chunk):
        piece = images[start : start + chunk].float()
        piece = F.interpolate(piece, (size, size), mode="bilinear", antialias=True, align_corners=False)
        resized[start : start + chunk] = piece.round_().clamp_(0, 255)
    return resized


def adopt_pixels(data: Any, preprocessing: dict[str, Any], plain: ImagePreprocessing) -> str:
    """Lets image data of the size of `plain` be normalized as a pretrained network has seen it; see `DataModule.adopt`.

    Nothing is taken where its inputs were no images, or had other channels, or where pixels stay in [0, 1].
    """
    if not data.normalize or (preprocessing.get("kind"), preprocessing.get("channels")) != ("image", plain.channels):
        return ""
    data.prepare_as(preprocessing | {"height": plain.height, "width": plain.width})
    return "the mean and deviation of its pixels"


def image_facts(preprocessing: ImagePreprocessing, train_labels: Tensor, num_classes: int) -> dict[str, Any]:
    """What models and tasks are built from; `label_counts` has the training images of each class."""
    shape = [preprocessing.channels, preprocessing.height, preprocessing.width]
    return {
        "image_shape": shape,
        "num_features": shape[0] * shape[1] * shape[2],
        "num_classes": num_classes,
        "label_counts": torch.bincount(train_labels, minlength=num_classes).tolist(),
        "kind": "multiclass",
    }


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of all values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def check_size(name: str, value: object, smallest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
        raise UserError(f"data.{name}={value} must be a whole number from {smallest} on.")


def set_aside(num_samples: int, val_size: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the samples that stay in training and of the `val_size` that are for validation, by the seed."""
    if val_size >= num_samples:
        raise UserError(f"data.val_size={val_size} must be below {num_samples}, the size of the training set.")
    share = val_size / num_samples
    train, val, _ = split_indices(num_samples, (1 - share, share, 0.0), seed=seed)
    return train, val


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def download(urls: Iterable[str], folder: Path, *, md5: str, advice: str, unpack: bool = False) -> None:
    """Fetches one file into `folder` from the first of `urls` that answers, and checks it.

    Raises:
        UserError: none could be fetched, or `folder` cannot be written; ends with `advice`.
    """
    from torchvision.datasets import utils  # takes 2 s, and few runs download

    fetch = utils.download_and_extract_archive if unpack else utils.download_url
    reason = ""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # without it, a network that swallows packets is waited for without end
    try:
        for url in urls:
            try:
                return fetch(url, str(folder), md5=md5)
            except (OSError, RuntimeError, EOFError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
    finally:
        socket.setdefaulttimeout(timeout)
    raise UserError(f"The download into {folder} failed ({reason}). {advice}")


def class_numbers(key: str, wanted: Sequence[int | str] | None, names: Sequence[str]) -> list[int]:
    """The numbers of classes that `data.<key>` names or numbers. Raises UserError where it is no list of them."""
    if wanted is not None and not isinstance(wanted, (list, tuple)):
        raise UserError(f"data.{key}={wanted} must be a list of classes, for instance [{wanted}].")
    return [class_number(key, one, names) for one in wanted or ()]


def class_number(key: str, wanted: int | str, names: Sequence[str]) -> int:
    if str(wanted) in names:
        return list(names).index(str(wanted))
    if isinstance(wanted, int) and not isinstance(wanted, bool) and 0 <= wanted < len(names):
        return wanted
    raise UserError(f"data.{key}: there is no class {wanted}{suggest(wanted, names)}")


class Images(DataModule):
    """Base of labelled images that lie in memory: a subclass says how to `read` the official parts.

    Args:
        image_size: H and W of what the model sees; images of another size are resized once, antialiased.
        val_size: training images set aside for validation, chosen by the seed; 0 for none.
        normalize: to mean 0 and deviation 1 of the training part in each channel; False gives pixels in [0, 1].
        classes: those that there are, by number or name, numbered anew in this order; None for all.
        leave_out: classes, by number or name, that are in the test part alone: what a model has never seen.
        batch_size, eval_batch_size, seed, fraction, overfit: see `DataModule`. Workers would only slow memory down.
    """

    class_names: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        *,
        image_size: int,
        val_size: int = 0,
        normalize: bool = True,
        classes: Sequence[int | str] | None = None,
        leave_out: Sequence[int | str] | None = None,
        batch_size: int | str = 64,
        eval_batch_size: int = 512,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, fraction=fraction, overfit=overfit
        )
        check_size("image_size", image_size, 1)
        check_size("val_size", val_size, 0)
        self.image_size, self.val_size, self.normalize = image_size, val_size, normalize
        self.kept = class_numbers("classes", classes, self.class_names)
        if classes is not None and len(set(self.kept)) != max(len(self.kept), 1):
            raise UserError(f"data.classes={list(classes)} must name at least one class, and each once.")
        self.names = [self.class_names[k] for k in self.kept] or list(self.class_names)
        self.left_out = class_numbers("leave_out", leave_out, self.names)

    @abstractmethod
    def read(self) -> dict[str, Part]:
        """The parts as they were published, `train` always. Raises UserError where they are missing or broken."""

    def cut(self, parts: dict[str, Part]) -> dict[str, Part]:
        """Sets the validation part aside."""
        if self.val_size == 0:
            return parts
        images, labels = parts["train"]
        train, val = set_aside(len(images), self.val_size, seed=self.seed)
        return {**parts, "train": (images[train], labels[train]), "val": (images[val], labels[val])}

    def of_classes(self, part: Part) -> Part:
        """The samples of the classes that are kept, which are numbered anew."""
        images, labels = part
        wanted = torch.tensor(self.kept, dtype=labels.dtype)  # (K,)
        among = labels[:, None] == wanted  # (N, K)
        kept = among.any(1)
        return images[kept], among[kept].long().argmax(1).to(labels.dtype)

    def without(self, part: Part) -> Part:
        """The samples of a part that are of no class left out."""
        images, labels = part
        kept = ~torch.isin(labels, torch.tensor(self.left_out, dtype=labels.dtype))
        return images[kept], labels[kept]

    def adopt(self, preprocessing: dict[str, Any]) -> str:
        channels = self.read()["train"][0].shape[1]
        return adopt_pixels(self, preprocessing, ImagePreprocessing.plain(channels, self.image_size, self.image_size))

    def load(self) -> Loaded:
        source = self.read()
        if self.kept:
            source = {name: self.of_classes(part) for name, part in source.items()}
        cut = self.cut(source)
        if self.left_out:
            cut = {name: part if name == "test" else self.without(part) for name, part in cut.items()}
        parts = {name: (resize(part[0], self.image_size), part[1]) for name, part in cut.items()}
        images, labels = parts["train"]
        preprocessing = (
            ImagePreprocessing.from_dict(self.earlier)
            if self.earlier is not None
            else ImagePreprocessing.fit(images)
            if self.normalize
            else ImagePreprocessing.plain(*images.shape[1:])
        )
        preprocessing.check(images)
        return Loaded(
            parts={name: InMemory(preprocessing.batch, *part) for name, part in parts.items()},
            facts=image_facts(preprocessing, labels, len(self.names)),
            preprocessing=preprocessing.to_dict(),
            class_names=self.names,
            train_labels=labels,
            fingerprint=fingerprint(tensor for part in source.values() for tensor in part),
        )
