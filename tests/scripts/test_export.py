"""scripts/export.py: each copy answers as the checkpoint does, also elsewhere; nothing is left of one that does not."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from zoo.checkpoint import load_model, model_weights, read
from zoo.errors import UserError
from zoo.trained.export import distance, examples, export

SHORT = ("trainer.max_steps=2", "trainer.limit_val_batches=1", "test=false", "logger=none", "callbacks.activity=null")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with runs of several models, made when they are asked for."""
    from zoo.run import configure, run

    folder = tmp_path_factory.mktemp("export")

    def made(*overrides):
        place = folder / "_".join(overrides).replace("=", "-")
        if not place.exists():
            assert run(configure(*overrides, *SHORT, run_dir=place)) == 0
        return place

    return made


LSTM = ("model=lstm", "data=python_topics", "model.hidden_size=8", "model.embedding_dim=8")
VAE = ("model=vae", "model.hidden_features=[8]", "model.latent_size=2")
WRITER = ("model=lstm", "model.hidden_size=8", "model.embedding_dim=8", "data.fraction=0.02")


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=lenet5", "data.image_size=28"),
        VAE,
        pytest.param(LSTM, marks=pytest.mark.slow),
        pytest.param(WRITER, marks=pytest.mark.slow),
        pytest.param(("model=transformer",), marks=pytest.mark.slow),
        pytest.param(("model=seq2seq",), marks=pytest.mark.slow),
    ],
    ids=lambda o: o[0],
)
def test_a_program_answers_as_the_network_for_any_number_of_samples(overrides, runs, tmp_path):
    """Without the zoo: nothing but torch loads it."""
    line = export(runs(*overrides), tmp_path / "net.pt2")
    assert "differ from the network's by" in line
    checkpoint, model = read(runs(*overrides)), load_model(runs(*overrides))
    program = torch.export.load(tmp_path / "net.pt2").module()
    for number in (1, 7):
        inputs = examples(checkpoint, model, number)
        if overrides[0] in ("model=lstm", "model=seq2seq"):  # what they do depends on the mask: for whole rows alone
            inputs = tuple(None if x is not None and x.dtype == torch.bool else x for x in inputs)
        assert distance(model, program, inputs) < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt2"]


def test_an_onnx_file_answers_outside_torch(runs, tmp_path):
    source = runs("model=lenet5", "data.image_size=28")
    export(source, tmp_path / "net.onnx")
    model = load_model(source)
    image = torch.rand(3, 1, 28, 28)
    np.save(tmp_path / "image.npy", image.numpy())
    code = (
        "import sys, numpy as np, onnxruntime as ort; session = ort.InferenceSession('net.onnx');"
        "name = session.get_inputs()[0].name; answer = session.run(None, {name: np.load('image.npy')})[0];"
        "np.save('answer.npy', answer); assert 'torch' not in sys.modules and 'zoo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    found = torch.from_numpy(np.load(tmp_path / "answer.npy"))
    torch.testing.assert_close(found, model(image).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("half", [False, True])
def test_weights_carry_all_that_the_scripts_need(half, runs, call_script, tmp_path):
    source = runs(*LSTM)
    typed = [f"out={tmp_path}/net.safetensors", *(["half=true"] if half else [])]
    ran = call_script("export", f"ckpt={source}", *typed)
    assert ran.status == 0, ran.err
    ours, theirs = (model_weights(read(place)) for place in (tmp_path / "net.safetensors", source))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == (torch.float16 if half and value.is_floating_point() else value.dtype)
        torch.testing.assert_close(
            ours[name].to(value.dtype), value, rtol=1e-3 if half else 0, atol=1e-4 if half else 0
        )
    answers = [
        call_script("predict", f"ckpt={place}", "text=a list of numbers")
        for place in (tmp_path / "net.safetensors", source)
    ]
    assert answers[0].status == 0, answers[0].err
    assert answers[0].out.split(" (")[0] == answers[1].out.split(" (")[0], "the same class first"
    told = json.dumps(read(tmp_path / "net.safetensors")["config"])
    assert str(source) not in told, "no path of the run"


def test_an_exported_checkpoint_is_judged_on_its_data_wherever_that_lies_now(tmp_path, monkeypatch, call_script):
    """It holds no folder of its run; the data is looked for where every run looks for it."""
    from zoo.run import configure, run

    for place in ("old", "new"):
        (tmp_path / place / "tinyshakespeare").mkdir(parents=True)
        (tmp_path / place / "tinyshakespeare" / "input.txt").write_text("to be or not to be. " * 300)
    monkeypatch.setattr("zoo.data.corpus.md5", lambda raw: "6fb458f1232090904fb40fe944165e91")
    small = [*WRITER[:-1], "data=tiny_shakespeare", f"data_dir={tmp_path / 'old'}", *SHORT]
    assert run(configure(*small, run_dir=tmp_path / "run")) == 0
    export(tmp_path / "run", tmp_path / "net.safetensors")
    (tmp_path / "old" / "tinyshakespeare" / "input.txt").unlink()
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "new"))
    ran = call_script("evaluate", f"ckpt={tmp_path / 'net.safetensors'}", "part=val")
    assert ran.status == 0, ran.err
    assert "perplexity" in ran.out


def test_a_file_of_a_newer_zoo_is_refused_whatever_its_form(runs, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    export(runs(*VAE), tmp_path / "net.safetensors")
    with safe_open(tmp_path / "net.safetensors", framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    save_file(weights, tmp_path / "newer.safetensors", metadata | {"format_version": "99"})
    with pytest.raises(UserError, match="written by a newer version of the zoo"):
        read(tmp_path / "newer.safetensors")


def test_a_copy_that_answers_otherwise_is_not_kept(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.trained.export.distance", lambda *_: 0.5)
    with pytest.raises(UserError, match=r"was not written: its answers differ from the network's by 0\.5"):
        export(runs(*VAE), tmp_path / "net.pt2")
    assert list(tmp_path.iterdir()) == []


def test_answers_are_compared_to_their_size_and_their_shape():
    model = torch.nn.Linear(3, 2)
    x = (torch.rand(4, 3),)
    assert distance(model, lambda x: model(x) * (1 + 1e-3), x) == pytest.approx(1e-3, rel=1e-3)
    assert distance(model, lambda x: model(x)[:2], x) == float("inf")


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["out=net.h5"], "must end with .safetensors, .pt2 or .onnx"),
        (["out=net.onnx", "half=true"], "half=true is for .safetensors"),
        (["out=net.pt2", "half=yes"], "half=yes must be true or false"),
        (["out=/proc/net.pt2"], "/proc/net.pt2 cannot be written"),
        ([], "out= is missing"),
    ],
)
def test_what_cannot_be_is_one_line(typed, line, runs, call_script):
    ran = call_script("export", f"ckpt={runs(*VAE)}", *typed)
    assert (ran.status, line in ran.err) == (2, True), ran.err
    assert "Traceback" not in ran.err
