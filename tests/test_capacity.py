"""Recipes of the same size and another shape: what differs is depth alone."""

import pytest

from zoo.build import build_data, build_model, resolve, settle_task
from zoo.run import configure

PAIRS = [("shallow", "deep"), ("shallow_regression", "deep_regression")]


def composed(name, tmp_path):
    """Resolved configuration, and number of parameters, of a recipe."""
    cfg = configure(f"experiment=capacity/{name}", run_dir=tmp_path)
    data = build_data(cfg)
    settle_task(cfg, data)
    config = resolve(cfg)
    return config, sum(p.numel() for p in build_model(config, data).parameters())


@pytest.mark.parametrize(("shallow", "deep"), PAIRS)
def test_shallow_and_deep_have_as_many_parameters_and_differ_in_their_layers_alone(shallow, deep, tmp_path):
    (one, few), (other, many) = (composed(name, tmp_path) for name in (shallow, deep))
    assert abs(few - many) <= 0.01 * many
    assert len(one["model"].pop("hidden_features")) < len(other["model"].pop("hidden_features"))
    for group in ("model", "data", "task", "optimizer", "scheduler", "init", "regularizer", "trainer", "augment"):
        assert one[group] == other[group], group
