"""Acceptance on a GPU: run with `pytest -m gpu`; said to be skipped where there is none."""

import json
import math
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.callbacks.curves import iterations_done
from zoo.checkpoint import load_model, read
from zoo.run import configure, run
from zoo.running.signals import LISTENER

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


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_gradients_are_clipped_by_their_own_length(tmp_path, precision):
    """Not by that which the scale of the loss gives them, which is 65,536 at first."""
    common = ["trainer=gpu", "optimizer.fused=true", "trainer.max_epochs=2", "trainer.log_every_n_steps=1"]
    lengths = {}
    for name, typed in (("full", []), ("mixed", [f"trainer.precision={precision}", "trainer.gradient_clip_val=100"])):
        assert run(configure(*common, *typed, run_dir=tmp_path / name)) == 0
        board = EventAccumulator(str(tmp_path / name), {"scalars": 0}).Reload()
        lengths[name] = [event.value for event in board.Scalars("norms/gradient") if math.isfinite(event.value)]
    assert statistics.mean(lengths["mixed"]) == pytest.approx(statistics.mean(lengths["full"]), rel=0.3)


def test_it_agrees_with_the_cpu(tmp_path):
    for name in ("cpu", "gpu"):
        run(configure(f"trainer={name}", "trainer.max_epochs=2", "logger=none", run_dir=tmp_path / name))
    assert metrics(tmp_path / "gpu")["test/loss"] == pytest.approx(metrics(tmp_path / "cpu")["test/loss"], abs=1e-3)


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, monkeypatch):
    """Stopped in the middle of the third epoch, as by SIGTERM."""
    common = ["trainer=gpu", "model.dropout=0.3", "logger=none", "deterministic=true", "scheduler=cosine"]
    common.append("trainer.max_epochs=4")
    run(configure(*common, run_dir=tmp_path / "whole"))
    real = RunCheckpoint.on_train_batch_start

    def asked_to_stop(self, trainer, *arguments):
        LISTENER.asked = signal.SIGTERM if iterations_done(trainer) == 47 else None
        real(self, trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_start", asked_to_stop)
        assert run(configure(*common, run_dir=tmp_path / "cut")) == 75
    assert run(configure(f"resume={tmp_path / 'cut'}")) == 0
    assert metrics(tmp_path / "cut")["resumed_from_iteration"] == 47
    whole, rest = (read(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"] for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], rest[name]) for name in whole)


@pytest.mark.parametrize("devices", [1, 2])
def test_the_launcher_starts_a_process_for_each_gpu(tmp_path, devices):
    """One GPU in a process that was spawned, and two that talk through nccl; both equal a run without a launcher."""
    if torch.cuda.device_count() < devices:
        pytest.skip(f"torch finds fewer than {devices} GPUs here")
    train = Path(__file__).parent.parent / "train.py"
    common = [sys.executable, str(train), "trainer=gpu", "trainer.max_epochs=2", "logger=none"]
    typed = [f"trainer.devices={devices}", "launcher.max_restarts=1", "launcher.start_method=spawn"]
    for name, more in {"plain": [], "started": typed}.items():
        command = [*common, *more, f"run_dir={tmp_path / name}"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
        assert ended.returncode == 0, ended.stderr
    assert metrics(tmp_path / "started")["world_size"] == devices
    close = pytest.approx(metrics(tmp_path / "plain")["test/loss"], abs=1e-3)
    assert metrics(tmp_path / "started")["test/loss"] == close
