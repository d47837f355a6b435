"""A newcomer adds a model with one file of Python and one of yaml, in a copy of the zoo, and nothing else is edited."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs
ROOT = Path(__file__).parent.parent

MODEL = '''"""Highway network: layers that learn how much of their input to carry on.

Srivastava, Greff, Schmidhuber, "Highway Networks", 2015, equation 3: y = H(x) T(x) + x (1 - T(x))

Departures from the paper
1. One gated layer only.

Axes: B batch, F input features, K classes
Trained by: classification    Data: digits    Equal to: nothing yet (tests)
"""

import torch
from torch import Tensor, nn


class Highway(nn.Module):
    """(B, ...) -> logits (B, K)."""

    def __init__(self, *, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.transform = nn.Linear(in_features, in_features)
        self.gate = nn.Linear(in_features, in_features)
        self.output = nn.Linear(in_features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)  # (B, F)
        gate = torch.sigmoid(self.gate(x))
        return self.output(gate * torch.relu(self.transform(x)) + (1 - gate) * x)  # (B, K)
'''
YAML = """# Highway network (Srivastava et al. 2015).    python train.py model=highway
_target_: zoo.models.highway.Highway
in_features: ${data.num_features}
num_classes: ${task.num_outputs}
"""


def test_two_files_add_a_model(tmp_path):
    copy = tmp_path / "zoo_copy"
    leave_out = shutil.ignore_patterns("outputs", ".venv", ".git", "__pycache__", "notebooks", ".*_cache")
    shutil.copytree(ROOT, copy, ignore=leave_out)
    (copy / "zoo" / "models" / "highway.py").write_text(MODEL)
    (copy / "configs" / "model" / "highway.yaml").write_text(YAML)
    command = [sys.executable, "train.py", "model=highway", "debug=overfit", "logger=none", "run_dir=run"]
    ended = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False, env=without_the_original())
    assert ended.returncode == 0, ended.stderr
    assert json.loads((copy / "run" / "metrics.json").read_text())["train/loss"] < 0.05
    rules = [sys.executable, "-m", "pytest", "-q", "tests/test_house.py", "-p", "no:cacheprovider"]
    ended = subprocess.run(rules, cwd=copy, capture_output=True, text=True, check=False, env=without_the_original())
    assert ended.returncode == 0, ended.stdout
    assert "highway" in subprocess.run(
        [sys.executable, "train.py", "--help"], cwd=copy, capture_output=True, text=True, check=True,
        env=without_the_original(),
    ).stdout  # fmt: skip


def without_the_original():
    """An environment in which the copy is found before the installed zoo."""
    return {**os.environ, "PYTHONPATH": "."}
