"""Where each sample of a sharded data set lies: found once, by reading the headers of the tar files, and kept.

`index.npz` beside the shards holds offset, size and label of every image. A shard of another size or time of change is
read again, the others are not. What the shards must look like: see `zoo.data.shards`.

Axes: S shards, N samples, K classes
"""

import os
import re
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath

import numpy as np

from zoo.data.base import PARTS
from zoo.data.image_folder import CUT_SHARE, EXTENSIONS, PART_FOLDERS, part_folders, visible
from zoo.errors import UserError

INDEX, CLASSES, UNFINISHED = "index.npz", "classes.txt", ".unfinished"
FORMAT = 1  # of the index
MOST_CLASSES = 100_000  # a class number from there on is taken for a mistake
LONGEST_LABEL = 1024  # bytes
END_MARK = bytes(512)


def damaged(shard: Path, reason: object) -> UserError:
    return UserError(f"{shard} is no whole tar file ({reason}); copy or write it again.")


def members(shard: Path) -> Iterator[tarfile.TarInfo]:
    """The files in a tar file, one at a time, without reading them. Raises UserError where it is cut off or damaged."""
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # which would grow with the file
                if member.isfile() and visible(PurePosixPath(member.name).name):
                    yield member
            # tarfile takes a damaged header for the end.
            if os.pread(file.fileno(), len(END_MARK), tar.offset) != END_MARK:
                raise damaged(shard, f"no end mark at byte {tar.offset}")
    except (tarfile.TarError, EOFError) as error:
        raise damaged(shard, error) from None


Samples = tuple[Sequence[int] | np.ndarray, Sequence[int] | np.ndarray, Sequence[str] | np.ndarray]


def scan(shard: Path) -> Samples:
    """Offset and size of each image in a tar file, and the text of its label."""
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, str] = {}
    with shard.open("rb") as file:
        for member in members(shard):
            path = PurePosixPath(member.name)
            stem, _, ending = path.name.partition(".")
            key = f"{path.parent}/{stem}"
            if f".{ending.lower()}" in EXTENSIONS:
                if key in images:
                    raise UserError(f"{shard} has two images of one name, {images[key].name} and {member.name}.")
                images[key] = member
            elif ending.lower() == "cls":
                content = os.pread(file.fileno(), min(member.size, LONGEST_LABEL), member.offset_data)
                labels[key] = content.decode(errors="replace").strip()
                if not labels[key] or "\ufffd" in labels[key]:
                    raise UserError(f"{member.name} in {shard} holds no class; write its number or name, as UTF-8.")
    for key, image in images.items():
        if key not in labels:
            raise UserError(f"{image.name} in {shard} has no label; add {key.removeprefix('./')}.cls with its class.")
    return (
        [image.offset_data for image in images.values()],
        [image.size for image in images.values()],
        [labels[key] for key in images],
    )


