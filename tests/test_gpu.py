"""Acceptance on a GPU: run with `pytest -m gpu`; said to be skipped where there is none."""

import json

import pytest
import torch

from zoo.build import build
from zoo.checkpoint import load_model, read
from zoo.run import configure, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here"),
]


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("model", ["mlp", "lenet5"])
def test_it_learns_digits(tmp_path, model, precision):
    arguments = [f"model={model}", "trainer=gpu", f"trainer.precision={precision}", "trainer.max_epochs=10"]
    assert run(configure(*arguments, run_dir=tmp_path)) == 0
    assert metrics(tmp_path)["test/accuracy"] > 0.93
    assert next(load_model(tmp_path).parameters()).device.type == "cpu"


def test_it_agrees_with_the_cpu(tmp_path):
    for name in ("cpu", "gpu"):
        run(configure(f"trainer={name}", "trainer.max_epochs=2", "logger=none", run_dir=tmp_path / name))
    assert metrics(tmp_path / "gpu")["test/loss"] == pytest.approx(metrics(tmp_path / "cpu")["test/loss"], abs=1e-3)


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path):
    common = ["trainer=gpu", "model.dropout=0.3", "logger=none", "deterministic=true", "scheduler=cosine"]
    run(configure(*common, "trainer.max_epochs=4", run_dir=tmp_path / "whole"))
    cut = build(configure(*common, "trainer.max_epochs=4", "checkpoint_every=25", run_dir=tmp_path / "cut"))
    cut.trainer.limit_train_batches = 1.0
    cut.trainer.fit_loop.max_epochs = 2
    cut.fit()
    run(configure(*common, "trainer.max_epochs=4", f"resume={tmp_path / 'cut'}", run_dir=tmp_path / "rest"))
    whole, rest = (read(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"] for name in ("whole", "rest"))
    assert all(torch.equal(whole[name], rest[name]) for name in whole)
