import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from zoo.data import music
from zoo.data.images import md5
from zoo.data.music import Jsb, Nottingham
from zoo.errors import UserError

LENGTHS = {"traindata": [5, 9, 3, 7, 4], "validdata": [6, 2], "testdata": [8]}
real_files = pytest.mark.skipif(not os.environ.get("ZOO_DATA"), reason="ZOO_DATA does not say where data lies")


def write(folder: Path, lengths: dict[str, list[int]]) -> tuple[Path, dict[str, list[np.ndarray]]]:
    """A MATLAB file as the published ones are, and what is in it."""
    generator = np.random.default_rng(0)
    rolls = {
        name: [generator.integers(0, 2, (length, 88)).astype(np.uint8) for length in sizes]
        for name, sizes in lengths.items()
    }
    content = {}
    for name, pieces in rolls.items():
        content[name] = np.empty((1, len(pieces)), dtype=object)
        content[name][0, :] = pieces
    path = folder / "polyphonic-music" / Jsb.file
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, content)
    return path, rolls


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A data set of a made file, and the pieces in it."""
    path, rolls = write(tmp_path, LENGTHS)
    monkeypatch.setattr(Jsb, "checksum", md5(path.read_bytes()))
    return Jsb(data_dir=str(tmp_path), batch_size=2, eval_batch_size=5), rolls


def test_each_step_is_to_be_predicted_from_those_before_it(made):
    data, rolls = made
    for part, name in [("train", "traindata"), ("val", "validdata"), ("test", "testdata")]:
        dataset = data.prepare().parts[part]
        batch = dataset[torch.arange(len(dataset))]
        assert batch.x.dtype == batch.target.dtype == torch.float32
        assert batch.mask.sum(1).tolist() == [length - 1 for length in LENGTHS[name]]
        for i, roll in enumerate(rolls[name]):
            steps = len(roll) - 1
            assert np.array_equal(batch.x[i, :steps], roll[:-1])
            assert np.array_equal(batch.target[i, :steps], roll[1:])
            assert batch.mask[i, :steps].all()
            assert not batch.x[i, steps:].any()
            assert not batch.target[i, steps:].any()


def test_an_epoch_has_each_piece_once_in_an_order_of_its_own(made):
    data, rolls = made
    loader = data.train_dataloader()
    epochs = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        pieces = [
            x[mask].numpy().tobytes() for batch in loader for x, mask in zip(batch.x, batch.mask, strict=True)
        ]  # fmt: skip
        assert sorted(pieces) == sorted(roll[:-1].astype(np.float32).tobytes() for roll in rolls["traindata"])
        epochs.append(tuple(pieces))
    assert len(set(epochs)) > 1


def test_the_validation_comes_in_the_order_of_the_file(made):
    data, _ = made
    assert [batch.mask.sum(1).tolist() for batch in data.val_dataloader()] == [[5, 1]]


def test_another_file_is_refused(tmp_path):
    path, _ = write(tmp_path, LENGTHS)
    with pytest.raises(UserError, match="is not the published file") as caught:
        Jsb(data_dir=str(tmp_path)).prepare()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_downloaded_with_its_checksum_or_said_where_to_put(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(music, "download", lambda urls, folder, **options: asked.append((urls, folder, options)))
    Nottingham(data_dir=str(tmp_path)).fetch()
    (urls, folder, options) = asked[0]
    assert [url.rpartition("/")[2] for url in urls] == ["Nottingham.mat"]
    assert folder == tmp_path / "polyphonic-music"
    assert options["md5"] == Nottingham.checksum
    assert str(folder) in options["advice"]


@real_files
@pytest.mark.parametrize(("kind", "sizes", "steps", "longest"), [
    (Jsb, [229, 76, 77], [13807, 4602, 4725], 160), (Nottingham, [694, 173, 170], [176561, 45513, 44463], 1793),
])  # fmt: skip
def test_the_published_files_have_the_pieces_that_all_papers_count(kind, sizes, steps, longest):
    parts = kind(data_dir=os.environ["ZOO_DATA"]).prepare().parts
    assert [len(parts[name]) for name in ("train", "val", "test")] == sizes
    lengths = [parts[name].lengths + 1 for name in ("train", "val", "test")]
    assert [int(some.sum()) for some in lengths] == steps
    assert max(int(some.max()) for some in lengths) == longest
    batch = parts["val"][torch.arange(4)]
    assert set(batch.x.unique().tolist()) == {0.0, 1.0}
    assert 2 < batch.x[batch.mask].sum(1).mean() < 5  # keys that sound together
