"""Folders of images: where they may lie, what is refused, and reading them in memory or when needed."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data.base import BatchOrder, Loader
from zoo.data.image_folder import ImageFolder, LazyImages
from zoo.errors import UserError


def paint(path, level: int, size: tuple[int, int] = (12, 9)) -> None:
    """A picture of one grey level, by which it is known again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), level, np.uint8)).save(path)


def fill(folder, *, per_class: int = 20, classes: tuple[str, ...] = ("cat", "dog"), offset: int = 0):
    """Picture i of all has the grey level offset + i."""
    for k, name in enumerate(classes):
        for i in range(per_class):
            paint(folder / name / f"{i:03d}.png", offset + k * per_class + i, size=(8 + i, 9))
    return folder


def folder(root, **options) -> ImageFolder:
    return ImageFolder(root=str(root), **{"image_size": 8, "normalize": False, **options})


def levels(data: ImageFolder, name: str) -> dict[int, int]:
    """Grey level -> label of each image of a part."""
    part = data.part(name)
    batch = part[torch.arange(len(part))]
    return dict(zip((batch.image[:, 0, 4, 4] * 255).round().int().tolist(), batch.label.tolist(), strict=True))


@pytest.fixture(params=[1024, 0], ids=["in memory", "lazy"])
def memory(request) -> float:
    return request.param


def test_class_folders_are_split_70_15_15_each_class_alike(tmp_path, memory):
    data = folder(fill(tmp_path), in_memory_mb=memory)
    parts = {name: levels(data, name) for name in ("train", "val", "test")}
    counts = {name: np.bincount(list(part.values())).tolist() for name, part in parts.items()}
    assert counts == {"train": [14, 14], "val": [3, 3], "test": [3, 3]}
    assert {level: label for part in parts.values() for level, label in part.items()} == {
        i: i // 20 for i in range(40)
    }  # nothing is lost or seen twice, and each image has the label of its folder


def test_the_split_is_a_function_of_the_seed(tmp_path):
    fill(tmp_path)
    one, same, other = (levels(folder(tmp_path, seed=seed), "val") for seed in (0, 0, 1))
    assert one == same
    assert one != other


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_folders_of_parts_are_used_as_they_are(tmp_path, val):
    fill(tmp_path / "train", per_class=4)
    fill(tmp_path / val, per_class=3, offset=100)
    fill(tmp_path / "test", per_class=2, offset=200)
    data = folder(tmp_path)
    assert sorted(levels(data, "train")) == list(range(8))
    assert sorted(levels(data, "val")) == list(range(100, 106))
    assert sorted(levels(data, "test")) == list(range(200, 204))
    assert data.prepare().notes == []


def test_a_missing_part_is_cut_from_train_and_said(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "val", per_class=2, offset=100)
    data = folder(tmp_path)
    assert (len(data.part("train")), len(data.part("test"))) == (34, 6)
    assert sorted(levels(data, "val")) == list(range(100, 104))
    assert sorted(levels(data, "train") | levels(data, "test")) == list(range(40))
    (note,) = data.prepare().notes
    assert "No folder for test" in note


def test_shares_say_how_much_is_cut_and_nothing_where_they_are_0(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "val", per_class=2, offset=100)
    data = folder(tmp_path, shares=[0.9, 0.1, 0.0])
    assert set(data.prepare().parts) == {"train", "val"}
    assert len(data.part("train")) == 40
    assert data.prepare().notes == []
    data = folder(tmp_path / "train", shares=[0.5, 0.25, 0.25])
    assert [len(data.part(name)) for name in ("train", "val", "test")] == [20, 10, 10]
    with pytest.raises(UserError, match=r"data\.shares=\[0\.5, 0\.2, 0\.2\] must be shares"):
        folder(tmp_path, shares=[0.5, 0.2, 0.2])


