"""Trains on shards of ten times the memory that may be used, and watches the memory.

python tests/drivers/shards_memory.py allowed_mb=64

Writes 256x256 images of noise as PNG without compression, trains LeNet-5 on them for one epoch, as train.py would, and
reads the resident memory of this process and its workers after the first batch and at each tenth of the epoch. The
growth is counted from the first batch: before it, libraries are still being loaded. Prints JSON; ends with status 1
where anonymous memory (RssAnon) or all resident memory (VmRSS) grew by more than is allowed.
"""

import io
import json
import os
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.config.commandline import guarded, script_arguments

KEYS = {
    "allowed_mb": "by how much memory may grow (64)",
    "times": "how many times that the set is (10)",
    "workers": "data.num_workers (0)",
    "folder": "where the set is written for the time being (a temporary folder)",
}
SIZE, SHARDS = 256, 20


def write_shards(folder: Path, megabytes: int) -> int:
    """Noise of so many MiB in `SHARDS` training shards, and two small ones; returns bytes of the training shards."""
    generator = np.random.default_rng(0)
    per_shard = megabytes * 2**20 // (SIZE * SIZE * 3 * SHARDS) + 1
    for name, images in [(f"train-{i:02d}", per_shard) for i in range(SHARDS)] + [("val-0", 16), ("test-0", 16)]:
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            for i in range(images):
                file = io.BytesIO()
                pixels = generator.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
                Image.fromarray(pixels).save(file, "PNG", compress_level=0)
                for ending, content in (("png", file.getvalue()), ("cls", str(i % 2).encode())):
                    member = tarfile.TarInfo(f"{i:06d}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return sum(path.stat().st_size for path in folder.glob("train-*.tar"))


def resident() -> dict[str, float]:
    """VmRSS and RssAnon of this process and its children, in MiB."""
    own = os.getpid()
    children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
    total = {"VmRSS": 0.0, "RssAnon": 0.0}
    for process in (own, *children):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key in total:
                total[key] += int(value.split()[0]) / 1024
    return total


def train(root: Path, run_dir: Path, workers: int) -> list[dict[str, Any]]:
    """One epoch; memory before the first batch, after it, and at each tenth."""
    from lightning.pytorch import Callback

    from zoo.build import build
    from zoo.run import configure

    data = (f"data.root={root}", f"data.num_workers={workers}", "data.image_size=32", "data.batch_size=32")
    common = ("model=lenet5", "data=shards", "logger=none", "trainer.max_epochs=1", "trainer.num_threads=1")
    built = build(configure(*common, *data, run_dir=run_dir))
    found: list[dict[str, Any]] = [{"batch": 0} | resident()]

    class Watch(Callback):
        lean = True

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            done, total = batch_idx + 1, trainer.num_training_batches
            if done == 1 or done * 10 // total > batch_idx * 10 // total:
                found.append({"batch": done} | resident())

    built.trainer.callbacks.append(Watch())
    built.fit()
    return found


def main() -> int:
    given = {"allowed_mb": "64", "times": "10", "workers": "0"} | script_arguments(sys.argv[1:], KEYS)
    allowed = int(given["allowed_mb"])
    with tempfile.TemporaryDirectory(dir=given.get("folder")) as name:
        folder = Path(name)
        (folder / "shards").mkdir()
        started = time.monotonic()
        size = write_shards(folder / "shards", allowed * int(given["times"]))
        written = time.monotonic()
        found = train(folder / "shards", folder / "run", int(given["workers"]))
        seconds = time.monotonic() - written
    growth = {f"{key}_growth_mb": round(max(r[key] for r in found) - found[1][key], 1) for key in ("VmRSS", "RssAnon")}
    fits = max(growth.values()) <= allowed
    result = {
        "set_mb": round(size / 2**20, 1),
        "allowed_mb": allowed,
        "times": round(size / 2**20 / allowed, 1),
        **growth,
        "fits": fits,
        "workers": int(given["workers"]),
        "write_seconds": round(written - started, 1),
        "build_and_epoch_seconds": round(seconds, 1),
        "memory": [{key: round(value, 1) for key, value in row.items()} for row in found],
    }
    print(json.dumps(result))
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(guarded(main))
