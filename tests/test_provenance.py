"""Hashes of what decides a number, and the rule by which a number is judged."""

import copy
import importlib.util
from pathlib import Path

import pytest

from zoo import provenance
from zoo.provenance import code_files, code_hash, config_hash, recipe

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("reproduce", ROOT / "scripts" / "reproduce.py")
reproduce = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reproduce)


def test_the_config_hash_ignores_place_and_seed_and_nothing_that_computes():
    config = recipe("lenet5_mnist")
    same, other = copy.deepcopy(config), copy.deepcopy(config)
    same |= {"run_dir": "elsewhere", "seed": 7, "data_dir": "there"}
    same["trainer"]["num_threads"] = 2
    other["optimizer"]["lr"] = 0.051
    assert config_hash(same) == config_hash(config) != config_hash(other)


def test_the_code_of_a_recipe_is_what_it_runs():
    names = {path.relative_to(ROOT).as_posix() for path in code_files(recipe("lenet5_mnist"))}
    used = {"zoo/models/lenet5.py", "zoo/data/mnist.py", "zoo/data/base.py", "zoo/tasks/supervised.py", "zoo/optim.py"}
    assert used | {"zoo/losses/supervised.py", "zoo/loop.py", "zoo/layers/by_name.py"} <= names
    assert not {"zoo/models/mlp.py", "zoo/data/csv.py", "zoo/pictures/images.py"} & names


def test_a_comment_does_not_make_a_result_stale_and_a_constant_does(tmp_path, monkeypatch):
    config = {"model": {"_target_": "zoo.models.tiny.Tiny"}}
    (tmp_path / "zoo" / "models").mkdir(parents=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    hashes = []
    for text in ('"""Doc."""\nX = 1\n', '"""Other."""\nX = 1  # why\n', '"""Doc."""\nX = 2\n'):
        (tmp_path / "zoo" / "models" / "tiny.py").write_text(text)
        hashes.append(code_hash(config))
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("values", "published", "expected"),
    [
        ([0.90, 0.91, 0.92], 0.80, "beaten"),
        ([0.90, 0.91, 0.92], 0.91, "matched"),
        ([0.90, 0.91, 0.92], 0.92, "matched"),  # 0.91 + 2 * 0.01 / sqrt(3) = 0.9215
        ([0.90, 0.91, 0.92], 0.93, "missed"),
        ([0.90], 0.89, "reached once"),
        ([0.90], 0.91, "missed"),
    ],
)
def test_the_verdict_follows_the_standard_error(values, published, expected):
    assert reproduce.verdict(values, published) == expected


def test_an_error_rate_is_better_when_it_is_smaller():
    assert reproduce.verdict([0.01, 0.011, 0.012], 0.02, more_is_better=False) == "beaten"
    assert reproduce.verdict([0.03], 0.02, more_is_better=False) == "missed"


def test_a_recipe_that_begins_with_another_trains_that_first_with_the_same_seed(tmp_path, monkeypatch):
    recipes = {"second": {"begins_with": "before/first"}, "before/first": {}}
    monkeypatch.setattr(reproduce, "recipe", recipes.__getitem__)
    monkeypatch.setattr(reproduce, "recipe_hash", lambda name: f"hash of {name}")
    calls = []

    def trained(experiment, seed, folder, threads, stamp, *words):
        calls.append((experiment, seed, stamp, *words))
        return {"metrics": {"seconds": 60.0, "test/accuracy": 0.5}, "published": {"metric": "test/accuracy"}}

    monkeypatch.setattr(reproduce, "trained", trained)
    done = reproduce.run_seed("second", 2, tmp_path, None, "stamp")
    start = f"pretrained={tmp_path / 'before/first' / 'seed=2'}"
    assert calls == [("before/first", 2, "hash of before/first"), ("second", 2, "stamp", start)]
    assert done["metrics"]["seconds"] == 120.0, "a seed's time is that of both"
