"""Which epoch is the best one."""

import pytest

from zoo import checkpoint as checkpoint_module
from zoo.callbacks.checkpointing import RunCheckpoint


@pytest.mark.parametrize(
    ("mode", "value", "loss", "better"),
    [
        ("max", 0.91, 0.9, True),
        ("max", 0.89, 0.1, False),
        ("max", 0.90, 0.4, True),  # a tie goes to the smaller validation loss
        ("max", 0.90, 0.5, False),  # and else to the earlier epoch
        ("min", 0.89, 0.9, True),
        ("min", 0.91, 0.1, False),
    ],
)
def test_the_metric_decides_and_the_loss_breaks_ties(tmp_path, mode, value, loss, better):
    checkpoint = RunCheckpoint(tmp_path, {}, monitor="val/accuracy", mode=mode)
    assert checkpoint.is_better(0.0, 9.0), "the first epoch is the best so far"
    checkpoint.best_value, checkpoint.best_loss = 0.90, 0.5
    assert checkpoint.is_better(value, loss) == better


def test_a_first_epoch_that_is_no_number_is_beaten_by_any(tmp_path):
    checkpoint = RunCheckpoint(tmp_path, {}, monitor="val/loss", mode="min")
    checkpoint.best_value = float("nan")
    assert checkpoint.is_better(9.0, 9.0)


def test_reading_and_writing_agree_on_the_format():
    from zoo.callbacks import checkpointing

    assert checkpointing.FORMAT_VERSION == checkpoint_module.FORMAT_VERSION
