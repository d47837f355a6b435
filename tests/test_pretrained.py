"""Checkpoints by name: which file a name means, that it is what was published, and what is said where it is not."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from safetensors.torch import save_file
from torchvision.models import get_model, get_model_weights

from zoo.build import load
from zoo.checkpoint import find, load_model, read
from zoo.errors import UserError
from zoo.pretrained import registry, torchvision_weights

NAMES = torchvision_weights.names()


@pytest.mark.parametrize("kind", sorted(torchvision_weights.ARCHITECTURES))
def test_a_network_of_torchvisions_has_the_same_tensors_here(kind):
    with torch.device("meta"):
        theirs = get_model(kind.lower(), weights=None).state_dict()
        ours = instantiate(torchvision_weights.ARCHITECTURES[kind], _convert_="all").state_dict()
    assert {name: x.shape for name, x in ours.items()} == {name: x.shape for name, x in theirs.items()}


def test_the_names_are_torchvisions_for_classes_that_they_know():
    assert "MobileNet_V2_Weights.IMAGENET1K_V1" in NAMES
    assert all(torchvision_weights.is_name(name) for name in NAMES)
    assert not any("FEATURES" in name for name in NAMES), "weights that tell no classes apart"
    assert all(len(torchvision_weights.checksum(Path(torchvision_weights.address(n)).name)) == 8 for n in NAMES)


def small(folder, bytes_of=None):
    """A file that is named as published weights are, of bytes that its name tells, or of others."""
    torch.save({"weight": torch.ones(2)}, folder / "w.pth")
    content = (folder / "w.pth").read_bytes()
    digits = hashlib.sha256(bytes_of or content).hexdigest()[:8]
    return (folder / "w.pth").rename(folder / f"resnet18-{digits}.pth"), digits


def test_a_file_is_what_its_name_says_only_where_its_bytes_agree(tmp_path, monkeypatch):
    for right in (True, False):
        path, digits = small(tmp_path, None if right else b"other")
        address = f"https://host/resnet18-{digits}.pth"
        monkeypatch.setattr(
            torchvision_weights, "address", lambda name, a=address: a if name.startswith("ResNet18") else "https://h/o"
        )
        found = torchvision_weights.described(path)
        assert bool(found) == right
        if right:
            assert len(found["classes"]) == 1000
            assert found["config"]["model"]["depth"] == 18
            assert read(path).keys() == {"state_dict", "config", "classes", "preprocessing"}


def test_published_weights_are_fetched_once_and_compared(tmp_path, monkeypatch):
    path, digits = small(tmp_path)
    address, asked = f"https://host/{path.name}", []
    monkeypatch.setattr(torchvision_weights, "address", lambda name: address)

    def download(url, target, hash_prefix, progress):
        asked.append((url, hash_prefix))
        Path(target).write_bytes(path.read_bytes())

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    place = tmp_path / "cache"
    for _ in range(2):
        assert registry.file_of("ResNet18_Weights.IMAGENET1K_V1", place) == place / "weights" / "imagenet" / path.name
    assert asked == [(address, digits)]
    (place / "weights" / "imagenet" / path.name).write_bytes(b"cut off")
    with pytest.raises(UserError, match="is damaged: its SHA-256 does not begin with"):
        registry.file_of("ResNet18_Weights.IMAGENET1K_V1", place)


@pytest.mark.parametrize("error", [OSError("no network"), RuntimeError("invalid hash value")])
def test_a_download_that_fails_is_one_line(error, tmp_path, monkeypatch):
    def download(*_, **__):
        raise error

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    with pytest.raises(UserError, match=rf"alexnet.* cannot be fetched \({error}\). Put it into .*imagenet by hand"):
        registry.file_of("AlexNet_Weights.IMAGENET1K_V1", tmp_path)
    assert not list(tmp_path.rglob("*.pth"))


def test_several_processes_that_ask_at_once_all_have_a_whole_file(tmp_path):
    content = b"weights" * 200_000
    (tmp_path / "source.pth").write_bytes(content)
    command = (
        "from pathlib import Path; from zoo.pretrained.registry import fetch; "
        f"fetch({(tmp_path / 'source.pth').as_uri()!r}, Path({str(tmp_path / 'there' / 'w.pth')!r}), "
        f"{hashlib.sha256(content).hexdigest()[:8]!r})"
    )
    asking = [subprocess.Popen([sys.executable, "-c", command], stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait() for process in asking] == [0, 0, 0]
    assert (tmp_path / "there" / "w.pth").read_bytes() == content
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["w.pth"], "nothing half-fetched is left"


def test_a_checkpoint_that_comes_with_the_zoo_is_found_by_its_name_and_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "HERE", tmp_path)
    registry.card.cache_clear()
    config = {"model": {"_target_": "zoo.models.mlp.MLP", "in_features": 3, "out_features": 2, "hidden_features": []}}
    weights = {"output.weight": torch.rand(2, 3), "output.bias": torch.rand(2)}
    save_file(weights, tmp_path / "tiny-net.safetensors", {"config": json.dumps(config)})
    digest = registry.sha256(tmp_path / "tiny-net.safetensors")
    (tmp_path / "tiny-net.json").write_text(json.dumps({"sha256": digest}))
    assert torch.equal(load_model("tiny-net").output.weight, weights["output.weight"])
    with pytest.raises(UserError, match="did you mean 'tiny-net'"):
        find("tiny-nat")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-net").mkdir()
    with pytest.raises(UserError, match="There is no checkpoint in tiny-net"):
        find("tiny-net")  # a place on this machine comes before a name
    (tmp_path / "tiny-net").rmdir()
    (tmp_path / "tiny-net.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="is not what its card says"):
        find("tiny-net")
    registry.card.cache_clear()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "ResNet18_Weights.IMAGENET1K_V9",
            "torchvision has no weights .* did you mean 'ResNet18_Weights.IMAGENET1K_V1'",
        ),
        ("hf://nobody", "must be hf://owner/name"),
    ],
)
def test_a_name_of_nothing_is_one_line(name, line):
    with pytest.raises(UserError, match=line):
        find(name)


@pytest.mark.parametrize(
    ("name", "asked"),
    [("hf://a/b", ("a/b", "model.safetensors")), ("hf://a/b/deep/w.safetensors", ("a/b", "deep/w.safetensors"))],
)
def test_a_file_of_the_hub_is_asked_for_by_its_owner_and_name(name, asked, tmp_path, monkeypatch):
    hub, calls = pytest.importorskip("huggingface_hub"), []

    def download(*arguments):
        calls.append(arguments)
        return str(tmp_path / "file")

    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert find(name) == tmp_path / "file"
    assert calls == [asked]

    def fails(*_):
        raise ValueError("404 Client Error\nmore")

    monkeypatch.setattr(hub, "hf_hub_download", fails)
    with pytest.raises(UserError, match=rf"{name} cannot be fetched: 404 Client Error$"):
        find(name)


def test_weights_that_a_recipe_begins_with_are_missed_aloud():
    model = torch.nn.Linear(2, 2)
    (line,) = load({"begins_with": "pretrain/dbn_mnist"}, model)
    assert "It begins with weights of experiment=pretrain/dbn_mnist, and has none" in line
    assert load({}, model) == []


@pytest.mark.slow
def test_mobilenet_tells_photos_apart_as_torchvisions_does():
    """50 photos of as many classes; with torchvision's own preparation 38 are right, and 48 among the first five."""
    data = os.environ.get("ZOO_DATA")
    if not data or not (Path(data) / "imagenet-50").is_dir():
        pytest.skip("ZOO_DATA names no folder with photos of ImageNet")
    from zoo.trained.predict import load

    name = "MobileNet_V2_Weights.IMAGENET1K_V1"
    categories = get_model_weights("mobilenet_v2").IMAGENET1K_V1.meta["categories"]
    answers = list(load(name).answers(Path(data) / "imagenet-50"))
    truth = [categories[int(Path(answer.file).name[:3])] for answer in answers]
    first = sum(answer.ranked[0][0] == true for answer, true in zip(answers, truth, strict=True))
    five = sum(true in [n for n, _ in answer.ranked[:5]] for answer, true in zip(answers, truth, strict=True))
    assert len(answers) == 50
    assert first >= 36
    assert five >= 46
