"""Which epoch is the best one."""

import pytest

from zoo import checkpoint as checkpoint_module
from zoo.callbacks.checkpointing import AtomicCheckpointIO, RunCheckpoint
from zoo.callbacks.loggers import Csv


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


def test_an_error_that_is_no_full_disk_is_not_told_as_one(tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr("zoo.callbacks.checkpointing.torch.save", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir()), "nor is half a file left"


def test_rows_of_the_csv_logger_reach_the_disk_by_the_clock(tmp_path):
    logger = Csv(str(tmp_path))
    logger.log_metrics({"train/loss": 1.0}, step=10)
    logger.saved_at -= 60
    logger.log_metrics({"train/loss": 0.5}, step=20)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3
