"""Hostile and broken checkpoints: one line, exit status 2, nothing run, nothing half loaded, no memory taken.

What tests/test_checkpoint.py and tests/test_bad_input.py hold of single functions is held here of whole files, as they
come to `load_model` and to a script.
"""

import io
import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from PIL import Image
from safetensors.torch import save

from zoo.checkpoint import load_model
from zoo.errors import UserError
from zoo.models.mlp import MLP

SIZES = {"in_features": 4, "out_features": 3, "hidden_features": [5]}
MLP_CONFIG = {"_target_": "zoo.models.mlp.MLP", **SIZES}
TASK = {"_target_": "zoo.tasks.supervised.Classification", "kind": "multiclass", "loss": "cross_entropy"}
PREPARED = {"kind": "image", "channels": 1, "height": 2, "width": 2, "mean": [0.0], "std": [1.0]}


class RunsCode:
    """Unpickled, it makes a folder."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def whole(model=None, weights=None, **more):
    """A checkpoint that predicts, with some of it replaced."""
    config = {"model": MLP_CONFIG if model is None else model, "task": TASK, "data": {}}
    weights = MLP(**SIZES).state_dict() if weights is None else weights
    return {"state_dict": weights, "config": config, "preprocessing": PREPARED, "classes": list("abc")} | more


def torch_file(content):
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def archive(**members):
    """A zip file with the names that torch's have."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"archive/{name}", content)
    return stream.getvalue()


def safetensors(content):
    metadata = {key: json.dumps(value) for key, value in content.items() if key != "state_dict"}
    return save(content["state_dict"], metadata)


def header(size, content=b"{}"):
    """A .safetensors file whose header says that it has `size` bytes."""
    return struct.pack("<Q", size) + content


def spoiled(**changed):
    return {**MLP(**SIZES).state_dict(), **changed}


