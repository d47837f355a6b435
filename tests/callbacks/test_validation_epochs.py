"""Where validation comes only every few epochs, nothing takes its numbers for those of another epoch."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.checkpoint import read
from zoo.run import configure, run


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
