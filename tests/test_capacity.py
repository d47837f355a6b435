"""How deep and how wide: what more layers and more units bring, and recipes of one size and two shapes."""

import json

import pytest

from zoo.build import build_data, build_model, resolve, settle_task
from zoo.run import configure, run

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


@pytest.fixture(scope="module")
def accuracy(tmp_path_factory):
    """accuracy([64, 64]) -> (in training, in the test) on MNIST-1D of layers so wide, with one recipe for all."""
    found = {}

    def measured(hidden):
        if (key := str(hidden)) not in found:
            folder = tmp_path_factory.mktemp("capacity")
            recipe = ("optimizer.lr=0.01", "scheduler=one_cycle", "data.batch_size=200", "trainer.max_epochs=15")
            quiet = ("logger=none", "callbacks.activity=null", "callbacks.gradient_flow=null")
            shape = f"model.hidden_features={key.replace(' ', '')}"
            run(configure("data=mnist1d", shape, *recipe, *quiet, run_dir=folder))
            metrics = json.loads((folder / "metrics.json").read_text())
            found[key] = metrics["train/accuracy"], metrics["test/accuracy"]
        return found[key]

    return measured


@pytest.mark.slow
def test_hidden_layers_find_what_a_linear_model_cannot(accuracy):
    """Three seeds: 0.28 to 0.32, 0.56 to 0.57, and of eight layers 0.50 to 0.56."""
    assert accuracy([])[1] < 0.4
    assert accuracy([64, 64])[1] > 0.5
    assert accuracy([64] * 8)[0] < accuracy([64] * 4)[0], "in training, too: this is no overfitting"
    assert accuracy([64] * 8)[1] < accuracy([64] * 4)[1]


@pytest.mark.slow
def test_two_units_are_too_narrow_and_512_learn_more_by_heart(accuracy):
    """Three seeds, in training 0.26 to 0.31, 0.53 to 0.57 and 0.83 to 0.84."""
    assert accuracy([2])[1] < 0.4
    assert accuracy([2])[0] < 0.4 < accuracy([32])[0] < 0.7 < accuracy([512])[0]
    gaps = [train - test for train, test in (accuracy([width]) for width in (2, 32, 512))]
    assert gaps == sorted(gaps)
    assert accuracy([64] * 4)[1] > accuracy([512])[1], "fewer weights, better shaped"
