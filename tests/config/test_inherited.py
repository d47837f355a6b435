"""A run that begins with a checkpoint is the checkpoint's network where the command says no other."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from zoo.checkpoint import load_model
from zoo.config.inherited import config_of, with_model
from zoo.run import configure, run

SIZES = ["model=mlp", "model.hidden_features=[7,5]", "model.activation=GELU", "model.dropout=0.1"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run of a network in sizes of its own."""
    folder = tmp_path_factory.mktemp("inherited") / "source"
    assert run(configure(*SIZES, "data=iris", "debug=fast", run_dir=folder)) == 0
    return folder


def made(folder, name, **config):
    save_file({"x": torch.zeros(1)}, folder / name, {"config": json.dumps(config)})
    return folder / name


@pytest.mark.parametrize("place", [".", "checkpoints/last.ckpt"])
def test_the_network_is_that_of_the_checkpoint_in_the_sizes_of_the_new_data(source, place, tmp_path):
    cfg = configure(f"pretrained={source / place}", "data=digits", "debug=fast", run_dir=tmp_path / "target")
    assert cfg.choices.model == "mlp"
    assert (list(cfg.model.hidden_features), cfg.model.activation, cfg.model.dropout) == ([7, 5], "GELU", 0.1)
    assert run(cfg) == 0
    assert load_model(tmp_path / "target").output.weight.shape == (10, 5)


def test_what_is_typed_comes_before_what_the_checkpoint_says(source):
    typed = [f"pretrained={source}", "model.dropout=0.4", "data=digits"]
    assert with_model(typed)[3:] == ["model=mlp", "model.hidden_features=[7,5]", 'model.activation="GELU"']
    assert with_model([*typed, "model=mlp"])[4:] == ["model.hidden_features=[7,5]", 'model.activation="GELU"']
    for other in ("model=lenet5", "experiment=mlp_100_fashion_mnist", "model._target_=mypkg.Net", "pretrained=null"):
        assert with_model([*typed, other]) == [*typed, other]
    assert with_model(["data=digits"]) == ["data=digits"]
    assert with_model(["-m", "seed=0,1", f"pretrained={source}"])[:4] == [
        "-m",
        "seed=0,1",
        f"pretrained={source}",
        "model=mlp",
    ]
    assert with_model(["-m", f"pretrained={source},null"]) == ["-m", f"pretrained={source},null"]


def test_a_name_that_comes_with_the_zoo_and_one_of_torchvisions_will_do(tmp_path):
    cfg = configure("pretrained=lenet5-fashion", "data=digits", run_dir=tmp_path)
    assert (cfg.choices.model, cfg.model.activation, cfg.model.pooling) == ("lenet5", "ReLU", "MaxPool2d")
    cfg = configure("pretrained=ResNet34_Weights.IMAGENET1K_V1", "data=digits", run_dir=tmp_path)
    assert (cfg.choices.model, cfg.model.depth) == ("resnet", 34)


def test_a_run_that_is_taken_up_again_keeps_its_network_where_the_source_is_gone(source, tmp_path):
    shutil.copytree(source, tmp_path / "source")
    command = [f"pretrained={tmp_path / 'source'}", "data=digits", "resume=auto", "debug=fast"]
    assert run(configure(*command, run_dir=tmp_path / "run")) == 0
    shutil.rmtree(tmp_path / "source")
    cfg = configure(*command, run_dir=tmp_path / "run")
    assert (cfg.choices.model, list(cfg.model.hidden_features)) == ("mlp", [7, 5])


@pytest.mark.parametrize(
    "value", ["${oc.env:HOME}", ["a", "${seed}"], {"_target_": "os.getcwd"}, [{"_target_": "os.getcwd"}], "???"]
)
def test_a_checkpoint_hands_on_neither_code_nor_references(tmp_path, value):
    path = made(tmp_path, "a.safetensors", choices={"model": "mlp"}, model={"activation": value, "dropout": 0.25})
    assert with_model([f"pretrained={path}"]) == [f"pretrained={path}", "model=mlp", "model.dropout=0.25"]


@pytest.mark.parametrize(
    "config",
    [{"model": "mlp"}, {"model": {}}, {"model": {"_target_": 3}}, {"choices": {"model": "../x"}, "model": {}},
     {"choices": {"model": "custom"}, "model": {"_target_": "mypkg.Net"}}, {"choices": 5, "model": {"dropout": 0.2}}],
)  # fmt: skip
def test_a_configuration_that_names_no_network_of_the_zoo_changes_nothing(tmp_path, config):
    path = made(tmp_path, "a.safetensors", **config)
    assert with_model([f"pretrained={path}"]) == [f"pretrained={path}"]


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x05\0\0\0\0\0\0\0nonsense", b"\x02\0\0\0\0\0\0\0[]"])
def test_a_damaged_file_is_left_to_who_reads_it(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    assert config_of(str(tmp_path / "a.safetensors")) == {}
    assert config_of(str(tmp_path / "nobody")) == {}
