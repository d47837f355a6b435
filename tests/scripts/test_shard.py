"""scripts/shard.py: what it writes is what it was given, and training reads it."""

import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data.digits import Digits
from zoo.data.shards import Shards


def paint(path, level, size=(12, 9)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), level, np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path):
    for i in range(40):
        paint(tmp_path / "photos" / ("cat" if i < 20 else "dog") / f"{i:03d}.{'png' if i % 2 else 'jpg'}", i)
    return tmp_path / "photos"


def sorted_rows(part):
    """The samples of a part as sorted rows: their pixels, then the label."""
    batch = part[torch.arange(len(part))]
    return sorted(torch.cat([(batch.image * 255).round().flatten(1), batch.label[:, None]], 1).tolist())


def test_a_named_data_set_comes_back_pixel_for_pixel(tmp_path, call_script):
    ran = call_script("shard", "data=digits", f"out={tmp_path}/new/shards", "samples=300", "seed=1")
    assert ran.status == 0, ran.err
    assert "train 1258 images in 5 shards, val 270 images in 1 shard, test 269 images in 1 shard" in ran.out
    found = Shards(root=f"{tmp_path}/new/shards", image_size=8, channels=1, normalize=False).prepare()
    expected = Digits(normalize=False, seed=1).prepare()
    assert found.class_names == expected.class_names
    assert found.notes == []
    for name in ("train", "val", "test"):
        assert sorted_rows(found.parts[name]) == sorted_rows(expected.parts[name])
    labels = found.train_labels[:300].bincount(minlength=10)
    assert labels.min() > 10, "a shard holds samples of all classes"


def test_the_files_of_a_folder_are_copied_as_they_are(tmp_path, photos, call_script):
    ran = call_script("shard", "data=image_folder", f"root={photos}", f"out={tmp_path}/out", "samples=5")
    assert ran.status == 0, ran.err
    originals = sorted(path.read_bytes() for path in photos.rglob("*.*"))
    copies, labels = [], set()
    for shard in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                content = tar.extractfile(member).read()
                labels.add(content) if member.name.endswith(".cls") else copies.append(content)
    assert sorted(copies) == originals
    assert labels == {b"0", b"1"}
    found = Shards(root=f"{tmp_path}/out", image_size=8).prepare()
    assert found.class_names == ["cat", "dog"]
    assert [len(found.parts[name]) for name in ("train", "val", "test")] == [28, 6, 6]
    assert not list((tmp_path / "out").glob(".*"))


def test_the_same_input_gives_the_same_bytes(tmp_path, photos, call_script):
    for name in ("a", "b"):
        assert call_script("shard", "data=image_folder", f"root={photos}", f"out={tmp_path}/{name}").status == 0
    for path in (tmp_path / "a").glob("*.tar"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.slow
def test_as_a_new_user_types_it(tmp_path, photos, type_script):
    ran = type_script("shard", "data=image_folder", "root=photos/", "out=my shards", cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert ran.out.startswith("Written: my shards, ")
    assert "data=shards data.root='my shards'" in ran.out


def test_a_set_that_was_not_written_to_its_end_is_refused(tmp_path, photos, call_script):
    broken = sorted(photos.rglob("*.png"))[3]
    broken.write_bytes(broken.read_bytes()[:40])
    ran = call_script("shard", "data=image_folder", f"root={photos}", f"out={tmp_path}/out", "samples=2")
    assert ran.status == 2
    assert broken.name in ran.err
    with pytest.raises(Exception, match="was not written to its end"):
        Shards(root=f"{tmp_path}/out").prepare()


@pytest.mark.parametrize(
    ("arguments", "telling"),
    [
        ("", "data= is missing"),
        ("data=digits", "out= is missing"),
        ("data=image_folder out={}/new", "root= is missing"),
        ("data=digits root={} out={}/new", "root= goes with data=image_folder"),
        ("data=digitz out={}/new", "did you mean 'digits'?"),
        ("data=csv out={}/new", "no images to be put into shards"),
        ("data=iris out={}/new", "no images to be put into shards"),
        ("data=shards out={}/new", "no images to be put into shards"),
        ("data=digits out={}", "is not empty"),
        ("data=digits out={}/a.txt", "is a file"),
        ("data=digits out={}/new samples=0", "samples=0 must be"),
        ("data=digits out={}/new samples=x", "samples=x must be"),
        ("data=digits out={}/new seed=-1", "seed=-1 must be"),
        ("data=image_folder root={}/none out={}/new", "does not exist"),
        ("data=mnist data_dir={}/none out={}/new", "Put train-images-idx3-ubyte.gz"),
        ("daat=digits", "did you mean 'data'?"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(tmp_path, call_script, monkeypatch, arguments, telling):
    def unreachable(*_, **__):
        raise OSError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    (tmp_path / "a.txt").write_text("x")
    ran = call_script("shard", *arguments.replace("{}", str(tmp_path)).split())
    assert ran.status == 2
    assert telling in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not (tmp_path / "new").exists()
