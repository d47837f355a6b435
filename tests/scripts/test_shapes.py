"""scripts/shapes.py: tells every model of the zoo, and one layer."""

import re
from pathlib import Path

import pytest
import torch

from zoo.build import build_data
from zoo.config.commandline import CONFIGS
from zoo.run import configure

MODELS = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml") if path.stem != "custom")
# What a place sees that has looked at all others or was enlarged, and what another layer's matrix costs, are not told.
WITH_UNKNOWNS = ("bert", "captioner", "vit", "cvae", "dbn", "rbm", "stacked_autoencoder", "espcn", "srcnn", "vq_vae")
SCRIPT = Path(__file__).parents[2] / "scripts" / "shapes.py"


@pytest.mark.parametrize("model", MODELS)
def test_tells_every_model_of_the_zoo(model, call_script):
    ran = call_script("shapes", f"model={model}")
    assert ran.status == 0, ran.err
    assert ran.out.startswith(f"model={model} data=")
    rows = ran.out.split("\n")[4:]
    layers = rows[: next(i for i, line in enumerate(rows) if line.startswith("-"))]
    assert layers
    assert any("?" in line for line in layers) == (model in WITH_UNKNOWNS)


def test_settings_of_the_model_and_of_the_data_count(call_script):
    ran = call_script("shapes", "model=cnn", "data=cifar10", "model.channels=[16,32,64]", "model.stride=[1,2,2]")
    assert "blocks.2.conv" in ran.out
    assert "3x32x32" in ran.out
    ran = call_script("shapes", "model=lenet5", "data=digits", "data.image_size=32")
    assert "1x32x32" in ran.out


def test_an_experiment_is_told_too(call_script):
    ran = call_script("shapes", "experiment=lenet5_mnist")
    assert ran.out.startswith("model=lenet5 data=mnist")


@pytest.mark.parametrize("data", ["digits", "iris", "xor", "diabetes", "mnist1d"])
def test_data_that_is_not_read_has_the_sizes_that_it_would_have(data, call_script, monkeypatch):
    batch = build_data(configure(f"data={data}", run_dir="unused")).part("train")[torch.tensor([0])]
    expected = "x".join(map(str, batch.inputs[0].shape[1:]))
    monkeypatch.setattr("zoo.build.build_data", None)  # calling it would fail
    ran = call_script("shapes", "model=mlp", f"data={data}")
    assert ran.status == 0, ran.err
    assert ran.out.splitlines()[4].split()[2] in (expected, str(batch.inputs[0][0].numel()))


def test_data_that_is_not_there_need_not_be(call_script, tmp_path):
    ran = call_script("shapes", "model=lenet5", "data=mnist", f"data_dir={tmp_path / 'nothing'}")
    assert ran.status == 0, ran.err
    assert "61,706" in ran.out
    assert not list(tmp_path.iterdir())


def test_a_table_of_ones_own_is_read(call_script, tmp_path):
    (tmp_path / "fruit.csv").write_text("weight,colour,kind\n" + "150,red,apple\n8,red,cherry\n140,green,apple\n" * 10)
    ran = call_script("shapes", "model=mlp", "data=csv", f"data.path={tmp_path / 'fruit.csv'}", "data.target=kind")
    assert ran.status == 0, ran.err
    assert ran.out.splitlines()[4].split()[:3] == ["input_dropout", "Dropout", "3"]


def test_a_network_of_ones_own_is_told(call_script, tmp_path, monkeypatch):
    (tmp_path / "own_shape_net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self, in_channels, num_classes):\n"
        "        super().__init__()\n        self.conv = nn.Conv2d(in_channels, num_classes, 3, padding=1)\n\n"
        "    def forward(self, x):\n        return self.conv(x).mean((2, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    ran = call_script("shapes", "model._target_=own_shape_net.Net", "data=digits")
    assert ran.status == 0, ran.err
    assert "10x8x8" in ran.out


@pytest.mark.parametrize(("stride", "size"), [(1, 28), (3, 10)])
def test_one_layer_of_the_course(stride, size, call_script):
    ran = call_script("shapes", "image=28x28x3", "kernel=3", "padding=1", f"stride={stride}")
    assert ran.status == 0
    assert ran.out.splitlines()[0] == f"Conv2d: 28x28x3 -> {size}x{size}x1"
    assert f"floor((28 + 2*1 - 1*(3 - 1) - 1) / {stride}) + 1 = {size}" in ran.out


@pytest.mark.parametrize(
    ("arguments", "output", "parameters"),
    [
        ("image=28x28x3 kernel=5 channels=32", "24x24x32", 32 * 76),
        ("image=28x20 kernel=3x5 stride=2x1 padding=0x2", "13x20x1", 16),
        ("image=28x28x1 kernel=4 stride=3 padding=same", "10x10x1", 17),
        ("image=28x28x1 kernel=3 dilation=2 padding=valid", "24x24x1", 10),
        ("image=7x7x16 kernel=4 stride=2 padding=1 channels=8 transposed=true", "14x14x8", 8 * 16 * 16 + 8),
        ("image=7x7x1 kernel=3 stride=2 padding=1 output_padding=1 transposed=true", "14x14x1", 10),
    ],
)
def test_one_layer_with_any_setting(arguments, output, parameters, call_script):
    ran = call_script("shapes", *arguments.split())
    assert ran.status == 0, ran.err
    assert ran.out.splitlines()[0].endswith(f"-> {output}")
    assert re.search(rf"^parameters +{parameters:,}$", ran.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "Which model, or which layer?"),
        ("kernel=3", "Which model, or which layer?"),
        ("image=28", "such as 28x28x3"),
        ("image=0x28", "whole numbers from 1 on"),
        ("image=28x28 kernel=x", "kernel=x must be"),
        ("image=28x28 padding=sane", "same, valid, or whole numbers"),
        ("image=2x2 kernel=3", "a smaller kernel="),
        ("image=2x2 kernel=3 padding=4 transposed=true", "less padding="),
        ("image=7x7 transposed=maybe", "true or false"),
        ("image=7x7 transposed=true padding=same", "not defined"),
        ("image=7x7 transposed=true output_padding=1", "smaller than stride="),
        ("image=7x7 output_padding=1", "goes with transposed=true"),
        ("imge=28x28x3", "did you mean 'image'?"),
        ("image=28x28x3 model=lenet5", "about one layer"),
        ("model=lenett", "did you mean 'lenet5'?"),
        ("model=cnn model.chanels=[3]", "did you mean 'channels'?"),
        ("model=cnn data=iris", "needs data.image_shape"),
        ("model=lenet5 data=digits data.image_size=8", "at least 12 pixels"),
        ("model=cnn model.padding=valid model.kernel_size=9 data=digits", "blocks.0.conv reaches over 9 pixels"),
        ("model=resnet data=image_folder", "data.root"),
        ("model=custom", "needs the name of your class"),
        ("model=lenet5 -x", "There is no option -x"),
    ],
)
def test_what_a_user_can_mend_is_one_line(arguments, said, call_script, monkeypatch):
    ran = call_script("shapes", *arguments.split())
    assert ran.status == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_the_commands_of_its_first_lines_work(call_script):
    commands = re.findall(r"^python scripts/shapes\.py (.+)$", SCRIPT.read_text(), re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        assert call_script("shapes", *re.sub('"', "", command).split()).status == 0, command
