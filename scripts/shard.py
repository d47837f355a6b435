"""Writes images into tar files, which train.py then reads a piece at a time: for more than fits into memory.

python scripts/shard.py data=image_folder root=photos/ out=shards/ samples=1000
python scripts/shard.py data=fashion_mnist out=shards/
python train.py model=lenet5 data=shards data.root=shards/

A folder's image files are copied as they are; images of a named data set are written as PNG. Each part is shuffled, so
that a shard holds samples of all classes.
"""

import io
import shlex
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from zoo.config.commandline import guarded, options, script_arguments, whole_number
from zoo.errors import UserError, suggest

KEYS = {
    "data": "image_folder, or a data set of images that the zoo knows",
    "root": "the folder of images, for data=image_folder",
    "out": "a new folder for the shards",
    "samples": "images in one shard (1000); have more shards than processes, 100 to 1000 MB each",
    "seed": "of the split and of the order (0)",
    "data_dir": "where the zoo's data sets lie, if not in ZOO_DATA",
}
EXAMPLE = "python scripts/shard.py data=image_folder root=photos/ out=shards/    --help shows all keys."


def check(given: dict[str, str]) -> None:
    for key in ("data", "out"):
        if not given.get(key):
            raise UserError(f"{key}= is missing: {EXAMPLE}")
    if given["data"] not in options("data"):
        raise UserError(f"There is no data={given['data']}{suggest(given['data'], options('data'))}")
    if given["data"] == "image_folder" and not given.get("root"):
        raise UserError(f"root= is missing, the folder of images: {EXAMPLE}")
    if given["data"] != "image_folder" and "root" in given:
        raise UserError(f"root= goes with data=image_folder; data={given['data']} is read from data_dir.")
    for key, least in (("samples", 1), ("seed", 0)):
        whole_number(given, key, least)


def new_folder(path: Path) -> Path:
    """Makes it. Raises UserError where something is there already."""
    if path.exists() and not path.is_dir():
        raise UserError(f"out={path} is a file; give the name of a new folder.")
    if path.is_dir() and any(path.iterdir()):
        raise UserError(f"out={path} is not empty; give another folder, or delete it first.")
    path.mkdir(parents=True, exist_ok=True)
    return path


def read(given: dict[str, str]) -> Any:
    """The data set, read and split."""
    from zoo.config.prepare import build_data
    from zoo.run import configure

    changes = ["data.normalize=false", f"seed={given['seed']}"]
    if given["data"] == "image_folder":
        changes += [f"data.root={given['root']}", "data.in_memory_mb=0"]
    if "data_dir" in given:
        changes.append(f"data_dir={given['data_dir']}")
    cfg = configure(f"data={given['data']}", run_dir=given["out"])
    if "image_shape" not in cfg.data.keys() or given["data"] == "shards":  # noqa: SIM118 - a missing value counts too
        raise UserError(f"data={given['data']} has no images to be put into shards; for instance data=image_folder.")
    return build_data(configure(f"data={given['data']}", *changes, run_dir=given["out"]))


def source(part: Any) -> Callable[[int], tuple[str, bytes]]:
    """A function that gives ending and content of the file of sample i."""
    import torch
    from PIL import Image

    from zoo.data.image_folder import LazyImages
    from zoo.data.images import ImagePreprocessing

    if isinstance(part, LazyImages):
        small = ImagePreprocessing.plain(3, 8, 8)

        def copy(index: int) -> tuple[str, bytes]:
            path = part.files[index]
            content = path.read_bytes()
            small.open(path, content)  # raises, naming the file, where training would
            return path.suffix.lower(), content

        return copy

    def png(index: int) -> tuple[str, bytes]:
        (image,) = part.rows(torch.tensor([index]))[0]  # (C, H, W) uint8
        pixels = image.permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
        return ".png", file.getvalue()

    return png


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # of time 0 and nobody: the same samples give the same file
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_part(part: Any, name: str, out: Path, samples: int, seed: int) -> int:
    """Writes the shards of one part, each under another name first; returns how many."""
    import torch

    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))
    file_of = source(part)
    labels = part.labels if hasattr(part, "labels") else part.tensors[1]
    shards = order.split(samples)
    bar = tqdm(total=len(part), disable=not sys.stderr.isatty(), unit=" images", desc=name, leave=False)
    for number, indices in enumerate(shards):
        unfinished = out / f".{name}-{number:05d}.tar.part"
        with tarfile.open(unfinished, "w", format=tarfile.GNU_FORMAT) as tar:
            for place, index in enumerate(indices.tolist()):
                ending, content = file_of(index)
                key = f"{number * samples + place:09d}"
                add(tar, f"{key}{ending}", content)
                add(tar, f"{key}.cls", str(int(labels[index])).encode())
                bar.update()
        unfinished.replace(out / f"{name}-{number:05d}.tar")
    bar.close()
    return len(shards)


def main() -> int:
    given = {"samples": "1000", "seed": "0"} | script_arguments(sys.argv[1:], KEYS)
    check(given)
    given["out"] = str(Path(given["out"]).expanduser())
    if Path(given["out"]).exists():
        new_folder(Path(given["out"]))  # before anything is read
    data = read(given)
    from zoo.data.shard_index import CLASSES, UNFINISHED, find_shards, index_of

    loaded, out = data.prepare(), new_folder(Path(given["out"]))
    for note in loaded.notes:
        print(note, file=sys.stderr)
    (out / UNFINISHED).touch()  # a set that was not written to its end is refused
    (out / CLASSES).write_text("".join(f"{name}\n" for name in loaded.class_names), encoding="utf-8")
    counts = []
    for name, part in loaded.parts.items():
        shards = write_part(part, name, out, int(given["samples"]), int(given["seed"]))
        counts.append(f"{name} {len(part)} images in {shards} shard{'s' * (shards > 1)}")
    (out / UNFINISHED).unlink()
    index_of(out, [shard for part in find_shards(out).values() for shard in part])
    megabytes = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    print(f"Written: {out}, {megabytes:.1f} MB: {', '.join(counts)}")
    channels, height, _ = loaded.facts["image_shape"]
    sizes = "" if given["data"] == "image_folder" else f" data.image_size={height} data.channels={channels}"
    print(f"Train on it: python train.py data=shards data.root={shlex.quote(str(out))}{sizes}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
