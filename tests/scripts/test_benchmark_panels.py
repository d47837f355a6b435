"""scripts/benchmark_panels.py looks at every callback that shows something, and times it in its own run."""

import importlib
from pathlib import Path

import pytest

from zoo.build import build
from zoo.run import configure


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts")
    return importlib.import_module("benchmark_panels")


def test_each_panel_of_a_run_is_timed_and_none_is_overlooked(benchmark, tmp_path):
    spent, whole = benchmark.once("lenet5", images=256, epochs=1)
    assert set(spent) == set(benchmark.PANELS)
    assert min(spent.values()) > 0
    assert sum(spent.values()) < whole
    run = build(configure("model=gru", "data=digits", run_dir=tmp_path))
    shows = {type(c).__module__.rpartition(".")[2] for c in run.trainer.callbacks if writes(type(c))}
    assert shows <= set(benchmark.PANELS), "who writes to TensorBoard is a panel"


def writes(kind):
    text = Path(importlib.import_module(kind.__module__).__file__).read_text(encoding="utf-8")
    return "writers(" in text or "show(" in text
