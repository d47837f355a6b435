"""What a network is fine-tuned on is prepared as what it was trained on: its vocabulary, its mean and deviation."""

import shutil

import pytest
import torch
import yaml
from PIL import Image

from zoo.build import build
from zoo.checkpoint import load_model, read
from zoo.config.instantiate import make
from zoo.config.prepare import adopt
from zoo.run import configure, run

QUIET = ("logger=none", "trainer.num_threads=1", "trainer.max_epochs=1")
SMALL = ("model=lstm", "data=text_file", "model.hidden_size=12", "model.embedding_dim=6", "data.window=16")


def trained(folder, *overrides):
    assert run(configure(*QUIET, *overrides, run_dir=folder)) == 0
    return folder


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A language model that has seen the letters a to h."""
    folder = tmp_path_factory.mktemp("writer")
    (folder / "first.txt").write_text("abcdefgh" * 200)
    return trained(folder / "run", *SMALL, f"data.path={folder / 'first.txt'}")


@pytest.fixture
def other(tmp_path):
    """A text with letters of its own, as many as the first, and some of the first."""
    (tmp_path / "second.txt").write_text("hgfexyzw" * 200)
    return tmp_path / "second.txt"


def test_a_letter_keeps_its_vector_in_another_text(writer, other, tmp_path):
    words = (*SMALL, f"data.path={other}", f"pretrained={writer}")
    folder = trained(tmp_path / "run", *words, "optimizer.lr=0")
    notes = build(configure(*QUIET, *words, run_dir=tmp_path / "again")).notes
    assert [note for note in notes if note.startswith("Inputs are prepared as for") and "its vocabulary" in note]
    was, now = read(writer), read(folder)
    assert now["preprocessing"] == was["preprocessing"]
    start, end = (load_model(place).state_dict() for place in (writer, folder))
    assert all(torch.equal(start[name], end[name]) for name in start), "a rate of 0 changes nothing"
    own = trained(tmp_path / "own", *words, "own_inputs=true")
    assert read(own)["preprocessing"] != was["preprocessing"]


def test_a_run_goes_on_where_its_source_is_gone(writer, other, tmp_path):
    source = shutil.copytree(writer, tmp_path / "source")
    folder = trained(tmp_path / "run", *SMALL, f"data.path={other}", f"pretrained={source}")
    shutil.rmtree(source)
    before = read(folder)["preprocessing"]
    longer = configure(f"resume={folder}", "trainer.max_epochs=2")
    assert run(longer) == 0
    assert read(folder)["preprocessing"] == before


def test_photos_are_normalized_as_the_network_has_seen_them(tmp_path):
    first = trained(tmp_path / "first", "model=lenet5", "data=digits")
    for kind, grey in (("dark", 20), ("light", 200)):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(12):
            Image.new("L", (8, 8), grey + i).save(tmp_path / "photos" / kind / f"{i}.png")
    data = ("data=image_folder", f"data.root={tmp_path / 'photos'}", "data.image_size=28", "data.channels=1")
    second = trained(tmp_path / "second", "model=lenet5", *data, f"pretrained={first}")
    then, now = read(first)["preprocessing"], read(second)["preprocessing"]
    assert (now["mean"], now["std"]) == (then["mean"], then["std"])
    assert (now["height"], then["height"]) == (
        28,
        yaml.safe_load((first / "config.yaml").read_text())["data"]["image_size"],
    )


def test_what_has_nothing_in_common_is_prepared_by_itself(writer, tmp_path):
    data = configure("model=mlp", "data=iris", f"pretrained={writer}")
    assert adopt(data, make({"_target_": data.data["_target_"]}, "data")) == []
