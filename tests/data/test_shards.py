"""Shards: who reads what and when, an index that notices changes, and what is refused."""

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import tracemalloc
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data import shard_index
from zoo.data.base import Augmented, Loader
from zoo.data.image_folder import ImageFolder
from zoo.data.shards import ShardImages, ShardOrder, Shards
from zoo.errors import UserError
from zoo.run import configure, run


def png(level: int, size=(8, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, level).save(file, "PNG")
    return file.getvalue()


def write(path, files: dict[str, bytes]):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def samples(levels, label=lambda level: str(level % 3)) -> dict[str, bytes]:
    """An image of each grey level, by which it is known again, with its label."""
    files = {}
    for level in levels:
        files |= {f"{level:03d}.png": png(level), f"{level:03d}.cls": label(level).encode()}
    return files


SIZES = (9, 4, 7, 1, 6, 8, 5)  # of the training shards


@pytest.fixture
def root(tmp_path):
    """Training images of the levels 0 to 39 in 7 shards of different sizes, 10 and 8 more for validation and test."""
    begin = 0
    for i, size in enumerate(SIZES):
        write(tmp_path / f"train-{i}.tar", samples(range(begin, begin + size)))
        begin += size
    write(tmp_path / "val-0.tar", samples(range(100, 110)))
    write(tmp_path / "test-0.tar", samples(range(200, 208)))
    return tmp_path


def shards(root, **options) -> Shards:
    return Shards(root=str(root), **{"image_size": 8, "channels": 1, "normalize": False, "batch_size": 8, **options})


def process(data: Shards, rank: int, world_size: int) -> Shards:
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)
    return data


def levels(batch) -> list[int]:
    return (batch.image[:, 0, 4, 4] * 255).round().int().tolist()


def epoch(data: Shards, number: int = 0) -> list[list[int]]:
    loader = data.train_dataloader()
    loader.order.set_epoch(number)
    return [levels(batch) for batch in loader]


def order(rank: int = 0, world_size: int = 1, *, sizes=SIZES, batch_size: int = 8, shuffle: bool = True, **options):
    first = torch.tensor([0, *np.cumsum(sizes)])
    others = {"window": 2, "seed": 3} | options
    return ShardOrder(first, batch_size, shuffle=shuffle, rank=rank, world_size=world_size, **others)


# --- the order ---


