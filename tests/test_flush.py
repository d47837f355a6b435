"""Points of a run in progress reach the disk by themselves."""

import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.callbacks.loggers import TensorBoard


@pytest.mark.slow
def test_a_point_can_be_read_within_ten_seconds(tmp_path):
    board = TensorBoard(str(tmp_path))
    board.log_metrics({"train/loss": 1.0, "train/accuracy": 0.5}, step=1)
    time.sleep(9)
    seen = EventAccumulator(str(tmp_path))
    seen.Reload()
    assert [event.step for event in seen.Scalars("train/loss")] == [1]
    board.close()


def test_fit_and_test_share_one_event_file(tmp_path):
    board = TensorBoard(str(tmp_path))
    for stage, step in (("train/loss", 1), ("test/loss", 2)):
        board.log_metrics({stage: 1.0}, step=step)
        board.finalize("success")  # Lightning calls it after fit and again after test
    board.close()
    assert len(list(tmp_path.iterdir())) == 1
