"""scripts/predict.py on masks and boxes: what is told and drawn is what the model answers."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.checkpoint import load_model, read
from zoo.data.images import ImagePreprocessing
from zoo.data.shapes import Shapes
from zoo.losses.detection import boxes_of
from zoo.run import configure, run

FEW = ("data.num_train=64", "data.num_val=8", "data.num_test=8", "data.batch_size=16", "trainer.max_epochs=2")


@pytest.fixture(scope="module", params=["unet", "yolo"])
def trained(request, tmp_path_factory):
    """(model, run folder) of a network that has hardly learnt anything."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    narrow = "model.channels=[4,8,8]"
    assert run(configure(f"model={request.param}", narrow, *FEW, "logger=none", run_dir=folder)) == 0
    return request.param, folder


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for i, image in enumerate(Shapes(num_train=1, num_val=1, num_test=3).made("test").images):
        pixels = image.permute(1, 2, 0).numpy().repeat(2, 0).repeat(2, 1)
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / ("below" if i else ".") / f"{i}.png")
    (folder / "broken.png").write_text("no image")
    return folder


def test_what_is_told_is_what_the_model_says_and_a_picture_shows_it(trained, photos, call_script, tmp_path):
    name, folder = trained
    drawn = tmp_path / "seen"
    ran = call_script("predict", f"ckpt={folder}", f"input={photos}", f"drawn={drawn}", "format=json")
    answers = [json.loads(line) for line in ran.out.splitlines()]
    assert [answer["input"] for answer in answers] == [
        str(photos / "0.png"),
        *(str(photos / f"below/{i}.png") for i in (1, 2)),
    ]
    assert "Skipped" in ran.err
    assert "broken.png" in ran.err
    prepare = ImagePreprocessing.from_dict(read(folder)["preprocessing"])
    for answer in answers:
        with Image.open(answer["picture"]) as picture:
            assert picture.size[0] > 50
        with torch.no_grad():
            said = load_model(folder)(prepare(prepare.open(answer["input"])[None]))
        if name == "unet":
            expected = said.argmax(1).flatten().bincount(minlength=4) / 48**2
            assert list(answer["shares"]) == ["background", "circle", "square", "triangle"]
            assert list(answer["shares"].values()) == pytest.approx(expected.tolist())
        else:
            _, sure, chances = boxes_of(said, 3, (48, 48))
            best = (sure.unsqueeze(4) * chances.unsqueeze(3)).max()
            assert [one["score"] for one in answer["boxes"]][:1] == pytest.approx([best] if best >= 0.3 else [])


def test_one_image_is_one_line_for_people(trained, photos, call_script, tmp_path, monkeypatch):
    name, folder = trained
    monkeypatch.chdir(tmp_path)
    ran = call_script("predict", f"ckpt={folder}", f"input={photos / '0.png'}")
    assert ran.out.startswith(f"{photos / '0.png'}: ")
    assert ran.out.rstrip().endswith("; drawn in drawn/0.png.seen.png")
    assert ("%" in ran.out) if name == "unet" else ("at" in ran.out or "nothing" in ran.out)
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["text=a b"], "text= is not for a model of masks or boxes"),
        (["input={}", "explain=true"], "explain= is not for a model of masks or boxes"),
        (["input={}", "drawn={}/here"], "lies in the folder of the inputs"),
        (["input={}/missing.png"], "There is nothing at"),
        (["input={}/broken.png"], "is not an image that can be read"),
    ],
)
def test_what_cannot_be_is_one_line(trained, photos, call_script, arguments, said):
    ran = call_script("predict", f"ckpt={trained[1]}", *(argument.format(photos) for argument in arguments))
    assert ran.status == 2
    assert said in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err
