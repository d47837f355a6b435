"""scripts/models.py: the list, one card, and a name of nothing."""

import json


def test_the_list_has_a_line_for_each_and_a_card_says_all(call_script):
    from zoo.pretrained import torchvision_weights

    ran = call_script("models")
    assert ran.status == 0, ran.err
    lines = {line.split()[0]: line for line in ran.out.splitlines()[1:]}
    assert set(torchvision_weights.names()) <= set(lines)
    told = lines["MobileNet_V2_Weights.IMAGENET1K_V1"].split()
    assert told[1:5] == ["MobileNetV2", "ImageNet-1K", "accuracy", "0.7188"]
    ran = call_script("models", "ResNet18_Weights.IMAGENET1K_V1")
    card = dict(line.split(None, 1) for line in ran.out.splitlines())
    assert (card["sha256"], card["parameters"]) == ("f37072fd...", "11689512")
    assert json.loads(card["sizes"]) == {"depth": 18, "in_channels": 3, "num_classes": 1000}


def test_a_name_of_nothing_is_one_line(call_script):
    ran = call_script("models", "ResNet18_Weights.IMAGENET1K_V9")
    assert ran.status == 2
    assert "did you mean 'ResNet18_Weights.IMAGENET1K_V1'" in ran.err


def test_what_does_not_come_with_the_zoo_is_made_once_and_has_its_name(script_module, tmp_path, monkeypatch):
    from zoo.checkpoint import load_model
    from zoo.pretrained import registry

    told = {"sha256": None, "data": "mine", "recipe": {"name": "linear_mnist1d", "seed": 0, "minutes_per_seed": 1.0}}
    monkeypatch.setattr(registry, "names", lambda: ["mine"])
    monkeypatch.setattr(registry, "card", lambda name: told)
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    words = ("trainer.max_epochs=1", "callbacks.curves=null")
    path = script_module("models").build("mine", *words)
    assert path == tmp_path / "weights" / "zoo" / "mine.safetensors"
    assert load_model("mine").state_dict()
    before = path.stat().st_mtime_ns
    assert script_module("models").build("mine", "no.such.key=1") == path
    assert path.stat().st_mtime_ns == before


def test_what_comes_with_the_zoo_is_not_built(call_script):
    for name in ("gpt-shakespeare", "ResNet18_Weights.IMAGENET1K_V1"):
        ran = call_script("models", name, "build=true")
        assert ran.status == 2
        assert "need not be built" in ran.err
