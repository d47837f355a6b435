"""Images in tar files (shards): for sets that are larger than memory, read by several processes, each its own part.

    root/train/*.tar  root/val/*.tar  root/test/*.tar    or    root/train-*.tar  root/val-*.tar  root/test-*.tar

The layout is that of webdataset: the files of a sample share their name before the first dot, `000123.png` (or .jpg,
...) and `000123.cls`, which holds the number or the name of the class. `classes.txt` beside the shards, one name a
line, names the classes in their order. scripts/shard.py writes such a folder. Where there is a training part only, its
last shards are set aside for validation and test.

Where each sample lies is found once, by reading the headers of the tar files, and kept in `index.npz` beside them.
After that a sample costs two system calls. In memory are 16 bytes a sample and the images of one batch; nothing is
mapped into memory.

Axes: S shards, N samples, B batch, C channels, H height, W width
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.batches import ImageBatch
from zoo.data.base import BatchOrder, DataModule, Loaded
from zoo.data.image_folder import empty
from zoo.data.images import ImagePreprocessing, adopt_pixels, check_size, image_facts
from zoo.data.shard_index import Index, damaged, find_shards, index_of, members, read_classes, set_aside
from zoo.errors import UserError

SAMPLE_SIZE = 2000  # images that mean and deviation are taken from
CHUNK = 64  # of them in memory at a time


class ShardImages(Dataset):
    """Images that are read from their shards when a batch asks for them; an index tensor gives a whole batch.

    Args:
        preprocessing: opens and normalizes.
        shards: S tar files.
        first: (S + 1,) the first sample of each shard, and N.
        offsets, sizes: (N,) where the images lie, in bytes.
        labels: (N,) int32 class indices.
    """

    def __init__(
        self,
        preprocessing: ImagePreprocessing,
        shards: list[Path],
        first: Tensor,
        offsets: Tensor,
        sizes: Tensor,
        labels: Tensor,
    ) -> None:
        self.preprocessing, self.shards, self.first = preprocessing, shards, first
        self.offsets, self.sizes, self.labels = offsets, sizes, labels

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def make_batch(self) -> Callable[[Tensor, Tensor], ImageBatch]:
        return self.preprocessing.batch

    def __getitem__(self, indices: Tensor) -> ImageBatch:
        """(B,) indices -> B images, in that order. Raises UserError, naming shard and member, for a corrupt one."""
        return self.make_batch(*self.rows(indices))

    def rows(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) indices -> B images as they were read, (B, C, H, W) uint8, and their labels."""
        images = empty(self.preprocessing, len(indices))
        shards = torch.searchsorted(self.first, indices, right=True) - 1  # (B,)
        for number in shards.unique().tolist():
            # Opened for each batch: no descriptors to be shared with workers, nothing to be closed at the end.
            file = self._open(number)
            try:
                for place in (shards == number).nonzero()[:, 0].tolist():
                    images[place] = self._read(file, number, int(indices[place])).numpy()
            finally:
                os.close(file)
        return torch.from_numpy(images), self.labels[indices].long()

    def _open(self, number: int) -> int:
        try:
            return os.open(self.shards[number], os.O_RDONLY)
        except OSError as error:
            raise UserError(f"{self.shards[number]} cannot be opened: {error.strerror}.") from None

    def _read(self, file: int, number: int, index: int) -> Tensor:
        """(C, H, W) uint8."""
        offset, size = int(self.offsets[index]), int(self.sizes[index])
        shard = self.shards[number]
        content = os.pread(file, size, offset)
        if len(content) != size:
            raise damaged(shard, f"it ended at byte {offset + len(content)} while it was in use")
        try:
            return self.preprocessing.open(shard, content)
        except UserError:
            # Names are not kept, since there may be millions; a broken image is worth looking for its own.
            name = next((member.name for member in members(shard) if member.offset_data == offset), f"byte {offset}")
            return self.preprocessing.open(f"{name} in {shard}", content)

    def take(self, indices: Tensor) -> "ShardImages":
        """Some of the samples; indices that increase."""
        first = torch.searchsorted(indices, self.first)
        rows = (values[indices] for values in (self.offsets, self.sizes, self.labels))
        return ShardImages(self.preprocessing, self.shards, first, *rows)

    def prepared_by(self, preprocessing: ImagePreprocessing) -> "ShardImages":
        return ShardImages(preprocessing, self.shards, self.first, self.offsets, self.sizes, self.labels)