def hostile(mark):
    """name: (file, its bytes, what is said of it)."""
    code = RunsCode(mark)
    target = str(mark)
    deep = {"_target_": "zoo.models.mlp.MLP", **SIZES, "dropout": {"_target_": "os.mkdir", "_args_": [target]}}
    calls = {
        "torch.load": [target],
        "pathlib.Path.write_text": [target, "x"],
        "os.system": [f"touch {target}"],
        "os.mkdir": [target],
        "builtins.eval": [f"__import__('os').mkdir({target!r})"],
        "subprocess.run": [["touch", target]],
        "importlib.import_module": ["antigravity"],
        "hydra.utils.instantiate": [{"_target_": "os.mkdir", "path": target}],
        "zoo.checkpoint.os.mkdir": [target],
        "torch.nn.modules.container.os.mkdir": [target],
        "functools.partial": [],
    }
    configs = {
        "nested": deep,
        "in a list": MLP_CONFIG | {"hidden_features": [5, deep]},
        "partial": MLP_CONFIG | {"activation": {"_target_": "os.mkdir", "_partial_": True, "path": target}},
        "a reference": MLP_CONFIG | {"in_features": "${oc.env:HOME}"},
        "another key": MLP_CONFIG | {"_call_": "os.mkdir"},
        "target no text": MLP_CONFIG | {"_target_": ["os.mkdir"]},
        **{f"calls {name}": {"_target_": name, "_args_": given} for name, given in calls.items()},
    }
    found = {
        "pickle": ("a.ckpt", pickle.dumps(code), "is no checkpoint"),
        "pickle in weights": ("a.ckpt", torch_file(whole(weights={"w": code})), "was refused"),
        "pickle beside weights": ("a.ckpt", torch_file(whole() | {"more": code}), "was refused"),
        "pickle in a zip": ("a.ckpt", archive(**{"data.pkl": pickle.dumps(code), "version": "3\n"}), "was refused"),
        "pickle as .pt": ("a.pt", pickle.dumps({"state_dict": code}), "is no checkpoint"),
        "pickle as .safetensors": ("a.safetensors", pickle.dumps(code), "is no readable .safetensors"),
        "torch file as .safetensors": ("a.safetensors", torch_file(whole()), "is no readable .safetensors"),
        "huge header": ("a.safetensors", header(2**62), "is no readable .safetensors"),
        "header beyond the end": ("a.safetensors", header(50), "is no readable .safetensors"),
        "header no mapping": ("a.safetensors", header(2, b"[]"), "is no readable .safetensors"),
        "metadata no JSON": ("a.safetensors", save(spoiled(), {"config": "{model: os.system"}), "is no readable"),
        "cut .safetensors": ("a.safetensors", safetensors(whole())[:-9], "is no readable .safetensors"),
        "empty .safetensors": ("a.safetensors", b"", "is no readable .safetensors"),
        "empty": ("a.ckpt", b"", "is no checkpoint"),
        "text": ("a.ckpt", b"import os\n" * 99, "is no checkpoint"),
        "picture": ("a.ckpt", b"\x89PNG\r\n" * 99, "is no checkpoint"),
        "a list": ("a.ckpt", torch_file([1, 2]), "holds a list"),
        "no weights": ("a.ckpt", torch_file({"config": {}}), "holds no weights"),
        "weights a list": ("a.ckpt", torch_file(whole(weights=[1.0])), "state_dict"),
        "weights no tensors": ("a.ckpt", torch_file(whole(weights=spoiled(**{"output.bias": "x"}))), "output.bias"),
        "names no texts": ("a.ckpt", torch_file(whole(weights={1: torch.ones(2)})), "state_dict"),
        "config a list": ("a.ckpt", torch_file(whole(config=[1])), "does not say which model"),
        "config a text": ("a.ckpt", torch_file(whole(config="os.system")), "does not say which model"),
        "model a text": ("a.ckpt", torch_file(whole(model="os.system")), "does not say which model"),
        "model without target": ("a.ckpt", torch_file(whole(model=SIZES)), "configuration gives a dict"),
        "newer": ("a.ckpt", torch_file(whole(format_version=99)), "newer version of the zoo"),
        "version a text": ("a.ckpt", torch_file(whole(format_version="99")), "format_version"),
        "newer .safetensors": ("a.safetensors", safetensors(whole(format_version=99)), "newer version"),
        "other shape": ("a.ckpt", torch_file(whole(weights=spoiled(**{"output.bias": torch.ones(7)}))), "do not fit"),
        "one missing": ("a.ckpt", torch_file(whole(weights={"output.bias": torch.ones(3)})), "do not fit its model"),
        "one too many": ("a.ckpt", torch_file(whole(weights=spoiled(more=torch.ones(3)))), "do not fit its model"),
        "no number": (
            "a.ckpt",
            torch_file(whole(weights=spoiled(**{"output.bias": torch.full((3,), torch.nan)}))),
            "no finite number",
        ),
        "a billion units": ("a.ckpt", torch_file(whole(model=MLP_CONFIG | {"hidden_features": [10**9]})), "do not fit"),
        "a thousand layers": ("a.ckpt", torch_file(whole(model=MLP_CONFIG | {"hidden_features": [5] * 10**3})), "fit"),
        "size no number": ("a.ckpt", torch_file(whole(model=MLP_CONFIG | {"in_features": "x"})), "cannot be built"),
        "size below zero": ("a.ckpt", torch_file(whole(model=MLP_CONFIG | {"in_features": -4})), "cannot be built"),
        "no such argument": ("a.ckpt", torch_file(whole(model=MLP_CONFIG | {"depth": 4})), "cannot be built"),
        "no such model": ("a.ckpt", torch_file(whole(model={"_target_": "zoo.models.no.Net"})), "there is no"),
        "no network": ("a.ckpt", torch_file(whole(model={"_target_": "zoo.optim.PerceptronRule"})), "cannot be built"),
    }
    prepared = {
        "kind a list": {"kind": []},
        "another key": PREPARED | {"path": target},
        "a size missing": {key: value for key, value in PREPARED.items() if key != "height"},
        "a size of text": PREPARED | {"height": "2"},
        "a size below zero": PREPARED | {"height": -2},
        "more means than channels": PREPARED | {"mean": [0.0, 0.0]},
        "a mean of text": PREPARED | {"mean": ["x"]},
        "no deviation": PREPARED | {"std": [0.0]},
    }
    for name, preprocessing in prepared.items():
        content = torch_file(whole(preprocessing=preprocessing))
        found[f"prepared, {name}"] = ("a.ckpt", content, "prepare")
    for name, config in configs.items():
        found[name] = ("a.ckpt", torch_file(whole(model=config)), "was refused")
        if name in ("nested", "calls os.system"):
            found[f"{name}, .safetensors"] = ("a.safetensors", safetensors(whole(model=config)), "was refused")
    return found


@pytest.fixture
def photo(tmp_path):
    Image.new("L", (2, 2), 99).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_the_checkpoint_that_is_spoiled_below_is_sound(tmp_path, photo, call_script):
    for name, content in (("a.ckpt", torch_file(whole())), ("a.safetensors", safetensors(whole()))):
        (tmp_path / name).write_bytes(content)
        ran = call_script("predict", f"ckpt={tmp_path / name}", f"input={photo}")
        assert ran.status == 0, ran.err


@pytest.mark.parametrize("kind", list(hostile("")))
def test_a_hostile_or_broken_checkpoint_is_refused(kind, tmp_path, photo, call_script):
    mark = tmp_path / "was_run"
    name, content, said = hostile(mark)[kind]
    (tmp_path / name).write_bytes(content)
    ran = call_script("predict", f"ckpt={tmp_path / name}", f"input={photo}")
    assert (ran.status, ran.out) == (2, ""), ran
    error = ran.err.splitlines()[-1]
    assert error.startswith("Error: ")
    assert said in error
    assert len(error) < 500
    if kind != "no number" and not kind.startswith("prepared"):  # which shows when it is used
        assert ran.err.count("\n") == 1
        with pytest.raises(UserError):
            load_model(tmp_path / name)
    assert not mark.exists()
