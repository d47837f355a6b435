"""MNIST and Fashion-MNIST: small idx files made here, the published ones where ZOO_DATA names them."""

import gzip
import hashlib
import os
import struct

import numpy as np
import pytest
import torch

from zoo.data.mnist import FashionMnist, Mnist
from zoo.errors import UserError

published = pytest.mark.skipif(not os.environ.get("ZOO_DATA"), reason="needs the published files; set ZOO_DATA")
SIZES = {"train": 60, "t10k": 20}


def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.fixture
def raw(tmp_path):
    """`tmp_path/MNIST/raw` with 60 + 20 random images, unpacked."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for prefix, count in SIZES.items():
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8) % 10))
    return folder


def pack(raw, name: str) -> bytes:
    """Replaces a file by its .gz and returns the bytes of that."""
    content = gzip.compress((raw / name).read_bytes())
    (raw / name).unlink()
    (raw / f"{name}.gz").write_bytes(content)
    return content


def mnist(raw, **options) -> Mnist:
    return Mnist(data_dir=str(raw.parent.parent), **{"val_size": 12, **options})


def test_the_validation_part_is_cut_from_train_by_the_seed(raw):
    loaded, again, other = (mnist(raw, seed=seed).prepare() for seed in (0, 0, 1))
    assert {name: len(part) for name, part in loaded.parts.items()} == {"train": 48, "val": 12, "test": 20}
    assert torch.equal(loaded.parts["val"].tensors[0], again.parts["val"].tensors[0])
    assert not torch.equal(loaded.parts["val"].tensors[0], other.parts["val"].tensors[0])
    train, val = (set(map(bytes, loaded.parts[name].tensors[0].flatten(1).numpy())) for name in ("train", "val"))
    assert not train & val


def test_pixels_and_labels_are_those_of_the_file(raw):
    images, labels = mnist(raw).read()["test"]
    content = (raw / "t10k-images-idx3-ubyte").read_bytes()[16:]
    assert images.shape == (20, 1, 28, 28)
    assert images.numpy().tobytes() == content
    assert labels.tolist() == [k % 10 for k in range(20)]


def test_no_validation_part_is_cut_where_none_is_wanted(raw):
    assert list(mnist(raw, val_size=0).prepare().parts) == ["train", "test"]


def test_nothing_is_written_beside_the_files(raw):
    before = sorted(path.name for path in raw.rglob("*"))
    mnist(raw).prepare()
    assert sorted(path.name for path in raw.rglob("*")) == before


def test_a_validation_part_as_large_as_train_is_refused(raw):
    with pytest.raises(UserError, match="val_size=60 must be below 60"):
        mnist(raw, val_size=60).prepare()


def test_a_packed_file_with_the_right_checksum_is_read(raw, monkeypatch):
    name = "t10k-images-idx3-ubyte"
    expected = mnist(raw).read()["test"][0]
    checksum = hashlib.md5(pack(raw, name)).hexdigest()
    monkeypatch.setitem(Mnist.checksums, name, checksum)
    assert torch.equal(mnist(raw).read()["test"][0], expected)


def test_a_packed_file_that_is_not_the_published_one_is_refused(raw):
    pack(raw, "t10k-images-idx3-ubyte")
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte\.gz is not the published file[^\n]*$"):
        mnist(raw).prepare()


def test_a_truncated_packed_file_is_named_in_one_line(raw):
    content = pack(raw, "train-images-idx3-ubyte")
    (raw / "train-images-idx3-ubyte.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz cannot be read[^\n]*fetch it again\.$"):
        mnist(raw).prepare()


def test_a_truncated_unpacked_file_is_named(raw):
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"announces 60x28x28 values .* and holds 47039"):
        mnist(raw).prepare()


@pytest.mark.parametrize("content", [b"", b"\0\0\x08", b"<html>not found</html>", idx(np.zeros((60, 28), np.uint8))])
def test_a_file_of_another_kind_is_named(raw, content):
    (raw / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(UserError, match="train-images-idx3-ubyte is no idx file of 3 axes"):
        mnist(raw).prepare()


def test_images_of_another_size_are_refused(raw):
    (raw / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((60, 32, 32), np.uint8)))
    with pytest.raises(UserError, match="60x32x32"):
        mnist(raw).prepare()


def test_a_label_outside_the_classes_is_refused(raw):
    (raw / "train-labels-idx1-ubyte").write_bytes(idx(np.full(60, 10, np.uint8)))
    with pytest.raises(UserError, match="train label 10"):
        mnist(raw).prepare()


def test_more_labels_than_images_are_refused(raw):
    (raw / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(61, np.uint8)))
    with pytest.raises(UserError, match="60 train images and 61 labels"):
        mnist(raw).prepare()


@pytest.mark.parametrize("dataset", [Mnist, FashionMnist])
def test_files_that_are_missing_and_cannot_be_fetched_say_what_to_put_where(tmp_path, dataset):
    (tmp_path / "file").touch()  # nothing can be written below a file, so no network is asked
    with pytest.raises(UserError, match=rf"t10k-labels-idx1-ubyte\.gz into .*{dataset.folder}/raw.*ZOO_DATA[^\n]*$"):
        dataset(data_dir=str(tmp_path / "file")).prepare()


@published
@pytest.mark.parametrize(
    ("dataset", "mean", "std"), [(Mnist, 0.1307, 0.3081), (FashionMnist, 0.2860, 0.3530)]
)  # the constants that everybody writes into their transforms
def test_the_published_files_have_the_published_statistics(dataset, mean, std):
    loaded = dataset(data_dir=os.environ["ZOO_DATA"], val_size=0).prepare()
    assert (len(loaded.parts["train"]), len(loaded.parts["test"])) == (60_000, 10_000)
    assert loaded.preprocessing["mean"] == pytest.approx([mean], abs=1e-4)
    assert loaded.preprocessing["std"] == pytest.approx([std], abs=1e-4)
    assert loaded.class_names == list(dataset.class_names)
    assert sum(loaded.facts["label_counts"]) == 60_000