@dataclass
class Index:
    """Where each sample lies, shard after shard.

    Args:
        names: S paths below the root.
        stamps: (S, 2) int64, size and time of the last change of each shard, by which a changed one is noticed.
        first: (S + 1,) int64, the first sample of each shard, and N.
        offsets, sizes: (N,) int64 and int32, of the images in bytes.
        labels: (N,) int32, which of `texts` each label is.
        texts: what the labels say, each once.
    """

    names: np.ndarray
    stamps: np.ndarray
    first: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    texts: np.ndarray

    def stamped(self) -> list[tuple[str, int, int]]:
        """Name, size and time of change of each shard."""
        return [(name, *stamp) for name, stamp in zip(self.names.tolist(), self.stamps.tolist(), strict=True)]

    def shard(self, number: int) -> Samples:
        """As `scan` would give it."""
        rows = slice(self.first[number], self.first[number + 1])
        return self.offsets[rows], self.sizes[rows], self.texts[self.labels[rows]]

    def save(self, path: Path) -> None:
        """Writes it, if that is possible: a set on a read-only disk is scanned at each start."""
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with part.open("wb") as file:
                np.savez(file, format=np.array(FORMAT), **vars(self))
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "Index | None":
        """What was written; None where there is nothing of use."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                arrays = dict(saved)
            return cls(**arrays) if int(arrays.pop("format")) == FORMAT else None
        except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile):
            return None


def index_of(root: Path, shards: Sequence[Path]) -> Index:
    """The index of these shards: the one that lies beside them, with what has changed since read again."""
    names = np.array([shard.relative_to(root).as_posix() for shard in shards])
    stamps = np.array([(stat.st_size, stat.st_mtime_ns) for stat in map(os.stat, shards)], np.int64)  # (S, 2)
    old = Index.load(root / INDEX)
    if old is not None and np.array_equal(old.names, names) and np.array_equal(old.stamps, stamps):
        return old
    known = {} if old is None else dict(zip(old.stamped(), range(len(old.names)), strict=True))
    texts: dict[str, int] = {}
    pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for shard, name, stamp in zip(shards, names.tolist(), stamps.tolist(), strict=True):
        place = known.get((name, *stamp))
        offsets, sizes, said = scan(shard) if old is None or place is None else old.shard(place)
        distinct, labels = np.unique(said, return_inverse=True)
        codes = np.array([texts.setdefault(text, len(texts)) for text in distinct.tolist()], np.int32)
        pieces.append((np.asarray(offsets, np.int64), np.asarray(sizes, np.int32), codes[labels]))
    first = np.array([0, *accumulate(len(piece[0]) for piece in pieces)], np.int64)
    offsets, sizes, labels = (np.concatenate(column) for column in zip(*pieces, strict=True))
    index = Index(names, stamps, first, offsets, sizes, labels, np.array(list(texts), str))
    index.save(root / INDEX)
    return index


def find_shards(root: Path) -> dict[str, list[Path]]:
    """The shards of each part, in the order of their names. Raises UserError where there are none."""
    if not root.is_dir():
        raise UserError(f"data.root={root} is no folder; give one with .tar files, which scripts/shard.py can write.")
    if (root / UNFINISHED).exists():
        raise UserError(f"{root} was not written to its end; delete it and let scripts/shard.py write it again.")
    folders = part_folders(root)
    found = {part: sorted(filter(is_shard, folder.iterdir())) for part, folder in folders.items()}
    if folders == {"train": root}:
        found = by_name(root, found["train"])
    for part, shards in found.items():
        if not shards:
            folder = folders.get(part, root)
            advice = "write them with: python scripts/shard.py data=image_folder root=... out=..."
            if packed := [path.name for path in folder.iterdir() if re.search(r"\.(tgz|tar\.\w+)$", path.name.lower())]:
                advice = f"unpack {packed[0]} and the like (gunzip): a packed one has to be read from its beginning"
            raise UserError(f"There are no shards (.tar) in {folder}; {advice}.")
    return found


def is_shard(path: Path) -> bool:
    return path.suffix.lower() == ".tar" and visible(path.name) and path.is_file()


def by_name(root: Path, shards: list[Path]) -> dict[str, list[Path]]:
    """The part of each shard, which its name begins with; all are for training where no name says so."""
    part_of = {name: part for part, names in PART_FOLDERS.items() for name in names}
    found: dict[str, list[Path]] = {}
    for shard in shards:
        word = re.match("[a-z]*", shard.name.lower())
        found.setdefault(part_of.get(word[0] if word else "", ""), []).append(shard)
    if set(found) == {""} or not found:
        return {"train": shards}
    if "" in found:
        raise UserError(f"{root} has parts, and {found[''][0].name} is of none; call it train-, val- or test-....tar.")
    if "train" not in found:
        raise UserError(f"{root} has shards for {' and '.join(found)} but none for training; add train-....tar.")
    return {part: found[part] for part in PARTS if part in found}


def set_aside(parts: dict[str, list[Path]], notes: list[str]) -> dict[str, list[Path]]:
    """Cuts what is missing of val and test from the end of train, by whole shards; one shard is left to learn from."""
    train, cut = parts["train"], dict(parts)
    wanted = max(1, round(len(train) * CUT_SHARE))
    for name in ("test", "val"):
        number = min(wanted, len(cut["train"]) - 1)
        if name not in parts and number:
            cut[name], cut["train"] = cut["train"][-number:], cut["train"][:-number]
            notes.append(f"No shards for {name}: the last {number} of {len(train)} training shards are set aside.")
        elif name not in parts:
            notes.append(f"No shards for {name}, and too few to set one aside; smaller shards would allow it.")
    return {part: cut[part] for part in PARTS if part in cut}


def read_classes(root: Path, texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Names of the K classes, and which of them each text of a label means."""
    path = root / CLASSES
    numbers = [int(text) for text in texts if text.isdecimal()]
    numbered = len(numbers) == len(texts)
    if path.is_file():
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if numbered and max(numbers) < len(names):
            return names, np.array(numbers, np.int32)
        if unknown := [text for text in texts if text not in names]:
            raise UserError(f"The label '{unknown[0]}' in the shards of {root} is none of the {len(names)} in {path}.")
    elif numbered:
        if max(numbers) >= MOST_CLASSES:
            raise UserError(f"The class number {max(numbers)} in the shards of {root} is too large; count from 0.")
        return [str(k) for k in range(max(numbers) + 1)], np.array(numbers, np.int32)
    else:
        names = sorted(texts)
    return names, np.array([names.index(text) for text in texts], np.int32)
