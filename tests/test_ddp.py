"""Several processes, as a user starts them. Each test is a subprocess: a fork of a threaded runner would hang."""

import json
import subprocess
import sys
from pathlib import Path

import torch

from zoo.checkpoint import read

ROOT = Path(__file__).parent.parent
COMMON = ["trainer.accelerator=cpu", "trainer.max_epochs=2", "data.batch_size=100", "trainer.log_every_n_steps=4"]


def train(run_dir, *arguments, launcher=()):
    command = [sys.executable, *launcher, str(ROOT / "train.py"), *COMMON, *arguments, f"run_dir={run_dir}"]
    ended = subprocess.run(command, cwd=run_dir.parent, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended, json.loads((run_dir / "metrics.json").read_text())


def test_two_processes_make_one_run_equal_to_that_of_one(tmp_path):
    """One folder, one event file, each message once; the last, smaller batch and the odd test part count exactly."""
    _, one = train(tmp_path / "one")
    ended, two = train(tmp_path / "two", "trainer=ddp", "trainer.devices=2")
    assert (one["world_size"], two["world_size"]) == (1, 2)
    assert two["samples_seen"] == one["samples_seen"] == 2 * 1258
    assert two["iteration"] == one["iteration"] == 26
    for name in ("train/loss", "val/loss", "test/loss"):
        assert abs(one[name] - two[name]) < 1e-5, name
    assert one["test/accuracy"] == two["test/accuracy"]
    weights = [read(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"] for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    assert max(float((weights[0][k] - weights[1][k]).abs().max()) for k in weights[0]) < 1e-5
    assert len(list((tmp_path / "two").glob("*tfevents*"))) == 1
    assert ended.stdout.count("Run folder:") == 1
    assert torch.allclose(*(w["model.output.bias"] for w in weights), atol=1e-5)