@pytest.mark.parametrize("sizes", [SIZES, (10, 10, 10, 10), (0, 50, 1, 3, 0, 2), (5, 5, 5)])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 8, 1000])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_sample_comes_once_an_epoch_in_as_many_batches_for_each_process(sizes, world_size, batch_size, shuffle):
    ranks = [
        [b.tolist() for b in order(rank, world_size, sizes=sizes, batch_size=batch_size, shuffle=shuffle)]
        for rank in range(world_size)
    ]
    assert sorted(chain(*chain(*ranks))) == list(range(sum(sizes)))
    assert {len(batches) for batches in ranks} == {-(-sum(sizes) // batch_size)} == {len(order(sizes=sizes, batch_size=batch_size))}  # fmt: skip  # noqa: E501


def test_shards_of_equal_size_give_each_process_its_share_of_each_batch():
    ranks = [list(map(len, order(rank, 3, sizes=(12,) * 6, batch_size=10))) for rank in range(3)]
    assert [sum(step) for step in zip(*ranks, strict=True)] == [10] * 7 + [2]
    assert {size for rank in ranks for size in rank[:-1]} == {3, 4}


def test_shards_of_different_size_are_used_up_together():
    ranks = [list(map(len, order(rank, 2, sizes=(90, 30), batch_size=12))) for rank in range(2)]
    assert sorted(ranks) == [[3] * 10, [9] * 10]


def test_one_process_has_batches_of_the_size_that_was_asked_for():
    assert list(map(len, order(batch_size=9))) == [9, 9, 9, 9, 4]


def test_evaluation_gives_no_process_an_empty_batch():
    for rank in range(2):
        assert min(map(len, order(rank, 2, sizes=(9,), batch_size=8, shuffle=False))) > 0


def test_the_order_is_a_function_of_seed_and_epoch_and_leaves_the_global_generators_alone():
    def indices(number: int, **options) -> list[int]:
        made = order(**options)
        made.set_epoch(number)
        return torch.cat(list(made)).tolist()

    state, random = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert indices(1) == indices(1)
    assert indices(1) != indices(2)
    assert indices(1) != indices(1, seed=4)
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(random, np.random.get_state()[1])


def test_samples_are_shuffled_within_windows_of_shards():
    made = order(sizes=(10,) * 6, batch_size=20, window=2)
    windows = [batch.tolist() for batch in made]
    assert [sorted({i // 10 for i in window}) for window in windows] == [
        sorted(pair) for pair in np.split(made.own_shards(), 3)
    ]
    assert all(window != sorted(window) for window in windows)
    (whole,) = order(sizes=(10,) * 6, batch_size=60, window=9)
    assert len({i // 10 for i in whole[:10].tolist()}) > 2


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_order_of_a_billion_samples_needs_no_more_than_a_window(shuffle):
    made = order(1, 3, sizes=np.full(10**6, 1000), batch_size=30, shuffle=shuffle, window=4)
    made.first_batch = 10**7
    tracemalloc.start()
    assert len(next(iter(made))) == 10
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * 2**20  # a few numbers a shard; a number a sample would be 8 GB


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("stop", [0, 1, 3, 4])
def test_an_epoch_goes_on_with_the_batch_that_comes_next(world_size, stop):
    for rank in range(world_size):
        whole = [batch.tolist() for batch in order(rank, world_size)]
        resumed = order(rank, world_size)
        resumed.first_batch = stop
        assert [batch.tolist() for batch in resumed] == whole[stop:]


def test_a_loader_resumes_at_the_sample(root):
    whole = epoch(shards(root))
    interrupted = shards(root).train_dataloader()
    steps = iter(interrupted)
    first = [levels(next(steps)) for _ in range(3)]
    resumed = shards(root).train_dataloader()
    resumed.load_state_dict(interrupted.state_dict())
    assert first + [levels(batch) for batch in resumed] == whole


# --- who reads what ---


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_process_opens_its_own_shards_only(root, monkeypatch, world_size):
    opened: list[set[str]] = []
    open_file = os.open

    def spy(path, *arguments, **options):
        if str(path).endswith(".tar"):
            opened[-1].add(os.path.basename(path))  # noqa: PTH119
        return open_file(path, *arguments, **options)

    seen = []
    for rank in range(world_size):
        data = process(shards(root), rank, world_size)
        data.prepare()
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", spy)
            opened.append(set())
            seen += chain(*epoch(data, number=5))
    assert sorted(seen) == list(range(40))
    assert sorted(chain(*opened)) == [f"train-{i}.tar" for i in range(7)], "each by one process alone"


def test_other_epochs_deal_the_shards_out_anew():
    made, dealt = order(0, 2), set()
    for number in range(5):
        made.set_epoch(number)
        dealt.add(tuple(made.own_shards()))
    assert len(dealt) == 5


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_sees_every_sample_once_with_any_number_of_processes(root, world_size):
    for part, expected in (("val", range(100, 110)), ("test", range(200, 208))):
        loaders = [process(shards(root), rank, world_size).loader(part) for rank in range(world_size)]
        assert sorted(chain(*(levels(b) for loader in loaders for b in loader))) == list(expected)


def test_labels_belong_to_their_images(root):
    for batch in shards(root).train_dataloader():
        assert batch.label.tolist() == [level % 3 for level in levels(batch)]
        assert batch.label.dtype == torch.int64


def test_pixels_and_statistics_are_those_of_the_image_folder(tmp_path):
    generator = np.random.default_rng(0)
    files = {}
    for i in range(24):
        path = tmp_path / "photos" / "train" / "ab"[i % 2] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (9 + i, 12, 3), np.uint8)).save(path)
        files |= {f"x/{i:03d}.png": path.read_bytes(), f"x/{i:03d}.cls": f"{'ab'[i % 2]}\n".encode()}
    for part in ("val", "test"):
        for name in "ab":
            (tmp_path / "photos" / part / name).mkdir(parents=True)
            (tmp_path / "photos" / part / name / "0.png").write_bytes(files["x/000.png"])
        write(tmp_path / "shards" / part / "0.tar", {k: v for k, v in files.items() if "/000." in k})
    write(tmp_path / "shards" / "train" / "0.tar", files)
    one = ImageFolder(root=str(tmp_path / "photos"), image_size=8).prepare()
    two = Shards(root=str(tmp_path / "shards"), image_size=8).prepare()
    assert two.preprocessing == one.preprocessing
    assert (two.facts, two.class_names) == (one.facts, one.class_names)
    batches = [loaded.parts["train"][torch.arange(24)] for loaded in (one, two)]
    places = torch.tensor([*range(0, 24, 2), *range(1, 24, 2)])  # the folder has class after class
    assert torch.equal(batches[0].image, batches[1].image[places])
    assert torch.equal(batches[0].label, batches[1].label[places])


def test_a_part_can_be_cut_pickled_augmented_and_read_by_workers(root):
    data = shards(root, fraction=0.5)
    part = data.part("train")
    assert isinstance(part, ShardImages)
    assert len(part) == 20 == len(data.prepare().train_labels) == sum(data.prepare().facts["label_counts"])
    again = pickle.loads(pickle.dumps(part))
    assert torch.equal(again[torch.tensor([3, 1])].image, part[torch.tensor([3, 1])].image)
    assert part[torch.arange(0)].image.shape == (0, 1, 8, 8)
    darker = Augmented(part, lambda images, indices, epoch, seed: images // 2, seed=0)
    whole = torch.arange(20)
    assert levels(darker[whole, 0]) == [level // 2 for level in levels(part[whole])]
    loader = Loader(part, data.train_dataloader().order, num_workers=1)
    assert [levels(batch) for batch in loader] == epoch(data)


# --- which part a shard is of ---


def test_folders_of_parts_are_used_as_they_are(root):
    for path in root.glob("*.tar"):
        part, number = path.stem.split("-")
        (root / part).mkdir(exist_ok=True)
        path.rename(root / part / f"{number}.tar")
    data = shards(root)
    assert [len(data.part(name)) for name in ("train", "val", "test")] == [40, 10, 8]


def test_the_last_shards_are_set_aside_where_there_is_a_training_part_only(tmp_path):
    for i in range(20):
        write(tmp_path / f"part{i:02d}.tar", samples(range(6 * i, 6 * i + 6)))
    data = shards(tmp_path)
    parts = {name: [shard.stem[-2:] for shard in data.part(name).shards] for name in ("train", "val", "test")}
    assert parts["val"] == ["14", "15", "16"]
    assert parts["test"] == ["17", "18", "19"]
    assert len(parts["train"]) == 14
    assert "the last 3 of 20 training shards are set aside" in data.prepare().notes[0]
    assert sorted(levels(data.part("val")[torch.arange(18)])) == list(range(84, 102))


def test_one_shard_alone_is_for_training(tmp_path):
    write(tmp_path / "a.tar", samples(range(6)))
    data = shards(tmp_path)
    assert list(data.prepare().parts) == ["train"]
    assert "too few to set one aside" in data.prepare().notes[0]


def test_classes_are_numbers_or_names_and_a_file_may_name_them(tmp_path):
    names = ("dog", "cat", "cow")
    write(tmp_path / "a.tar", samples(range(9), lambda level: names[level % 3]))
    loaded = shards(tmp_path).prepare()
    assert loaded.class_names == ["cat", "cow", "dog"]
    assert loaded.train_labels.tolist() == [2, 0, 1] * 3
    (tmp_path / "classes.txt").write_text("dog\ncat\ncow\nhen\n")
    loaded = shards(tmp_path).prepare()
    assert (loaded.class_names, loaded.facts["num_classes"]) == (["dog", "cat", "cow", "hen"], 4)
    assert loaded.train_labels.tolist() == [0, 1, 2] * 3
    write(tmp_path / "a.tar", samples(range(9)))
    assert shards(tmp_path).prepare().train_labels.tolist() == [0, 1, 2] * 3
    later = shards(tmp_path)
    later.prepare_as(shards(tmp_path).prepare().preprocessing, ["hen", "cow", "cat", "dog"])
    assert later.prepare().train_labels.tolist() == [3, 2, 1] * 3


def test_a_class_without_training_images_is_said(tmp_path):
    for name, label in (("train-0", "0"), ("train-1", "1"), ("val-0", "2"), ("test-0", "0")):
        write(tmp_path / f"{name}.tar", samples(range(3), lambda _, label=label: label))
    assert any("has the class 2" in note for note in shards(tmp_path).prepare().notes)


# --- the index ---


@pytest.fixture
def scanned(monkeypatch) -> list[str]:
    """Names of the shards whose headers were read."""
    names: list[str] = []
    scan = shard_index.scan
    monkeypatch.setattr(shard_index, "scan", lambda shard: names.append(shard.stem) or scan(shard))
    return names


def test_a_second_start_does_not_scan(root, scanned):
    before = epoch(shards(root))
    assert len(scanned) == 9
    scanned.clear()
    assert epoch(shards(root)) == before
    assert scanned == []


def test_a_changed_new_or_missing_shard_is_noticed_and_the_others_are_not_read_again(root, scanned):
    data = shards(root)
    before = data.prepare().fingerprint
    scanned.clear()
    write(root / "train-1.tar", samples(range(50, 56)))
    write(root / "train-9.tar", samples(range(60, 63), lambda level: "3"))
    (root / "train-0.tar").unlink()
    data = shards(root)
    assert sorted(chain(*epoch(data))) == [*range(13, 40), *range(50, 56), *range(60, 63)]
    assert scanned == ["train-1", "train-9"]
    assert data.prepare().class_names == ["0", "1", "2", "3"]
    assert data.prepare().fingerprint != before
    for batch in data.train_dataloader():
        assert batch.label.tolist() == [3 if level >= 60 else level % 3 for level in levels(batch)]


def test_a_shard_of_the_same_size_with_another_time_is_read_again(root, scanned):
    shards(root).prepare()
    scanned.clear()
    os.utime(root / "train-2.tar", ns=(1, 1))
    shards(root).prepare()
    assert scanned == ["train-2"]


@pytest.mark.parametrize("content", [b"", b"no index", None])
def test_an_index_that_is_no_use_is_made_again(root, scanned, content):
    before = epoch(shards(root))
    index = root / "index.npz"
    index.write_bytes(index.read_bytes()[:200] if content is None else content)
    scanned.clear()
    assert epoch(shards(root)) == before
    assert len(scanned) == 9


def test_a_folder_that_cannot_be_written_is_scanned_at_each_start(root, scanned, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "savez", refuse)
    assert len(shards(root).part("train")) == 40
    assert [path.name for path in root.iterdir() if path.suffix != ".tar"] == []


def test_the_arrays_of_the_parts_are_views_of_one_index(root):
    train, val, test = (part.offsets for part in shards(root).prepare().parts.values())
    assert train.data_ptr() + train.nbytes == val.data_ptr()
    assert val.data_ptr() + val.nbytes == test.data_ptr()


# --- what is refused, in one line ---


def nothing(root):
    return root / "nowhere"


def no_shards(root):
    (root / "a.txt").write_text("x")
    return root


def packed(root):
    (root / "a.tar.gz").write_bytes(b"x")
    return root


def empty_train(root):
    (root / "train").mkdir()
    return root


def no_training(root):
    write(root / "val-0.tar", samples(range(3)))
    return root


def of_no_part(root):
    write(root / "train-0.tar", samples(range(3)))
    write(root / "more.tar", samples(range(3)))
    return root


def unfinished(root):
    write(root / "train-0.tar", samples(range(3)))
    (root / ".unfinished").touch()
    return root


def cut_off(root):
    path = write(root / "train-0.tar", samples(range(9)))
    path.write_bytes(path.read_bytes()[: 9 * 4 * 512 - 30])
    return root


def cut_between_members(root):
    path = write(root / "train-0.tar", samples(range(9)))
    path.write_bytes(path.read_bytes()[: 9 * 4 * 512])
    return root


def bad_header(root):
    path = write(root / "train-0.tar", samples(range(9)))
    content = bytearray(path.read_bytes())
    content[8 * 512 : 8 * 512 + 40] = b"x" * 40
    path.write_bytes(content)
    return root


def no_tar(root):
    (root / "train-0.tar").write_bytes(b"hello" * 1000)
    return root


def of_zero_bytes(root):
    (root / "train-0.tar").touch()
    return root


def without_label(root):
    files = samples(range(4))
    del files["002.cls"]
    write(root / "train-0.tar", files)
    return root


def empty_label(root):
    write(root / "train-0.tar", samples(range(4), lambda level: " \n"))
    return root


def two_images(root):
    write(root / "train-0.tar", samples(range(4)) | {"001.jpg": png(1)})
    return root


def no_images(root):
    write(root / "train-0.tar", {"a.txt": b"x"})
    return root


def one_class(root):
    write(root / "train-0.tar", samples(range(4), lambda level: "cat"))
    return root


def unknown_class(root):
    write(root / "train-0.tar", samples(range(4), lambda level: "cat"))
    (root / "classes.txt").write_text("dog\nhen\n")
    return root


def huge_number(root):
    write(root / "train-0.tar", samples(range(4), lambda level: "99999999"))
    return root


REFUSED = [
    (nothing, "nowhere is no folder"),
    (no_shards, "There are no shards .* scripts/shard.py"),
    (packed, "unpack a.tar.gz"),
    (empty_train, "There are no shards .* in .*train"),
    (no_training, "val but none for training"),
    (of_no_part, "more.tar is of none"),
    (unfinished, "was not written to its end"),
    (cut_off, "train-0.tar is no whole tar file .*unexpected end"),
    (cut_between_members, "train-0.tar is no whole tar file .*no end mark"),
    (bad_header, "train-0.tar is no whole tar file"),
    (no_tar, "train-0.tar is no whole tar file"),
    (of_zero_bytes, "train-0.tar is no whole tar file"),
    (without_label, r"002.png in .*train-0.tar has no label; add 002.cls"),
    (empty_label, "000.cls in .*train-0.tar holds no class"),
    (two_images, "train-0.tar has two images of one name, 001.png and 001.jpg"),
    (no_images, "hold no images"),
    (one_class, "of one class, 'cat'"),
    (unknown_class, "The label 'cat' .* none of the 2"),
    (huge_number, "99999999"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[make.__name__ for make, _ in REFUSED])
def test_what_is_no_set_of_shards_is_refused_in_one_line(tmp_path, make, message):
    with pytest.raises(UserError, match=message) as caught:
        shards(make(tmp_path)).prepare()
    assert "\n" not in str(caught.value)


def test_an_image_that_cannot_be_decoded_is_named(root):
    files = samples(range(9))
    files["004.png"] = files["004.png"][:50]
    write(root / "train-0.tar", files)
    for workers in (0, 1):
        with pytest.raises(UserError, match=r"^004.png in .*train-0.tar .*replace or remove it.$"):
            list(shards(root, num_workers=workers).train_dataloader())


def test_a_shard_that_shrinks_or_goes_while_it_is_read_is_named(root):
    data = shards(root)
    data.prepare()
    os.truncate(root / "train-0.tar", 600)
    with pytest.raises(UserError, match=r"train-0.tar is no whole tar file"):
        epoch(data)
    (root / "train-0.tar").unlink()
    with pytest.raises(UserError, match=r"train-0.tar cannot be opened"):
        epoch(data)


def test_more_processes_than_shards_are_refused(root):
    with pytest.raises(UserError, match="use at least as many shards as processes"):
        process(shards(root), 0, 8).train_dataloader()
    process(shards(root), 0, 8).loader("val")  # of one shard; here each process has a stretch of the samples


@pytest.mark.parametrize(("options", "message"), [({"channels": 2}, "channels=2"), ({"shuffle_shards": 0}, "shuffle_shards=0")])  # fmt: skip  # noqa: E501
def test_settings_that_no_set_has_are_refused(root, options, message):
    with pytest.raises(UserError, match=message):
        shards(root, **options)


# --- a whole run ---


def test_a_whole_run(root, tmp_path):
    given = (f"data.root={root}", "data.channels=1", "data.image_size=8", "data.num_workers=0", "data.batch_size=8")
    common = ("data=shards", "model=mlp", "trainer.max_epochs=2", "trainer.num_threads=1", "augment=shift")
    assert run(configure(*common, *given, run_dir=tmp_path / "run")) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["iteration"], metrics["samples_seen"]) == (10, 80)
    assert "test/accuracy" in metrics


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads /proc")
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_over_ten_times_the_allowed_memory_stays_within_it(workers):
    driver = Path(__file__).parent.parent / "drivers" / "shards_memory.py"
    command = [sys.executable, str(driver), "allowed_mb=64", f"workers={workers}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert json.loads(ended.stdout)["times"] >= 10
