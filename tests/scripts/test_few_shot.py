"""scripts/few_shot.py: what features are worth for classes never seen, beside the inputs as they are."""

import json

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

from zoo.checkpoint import load_model
from zoo.data.digits import Digits
from zoo.layers.depth import entering, head
from zoo.trained.few_shot import accuracies, draw_episodes, with_interval

FIVE_TO_NINE = "data.classes=[5,6,7,8,9]"


def trained(folder, *overrides):
    from zoo.run import configure, run

    short = ("trainer.num_threads=1", "logger=none", "test=false")
    assert run(configure(*short, *overrides, run_dir=folder)) == 0
    return folder


@pytest.fixture(scope="module")
def zero_to_four(tmp_path_factory):
    """A network that knows the digits 0 to 4."""
    folder = tmp_path_factory.mktemp("few_shot") / "run"
    return trained(folder, "model=mlp", "data.classes=[0,1,2,3,4]", "trainer.max_epochs=10")


def test_five_classes_teach_nothing_about_others_that_the_pixels_do_not_say(zero_to_four, call_script, tmp_path):
    found = {}
    for shots in (1, 5):
        out = tmp_path / f"{shots}.json"
        ran = call_script("few_shot", zero_to_four, FIVE_TO_NINE, f"shots={shots}", "episodes=300", f"metrics={out}")
        assert ran.status == 0, ran.err
        found[shots] = json.loads(out.read_text())
    for one in found.values():
        assert one["features_accuracy"] > 0.5, "0.2 is chance"
        assert one["features_accuracy"] < one["inputs_accuracy"] + 0.02
    assert found[5]["features_accuracy"] > found[1]["features_accuracy"] + 0.1, "five examples say more than one"
    assert "896 samples of the classes 5, 6, 7, 8, 9" in ran.out
    assert "300 episodes: 5 classes, 5 examples and 15 queries of each" in ran.out
    assert "Note" not in ran.out


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_:UserWarning")  # pixels of the rim are always 0
def test_episodes_are_judged_as_by_scikit_learn(zero_to_four, call_script, tmp_path):
    call_script("few_shot", zero_to_four, FIVE_TO_NINE, "ways=3", "shots=2", "queries=4", "episodes=20", "seed=1",
                f"metrics={tmp_path}/found.json")  # fmt: skip
    found = json.loads((tmp_path / "found.json").read_text())
    seen, data = Digits(classes=[0, 1, 2, 3, 4]), Digits(classes=[5, 6, 7, 8, 9])
    data.prepare_as(seen.prepare().preprocessing, seen.prepare().class_names)  # as the network has seen its own
    batches = [data.part(name)[torch.arange(len(data.part(name)))] for name in ("train", "val", "test")]
    images, labels = torch.cat([b.image for b in batches]), torch.cat([b.label for b in batches])
    model = load_model(zero_to_four)
    with torch.no_grad():
        rows = {"inputs": images.flatten(1), "features": entering(model, head(model), images)}
    episodes = draw_episodes(labels, 3, 2, 4, 20, seed=1)
    for name, x in rows.items():
        scores = []
        for places in episodes:
            kinds = labels[places]
            assert (kinds == kinds[:, :1]).all()
            assert len(kinds[:, 0].unique()) == 3
            assert len(places.unique()) == places.numel(), "no query is an example, too"
            theirs = NearestCentroid().fit(x[places[:, :2]].flatten(0, 1), kinds[:, :2].flatten())
            scores.append(theirs.score(x[places[:, 2:]].flatten(0, 1), kinds[:, 2:].flatten()))
        assert found[f"{name}_accuracy"] == pytest.approx(np.mean(scores), abs=1e-3)
        assert found[f"{name}_interval"] == pytest.approx(1.96 * np.std(scores, ddof=1) / 20**0.5, rel=0.02)


def test_an_interval_of_95_per_cent_holds_the_mean_in_95_of_100_cases():
    drawn = torch.randn(2000, 50, generator=torch.Generator().manual_seed(0)).double()
    within = [abs(mean) < half for mean, half in map(with_interval, drawn)]
    assert 0.93 < np.mean(within) < 0.97


def test_what_lies_apart_is_told_apart():
    labels = torch.arange(60) % 3
    features = torch.eye(3)[labels] + 0.01 * torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    episodes = draw_episodes(labels, 3, 1, 5, 10)
    assert accuracies(features, episodes, 1).tolist() == [1.0] * 10
    assert torch.equal(episodes, draw_episodes(labels, 3, 1, 5, 10))
    assert not torch.equal(episodes, draw_episodes(labels, 3, 1, 5, 10, seed=1))


def test_a_network_that_was_trained_to_embed_gives_its_output(call_script, tmp_path):
    run = trained(tmp_path / "run", "model=mlp", "task=prototypical", "data.classes=[0,1,2,3,4]", "data.fraction=0.2",
                  "trainer.max_epochs=2")  # fmt: skip
    ran = call_script("few_shot", f"ckpt={run}", "episodes=20")
    assert ran.status == 0, ran.err
    assert "Note: the network was trained on 0, 1, 2, 3, 4; choose others" in ran.out
    from zoo.trained.few_shot import look

    assert look(str(run), {}).features.shape[1] == 64


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["ways=6"], "ways=6 must be a number from 2 to 5"),
        (["ways=1"], "from 2 to 5"),
        (["shots=200"], "are more than the 174 samples of the smallest class"),
        (["shots=0"], "shots=0 must be a whole number from 1 on"),
        (["seed=x"], "seed=x must be a whole number"),
        (["metrics=found.txt"], "must be the name of a .json file"),
        (["data.clases=[1]"], "did you mean 'classes'"),
        (["shot=1"], "did you mean 'shots'"),
    ],
)
def test_what_cannot_be_is_one_line(zero_to_four, call_script, given, told):
    ran = call_script("few_shot", zero_to_four, FIVE_TO_NINE, *given)
    assert (ran.status, told in ran.err, ran.err.count("\n")) == (2, True, 1), ran.err


def test_data_without_classes_has_no_episodes(call_script, csv_regression_run):
    ran = call_script("few_shot", csv_regression_run)
    assert (ran.status, "episodes are of classes" in ran.err) == (2, True), ran.err
    assert "ckpt= is missing" in call_script("few_shot").err
