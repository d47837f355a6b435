"""Hashes of what decides a number."""

import copy
from pathlib import Path

from zoo.reproduction import provenance
from zoo.reproduction.provenance import code_files, code_hash, config_hash, recipe

ROOT = Path(__file__).parent.parent.parent


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
    assert used | {"zoo/losses/supervised.py", "zoo/running/loop.py", "zoo/layers/by_name.py"} <= names
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
