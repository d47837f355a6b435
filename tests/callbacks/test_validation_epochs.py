"""Where validation comes only every few epochs, nothing takes its numbers for those of another epoch."""

import json

import pytest
from lightning.pytorch import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.build import build
from zoo.checkpoint import read
from zoo.run import configure, run

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_the_best_epoch_is_one_that_was_validated(tmp_path):
    arguments = ["trainer.check_val_every_n_epoch=2", "trainer.max_epochs=5", "data.batch_size=200"]
    assert run(configure(*arguments, "trainer.num_threads=1", run_dir=tmp_path)) == 0
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    accuracy = {event.step: event.value for event in board.Scalars("by_epoch/val/accuracy")}
    assert list(accuracy) == [event.step for event in board.Scalars("by_epoch/gap/loss")]
    assert list(accuracy) == [2, 4]
    best = json.loads((tmp_path / "metrics.json").read_text())["best_epoch"]
    assert best == max(accuracy, key=accuracy.get)
    kept = read(tmp_path / "checkpoints" / "best.ckpt")
    assert kept["epoch"] == best
    assert kept["metrics"]["val/accuracy"] == pytest.approx(accuracy[best], abs=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_that_ends_inside_an_epoch_is_validated_there(tmp_path, accumulate):
    """By its last weights, once; 1,258 samples make seven batches."""
    arguments = ["data.batch_size=200", f"trainer.accumulate_grad_batches={accumulate}", "trainer.max_epochs=5"]
    arguments += [f"trainer.max_steps={10 // accumulate}", "trainer.num_threads=1", "test=false"]
    assert run(configure(*arguments, run_dir=tmp_path)) == 0
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    losses = {event.step: event.value for event in board.Scalars("by_epoch/val/loss")}
    last = read(tmp_path / "checkpoints" / "last.ckpt")
    assert list(losses) == [1, 2]
    assert losses[2] < losses[1]
    assert last["metrics"]["val/loss"] == pytest.approx(losses[2], abs=1e-6)


class Validated(Callback):
    """After which updates validation came."""

    lean = True

    def __init__(self):
        self.steps = []

    def on_validation_end(self, trainer, pl_module):
        self.steps.append(trainer.global_step)


@pytest.mark.parametrize(("end", "expected"), [(10, [7, 10]), (14, [7, 14]), (3, [3])])
def test_it_is_validated_once_after_each_epoch_and_once_where_it_ends(tmp_path, end, expected):
    arguments = ["data.batch_size=200", "trainer.max_epochs=5", f"trainer.max_steps={end}", "logger=none"]
    built = build(configure(*arguments, "trainer.num_threads=1", run_dir=tmp_path))
    built.trainer.callbacks.append(seen := Validated())
    built.fit()
    assert seen.steps == expected