def test_images_of_any_ending_case_and_depth_are_found_and_clutter_is_not(tmp_path):
    fill(tmp_path, per_class=2)
    paint(tmp_path / "cat" / "A.JPG", 50)
    paint(tmp_path / "cat" / "deep" / "er" / "b.TIFF", 60)
    for name in (".hidden.png", "__MACOSX/x.png", ".cache/x.png"):
        paint(tmp_path / "dog" / name, 99)
    (tmp_path / "dog" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "dog" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "dog" / "readme.txt").write_text("x")
    paint(tmp_path / "__MACOSX" / "cat" / "a.png", 99)
    data = folder(tmp_path)
    found = {level for name in data.prepare().parts for level in levels(data, name)}
    assert found == {0, 1, 2, 3, 50, 60}
    assert data.prepare().class_names == ["cat", "dog"]


def test_the_facts_are_those_of_the_images(tmp_path, memory):
    data = folder(fill(tmp_path, classes=("a", "b", "c")), channels=1, in_memory_mb=memory)
    facts = data.prepare().facts
    batch = next(iter(data.train_dataloader()))
    assert list(batch.image.shape[1:]) == facts["image_shape"] == [1, 8, 8]
    assert (facts["num_features"], facts["num_classes"], facts["kind"]) == (64, 3, "multiclass")
    assert facts["label_counts"] == [14, 14, 14] == torch.bincount(data.prepare().train_labels).tolist()


def test_normalization_comes_from_the_training_part_alone(tmp_path, memory):
    fill(tmp_path / "train", per_class=4)
    fill(tmp_path / "val", per_class=4, offset=200)
    fill(tmp_path / "test", per_class=4, offset=200)
    preprocessing = folder(tmp_path, normalize=True, in_memory_mb=memory).prepare().preprocessing
    assert preprocessing["mean"] == pytest.approx([3.5 / 255] * 3)
    assert preprocessing["std"] == pytest.approx([np.arange(8).std() / 255] * 3)


def test_lazy_and_in_memory_give_the_same_batches(tmp_path):
    fill(tmp_path)
    one, two = (folder(tmp_path, normalize=True, in_memory_mb=mb) for mb in (1024, 0))
    assert isinstance(two.part("train"), LazyImages)
    for expected, found in zip(one.train_dataloader(), two.train_dataloader(), strict=True):
        assert torch.equal(expected.image, found.image)
        assert torch.equal(expected.label, found.label)
    assert one.prepare().fingerprint == two.prepare().fingerprint


def test_the_fingerprint_notices_another_file(tmp_path):
    before = folder(fill(tmp_path)).prepare().fingerprint
    paint(tmp_path / "cat" / "new.png", 200)
    assert folder(tmp_path).prepare().fingerprint != before


def test_a_process_without_a_share_of_the_last_batch_gets_an_empty_one(tmp_path):
    part = folder(fill(tmp_path, per_class=3), in_memory_mb=0).part("train")
    assert part[torch.arange(0)].image.shape == (0, 3, 8, 8)


def test_a_lazy_part_can_be_cut_and_pickled(tmp_path):
    part = folder(fill(tmp_path), in_memory_mb=0, fraction=0.5).part("train")
    assert len(part) == 14
    again = pickle.loads(pickle.dumps(part))
    assert torch.equal(again[torch.tensor([3, 1])].image, part[torch.tensor([3, 1])].image)


def test_a_spawned_worker_reads_the_same_batches(tmp_path):  # 5 s: the worker imports torch and lightning
    part = folder(fill(tmp_path, per_class=4), in_memory_mb=0).part("train")
    order = BatchOrder(len(part), 2, shuffle=False)
    loader = Loader(part, order, num_workers=1, multiprocessing_context="spawn")
    for batch, indices in zip(loader, order, strict=True):
        assert torch.equal(batch.image, part[indices].image)
        assert torch.equal(batch.label, part[indices].label)


# --- what is refused, in one line ---


def spoil(root, count: int) -> None:
    for path in sorted(root.rglob("*.png"))[:count]:
        path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(("count", "named"), [(1, "cat/000.png"), (7, "cat/004.png and 2 more")])
