"""Which epoch is the best one."""

import pytest

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
