"""What stands on TensorBoard's custom scalars, and that every chart of every model is explained."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from zoo.callbacks.layout import layout
from zoo.callbacks.tags import SECTIONS, TAGS, page
from zoo.config.commandline import options
from zoo.run import configure, run

ROOT = Path(__file__).parent.parent.parent
MODELS = [name for name in options("model") if name != "custom"]
MADE = ("adding", "copy_memory", "dates", "captions")
SHORT = (
    "trainer.max_epochs=1",
    "trainer.num_threads=1",
    "trainer.limit_train_batches=3",
    "trainer.limit_val_batches=1",
)
SHORT += ("trainer.limit_test_batches=1", "trainer.log_every_n_steps=1", "callbacks.progress=null")


def test_charts_are_of_what_the_run_has_training_and_validation_together():
    rows = layout(["by_epoch/train/loss", "by_epoch/val/loss", "by_epoch/gap/loss", "by_epoch/val/bleu", "optim/lr"])
    assert list(rows) == ["loss", "metrics", "optimization"]
    assert list(rows["loss"]) == ["loss: training and validation, by epoch", "validation loss less training loss"]
    assert rows["metrics"] == {"bleu: validation, by epoch": ["Multiline", ["by_epoch/(train|val)/bleu$"]]}
    assert rows["optimization"] == {"learning rate": ["Multiline", ["optim/lr$"]]}
    assert layout([]) == {}


def test_a_chart_does_not_take_a_curve_whose_name_merely_begins_alike():
    rows = layout(["norms/gradient", "norms/gradient_generator", "by_epoch/val/accuracy", "by_epoch/val/accuracy_top5"])
    assert rows["optimization"] == {"norm of the gradient": ["Multiline", [r"norms/gradient(_\w+)?$"]]}
    assert [patterns for _, patterns in rows["metrics"].values()] == [
        ["by_epoch/(train|val)/accuracy$"],
        ["by_epoch/(train|val)/accuracy_top5$"],
    ]


def test_the_page_has_each_chart_once_under_its_family():
    assert sum(len(section) for section in SECTIONS.values()) == len(TAGS)
    assert page().count("\n| `") == len(TAGS)
    assert (ROOT / "docs" / "looking.md").read_text(encoding="utf-8").endswith(f"## Every chart\n\n{page()}\n")
    assert [line[4:] for line in page().splitlines() if line.startswith("### ")] == list(SECTIONS)


def written(folder):
    """Names of all curves, pictures and texts of a run, and its rows of custom charts."""
    board = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    board.Reload()
    tags = board.Tags()
    texts = [tag for tag in tags["tensors"] if tag.endswith("/text_summary")]
    custom = [tag for tag in tags["tensors"] if tag.startswith("custom_scalars")]
    rows = []
    for tag in custom:
        saved = Layout.FromString(board.Tensors(tag)[0].tensor_proto.string_val[0])
        rows += [category.title for category in saved.category]
    return [*tags["scalars"], *tags["images"], *(tag.removesuffix("/text_summary") for tag in texts)], rows


@pytest.mark.docs
@pytest.mark.parametrize("model", MODELS)
def test_every_chart_of_a_model_is_explained_and_its_loss_stands_on_one(model, tmp_path):
    cfg = configure(f"model={model}", *SHORT, run_dir=tmp_path)
    small = ["data.num_train=64", "data.num_val=16", "data.num_test=16"] if cfg.choices.data in MADE else []
    assert run(configure(f"model={model}", *SHORT, *small, run_dir=tmp_path)) == 0
    names, rows = written(tmp_path)
    assert [name for name in names if name not in TAGS and not explained(name)] == []
    assert rows[0] == "loss"
    assert json.loads((tmp_path / "metrics.json").read_text())["status"] == "finished"


def explained(name):
    """Whether the list has a general entry for the name: <metric>, <layer>, <turn>, <block>."""
    kinds = [tag.rpartition("<")[0] for tag in TAGS if "<" in tag]
    return any(name.startswith(kind) for kind in kinds)