def test_corrupt_files_are_counted_and_the_first_five_named(tmp_path, count, named):
    spoil(fill(tmp_path), count)
    with pytest.raises(UserError, match=rf"{count} of 40 images .*cat/000\.png.*skip_corrupt=true\.$") as caught:
        folder(tmp_path).prepare()
    assert named in str(caught.value)
    assert "cat/005.png" not in str(caught.value)


def test_corrupt_files_are_left_out_and_named_where_that_is_asked_for(tmp_path, memory):
    spoil(fill(tmp_path), 2)
    data = folder(tmp_path, skip_corrupt=True, in_memory_mb=memory)
    found = {level: label for name in data.prepare().parts for level, label in levels(data, name).items()}
    assert found == {i: i // 20 for i in range(2, 40)}
    assert "cat/000.png, cat/001.png; left out" in data.prepare().notes[0]


def test_a_class_with_corrupt_files_only_is_refused(tmp_path):
    spoil(fill(tmp_path, per_class=3), 3)
    with pytest.raises(UserError, match="No training image of cat"):
        folder(tmp_path, skip_corrupt=True).prepare()


def test_a_corrupt_file_is_named_when_a_lazy_batch_reads_it(tmp_path):
    data = folder(fill(tmp_path), in_memory_mb=0)
    data.prepare()
    spoil(tmp_path, 40)
    with pytest.raises(UserError, match=r"\.png"):
        next(iter(data.train_dataloader()))


def missing(root):
    return root / "nowhere"


def a_file(root):
    (root / "x").touch()
    return root / "x"


def no_images(root):
    (root / "cat").mkdir()
    return root


def loose_images(root):
    paint(root / "a.png", 1)
    return root


def one_class(root):
    return fill(root, classes=("cat",))


def an_empty_class(root):
    (root / "bird").mkdir()
    return fill(root)


def no_train(root):
    fill(root / "val")
    return root


def two_vals(root):
    for name in ("train", "val", "valid"):
        fill(root / name)
    return root


def odd_classes(root):
    fill(root / "train", classes=("cat", "cow", "dog"))
    fill(root / "val", classes=("cat", "dog", "frog"))
    return root


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, "nowhere does not exist"),
        (a_file, "x is a file"),
        (no_images, "no images in class folders"),
        (loose_images, "no images in class folders"),
        (one_class, "one class folder only, 'cat'"),
        (an_empty_class, "without images .*: bird"),
        (no_train, "val/ but no train/"),
        (two_vals, "both val/ and valid/"),
        (odd_classes, "cow is only in train/, frog is only in val/"),
    ],
)
def test_folders_that_are_no_data_set_are_refused_in_one_line(tmp_path, make, message):
    with pytest.raises(UserError, match=message) as caught:
        folder(make(tmp_path)).prepare()
    assert "\n" not in str(caught.value)


def test_a_network_that_knows_its_classes_may_be_asked_about_one(tmp_path):
    trained = folder(fill(tmp_path / "photos")).prepare()
    dogs = folder(fill(tmp_path / "dogs", classes=("dog",), offset=100), shares=(1, 0, 0))
    dogs.prepare_as(trained.preprocessing, trained.class_names)
    assert set(levels(dogs, "train").values()) == {trained.class_names.index("dog")}
    assert dogs.prepare().class_names == trained.class_names
    fill(tmp_path / "parts" / "train", classes=("dog",), per_class=2)
    fill(tmp_path / "parts" / "test", classes=("cat",), per_class=2, offset=200)
    parts = folder(tmp_path / "parts", shares=(1, 0, 0))
    parts.prepare_as(trained.preprocessing, trained.class_names)
    assert (levels(parts, "train"), levels(parts, "test")) == ({0: 1, 1: 1}, {200: 0, 201: 0})


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "photos")
    assert len(folder("~/photos").part("train")) == 28


def test_a_number_of_channels_that_images_do_not_have_is_refused(tmp_path):
    with pytest.raises(UserError, match="channels=2"):
        folder(tmp_path, channels=2)
