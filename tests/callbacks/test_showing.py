"""What stands beside a chart: an explanation in its tab, and above pictures and texts what they are."""

import io

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as NewAccumulator

from zoo.callbacks.event_file import RunWriter
from zoo.callbacks.tags import TAGS, described
from zoo.pictures.caption import NARROWEST
from zoo.run import configure, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("run")
    short = ("trainer.max_epochs=1", "trainer.limit_train_batches=3", "trainer.log_every_n_steps=1")
    assert run(configure("model=mlp", *short, "trainer.num_threads=1", "callbacks.progress=null", run_dir=where)) == 0
    return where


def test_every_tag_that_a_pattern_of_the_list_stands_for_is_described():
    assert described("train/loss") == TAGS["train/loss"]
    assert described("train/loss/generator") == TAGS["train/<metric>"]
    assert described("by_epoch/val/accuracy") == TAGS["by_epoch/val/<metric>"]
    assert described("norms/gradient_generator") == TAGS["norms/gradient_<turn>"]
    assert described("precision_recall/T-shirt/top") == TAGS["precision_recall/<class>"]
    assert described("probe/N[1][2]") == TAGS["probe/N[<i>][<L>]"]
    assert described("hp_metric") == ""


def test_no_description_leans_on_the_one_before_it():
    assert [tag for tag, text in TAGS.items() if text.startswith(("the same", "that of"))] == []


def test_each_tab_explains_its_charts(folder):
    board = NewAccumulator(str(folder))
    board.Reload()
    kinds = {tag: board.SummaryMetadata(tag) for tag in board.Tags()["tensors"]}
    tabs = {
        "train/loss": "scalars",
        "by_epoch/val/loss": "scalars",
        "weights/1_hidden.0.linear": "histograms",
        "samples/kernels": "images",
        "samples/activity/text_summary": "text",
        "precision_recall/0": "pr_curves",
    }
    assert {tag: kinds[tag].plugin_data.plugin_name for tag in tabs} == tabs
    for tag in tabs:
        assert kinds[tag].summary_description == described(tag.removesuffix("/text_summary")) != ""


def test_a_tag_is_explained_once(tmp_path):
    writer = RunWriter(tmp_path)
    writer.add_scalar("train/loss", 1.0, 1)
    first = writer.position()
    writer.add_scalar("train/loss", 1.0, 2)
    assert writer.position() - first < 60 < len(TAGS["train/loss"]) + 60
    writer.close()


def test_pictures_and_texts_say_what_they_are_and_of_which_part(folder, monkeypatch):
    board = EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0})
    board.Reload()
    for event in (board.Images(tag)[0] for tag in board.Tags()["images"]):
        image = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
        assert image.shape[1] >= NARROWEST
        assert (image[:6] == 255).all()  # the edge of the caption
        assert image[6:30].min() == 0  # its heading
    text = board.Tensors("samples/activity/text_summary")[0].tensor_proto.string_val[0].decode()
    heading, table = text.split("\n\n")
    assert heading.startswith("**activity, validation part, epoch 1**: each layer's answers")
    assert table.startswith("| layer |")
