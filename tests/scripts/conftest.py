"""A finished run that tests of several scripts look at; none of them may change its folder."""

import pytest

from zoo.run import configure, run

SIZES = ("model.hidden_size=24", "model.embedding_dim=12", "data.num_train=1500", "data.num_val=20", "data.num_test=60")
LIMITS = ("trainer.max_epochs=3", "optimizer.lr=0.01", "trainer.num_threads=1", "logger=none", "task.beams=3")


def train(folder, *overrides):
    assert run(configure("model=seq2seq", "data=dates", *SIZES, *LIMITS, *overrides, run_dir=folder)) == 0
    return folder


@pytest.fixture(scope="session")
def train_dates():
    """train_dates(folder, "model.cell=lstm") -> the folder of a network of dates."""
    return train


@pytest.fixture(scope="session")
def dates(tmp_path_factory):
    """The folder of a small network with attention that has seen a few dates."""
    return train(tmp_path_factory.mktemp("dates") / "run")
