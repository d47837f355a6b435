"""Runs of networks that answer for pixels and boxes: what several processes score is what one scores."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.trained.evaluate import evaluate

ROOT = Path(__file__).parent.parent
FEW = ("data.num_train=96", "data.num_val=9", "data.num_test=21", "data.eval_batch_size=5", "data.batch_size=16")
SHORT = ("trainer.max_epochs=3", "trainer.num_threads=1", "logger=none", "trainer.accelerator=cpu", "optimizer.lr=0.01")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("model", "metric"), [("unet", "mean_iou"), ("yolo", "map50")])
def test_metrics_over_two_processes_are_those_of_one(model, metric, tmp_path):
    """Of 21 images in batches of 5 the last is one alone, of which the second process sees nothing."""
    command = [sys.executable, str(ROOT / "train.py"), f"model={model}", "model.channels=[4,8,8]", *FEW, *SHORT]
    command += ["trainer.devices=2", f"run_dir={tmp_path / 'run'}"]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["world_size"] == 2
    alone = evaluate(str(tmp_path / "run")).metrics
    assert alone[f"test/{metric}"] > 0
    for name, value in alone.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
