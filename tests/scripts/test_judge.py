"""Generators judged from their checkpoints."""

import json

import pytest

from zoo.run import configure, run

SHORT = ["trainer.max_epochs=1", "trainer.num_threads=1", "callbacks.progress=null", "logger=none", "test=false"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The folder of a GAN on digits, one epoch."""
    folder = tmp_path_factory.mktemp("judge") / "images"
    small = ["model.generator_features=[16]", "model.discriminator_features=[8]"]
    assert run(configure("model=gan", "data=digits", "data.image_size=28", *small, *SHORT, run_dir=folder)) == 0
    return folder


def test_images_have_a_frechet_distance_between_floor_and_noise(images, digits_run, call_script, tmp_path):
    out = tmp_path / "found.json"
    ended = call_script("judge", f"ckpt={images}", f"features={digits_run}", "n=200", f"out={out}")
    assert ended.status == 0, ended.err
    found = json.loads(out.read_text())
    assert 0 < found["frechet_floor"] < found["frechet_of_noise"]
    assert found["frechet_floor"] < found["frechet"]
    assert found["parzen"] < found["parzen_ceiling"]
    assert f"{found['frechet']:.4f}" in ended.out


def test_points_have_modes_and_an_exact_transport(call_script, tmp_path):
    small = ["model.latent_size=2", "model.generator_features=[8]", "model.discriminator_features=[8]"]
    small += ["data.num_train=300", "data.num_test=100"]
    assert run(configure("model=gan", "data=ring", *small, *SHORT, run_dir=tmp_path)) == 0
    ended = call_script("judge", tmp_path, "n=150", f"out={tmp_path / 'found.json'}")
    assert ended.status == 0, ended.err
    found = json.loads((tmp_path / "found.json").read_text())
    assert 0 <= found["modes"] <= 8
    assert 0 < found["transport_floor"] < found["transport"]
    assert "score_difference" in found
    ended = call_script("judge", tmp_path, "n=150", f"features={tmp_path}")
    assert (ended.status, "features= is for images" in ended.err) == (2, True)
    of_class = tmp_path / "of_class"
    assert run(configure("model=gan", "data=ring", "model.num_classes=8", *small, *SHORT, run_dir=of_class)) == 0
    ended = call_script("judge", of_class, "n=150")
    assert ended.status == 0, ended.err
    assert "transport" in ended.out
    assert "score_difference" not in ended.out, "its critic wants to know of which class a point is"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ckpt={images}", "n=1"], "n=1 must be a whole number from 2"),
        (["ckpt={images}", "n=²"], "n=² must be a whole number from 2"),
        (["ckpt={images}", "seed=99999999999999999999"], "seed=99999999999999999999 must be a whole number from 0"),
        (["ckpt={images}", "n=20", "features=nowhere"], "There is no checkpoint nowhere"),
        (["ckpt={digits}"], "makes no samples"),
        (["ckpt={images}", "n=20", "features={images}"], "is no classifier of images"),
        (["ckpt={images}", "out=found.txt"], "must be the name of a .json file"),
        ([], "Which checkpoint?"),
    ],
)
def test_what_cannot_be_judged_is_one_line(images, digits_run, call_script, arguments, says):
    ended = call_script("judge", *(argument.format(digits=digits_run, images=images) for argument in arguments))
    assert ended.status == 2
    assert says in ended.err
    assert "Traceback" not in ended.err