class ShardOrder(BatchOrder):
    """An order in which each process reads shards of its own: a pure function of (seed, epoch, rank, position).

    Shuffled, the shards are dealt out anew in each epoch, and a process shuffles its samples within windows of some
    shards, so that memory stays bounded by a window. Otherwise each process has an equal stretch of all samples.
    Every sample comes once, nothing is padded, and all processes have the same number of batches, that of one process.
    Of each batch a process takes the share that it has of all samples, which is the same for all where shards are of
    equal size.

    Args:
        first: (S + 1,) the first sample of each shard, and N.
        window: W, shards among whose samples a process shuffles.
        others: see `BatchOrder`.
    """

    def __init__(self, first: Tensor, batch_size: int, *, window: int, **others: Any) -> None:
        super().__init__(int(first[-1]), batch_size, **others)
        self.first, self.window = first.numpy(), window

    def own_shards(self) -> np.ndarray:
        """The shards that this process reads in this epoch, in the order of reading."""
        filled = np.flatnonzero(np.diff(self.first))
        return np.random.default_rng([self.seed, self.epoch]).permutation(filled)[self.rank :: self.world_size]

    def __iter__(self) -> Iterator[Tensor]:
        if self.shuffle:
            shards = self.own_shards()
            sizes = self.first[shards + 1] - self.first[shards]
            own = int(sizes.sum())
            pieces = self._windows(shards, sizes, self._start(self.first_batch, own))
        else:
            begin, end = (self.num_samples * (self.rank + i) // self.world_size for i in (0, 1))
            own = end - begin
            cuts = (begin + self._start(batch, own) for batch in range(self.first_batch, len(self) + 1))
            pieces = (np.arange(*cut) for cut in pairwise(cuts))
        ready = np.empty(0, np.int64)
        for batch in range(self.first_batch, len(self)):
            size = self._start(batch + 1, own) - self._start(batch, own)
            while len(ready) < size:
                ready = np.concatenate([ready, next(pieces)])
            yield torch.from_numpy(ready[:size].copy())
            ready = ready[size:]

    def _start(self, batch: int, own: int) -> int:
        """How many of the `own` samples of this process lie before a batch."""
        if not self.shuffle and self.world_size > 1:
            return batch * own // len(self)  # even: metrics do not take an empty last batch
        # Processes round at different batches (the second term), so that their sum keeps to the batch size.
        position = batch * self.batch_size * own + self.rank * self.num_samples // self.world_size
        return min(own, position // self.num_samples)

    def _windows(self, shards: np.ndarray, sizes: np.ndarray, skip: int) -> Iterator[np.ndarray]:
        """The samples of one window of shards after another, each shuffled, without the first `skip`."""
        for i in range(0, len(shards), self.window):
            window = shards[i : i + self.window]
            size = int(sizes[i : i + self.window].sum())
            if skip < size:
                samples = np.concatenate([np.arange(self.first[s], self.first[s + 1]) for s in window])
                # No other window begins with this shard; + 1, since a 0 at the end would change nothing.
                yield np.random.default_rng([self.seed, self.epoch, int(window[0]) + 1]).permutation(samples)[skip:]
            skip = max(0, skip - size)


class Shards(DataModule):
    """Images (C, S, S) from tar files; see the top of this file for what lies in them.

    Args:
        root: the folder; `~` is your home.
        image_size: S. Images of any size are scaled to cover S x S and cropped to the centre.
        channels: C, 3 for colour or 1 for grey.
        normalize: to mean 0 and deviation 1 of 2,000 training images from all shards; False gives pixels in [0, 1].
        shuffle_shards: shards among whose samples a process shuffles.
        num_workers: processes that read images, for each process that trains.
        batch_size, eval_batch_size, seed, fraction, overfit: see `DataModule`.
    """

    def __init__(
        self,
        *,
        root: str,
        image_size: int = 64,
        channels: int = 3,
        normalize: bool = True,
        shuffle_shards: int = 4,
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
        check_size("shuffle_shards", shuffle_shards, 1)
        if channels not in (1, 3):
            raise UserError(f"data.channels={channels} must be 3 (colour) or 1 (grey).")
        self.root, self.normalize, self.shuffle_shards = Path(root).expanduser(), normalize, shuffle_shards
        self.plain = ImagePreprocessing.plain(channels, image_size, image_size)

    def fetch(self) -> None:
        """Makes the index, which the other processes then read."""
        index_of(self.root, [shard for part in set_aside(find_shards(self.root), []).values() for shard in part])

    def load(self) -> Loaded:
        notes: list[str] = []
        parts = set_aside(find_shards(self.root), notes)
        shards = [shard for part in parts.values() for shard in part]
        index = index_of(self.root, shards)
        if not len(index.offsets):
            raise UserError(
                f"The shards in {self.root} hold no images; a sample is <name>.png (or .jpg) and <name>.cls."
            )
        class_names, labels = self._classes(index)
        whole: dict[str, ShardImages] = {}
        begin = 0
        for name, its in parts.items():
            whole[name] = self._part(index, labels, shards, begin, begin + len(its))
            begin += len(its)
        train_labels = whole["train"].labels
        preprocessing = self._preprocessing(whole["train"])
        facts = image_facts(preprocessing, train_labels, len(class_names))
        everywhere = np.bincount(labels, minlength=len(class_names))
        if lost := [class_names[k] for k in np.flatnonzero(everywhere) if not facts["label_counts"][k]]:
            more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
            notes.append(
                f"No training shard has the class {', '.join(lost[:5])}{more}; are the samples sorted by class?"
            )
        contents = "".join(f"{name}\0{size}\n" for name, size, _ in index.stamped()) + "\0".join(class_names)
        return Loaded(
            parts={name: part.prepared_by(preprocessing) for name, part in whole.items() if len(part)},
            facts=facts,
            preprocessing=preprocessing.to_dict(),
            class_names=class_names,
            train_labels=train_labels,
            notes=notes,
            fingerprint=hashlib.sha256(contents.encode(errors="surrogateescape")).hexdigest()[:16],
        )

    def _classes(self, index: Index) -> tuple[list[str], np.ndarray]:
        """Names of the K classes and the class of each sample, (N,) int32; as an earlier run had them."""
        names, meant = read_classes(self.root, index.texts.tolist())
        if self.earlier_classes:
            if new := sorted({names[k] for k in meant} - set(self.earlier_classes)):
                raise UserError(f"The model was not trained on the classes {', '.join(new[:5])}; it knows "
                                f"{', '.join(self.earlier_classes[:20])}.")  # fmt: skip
            meant = np.array([self.earlier_classes.index(names[k]) for k in meant], np.int32)
            names = self.earlier_classes
        if len(names) < 2:
            raise UserError(
                f"All images in {self.root} are of one class, '{names[0]}'; there is nothing to tell apart."
            )
        return names, meant[index.labels]

    def _part(self, index: Index, labels: np.ndarray, shards: list[Path], begin: int, end: int) -> "ShardImages":
        """The shards from `begin` to `end`; a view, no copy."""
        rows = slice(index.first[begin], index.first[end])
        arrays = (
            index.first[begin : end + 1] - index.first[begin],
            index.offsets[rows],
            index.sizes[rows],
            labels[rows],
        )
        return ShardImages(self.plain, shards[begin:end], *map(torch.from_numpy, arrays))

    def adopt(self, preprocessing: dict[str, Any]) -> str:
        return adopt_pixels(self, preprocessing, self.plain)

    def _preprocessing(self, train: "ShardImages") -> ImagePreprocessing:
        """That of an earlier run, or mean and deviation of training images that are spread over all shards."""
        if self.earlier is not None:
            earlier = ImagePreprocessing.from_dict(self.earlier)
            earlier.check(torch.empty(0, self.plain.channels, self.plain.height, self.plain.width))
            return earlier
        if not self.normalize or not len(train):
            return self.plain
        number = min(SAMPLE_SIZE, len(train))
        places = torch.arange(number) * len(train) // number
        fitted = ImagePreprocessing.fit_chunks(train.rows(some)[0] for some in places.split(CHUNK))
        return replace(self.plain, mean=fitted.mean, std=fitted.std)

    def make_order(self, dataset: Any, batch_size: int, **options: Any) -> BatchOrder:
        filled = int((dataset.first.diff() > 0).sum())
        if options["shuffle"] and options["world_size"] > filled:
            raise UserError(
                f"{self.root} has {filled} training shards for {options['world_size']} processes, each of which needs "
                "its own; use at least as many shards as processes (scripts/shard.py with a smaller samples=)."
            )
        return ShardOrder(dataset.first, batch_size, window=self.shuffle_shards, **options)
