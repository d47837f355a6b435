"""What was learnt elsewhere helps where the tasks are near: fine-tuned beats the same network from random weights.

Bounds lie between what was measured, for the recipes' own lengths in `results/` and the headers of the recipes.
"""

import json
import os

import pytest

from zoo.reproduction.provenance import recipe, settings
from zoo.run import configure, run

SHORT = ("trainer.num_threads=1", "callbacks.progress=null", "logger=none", "callbacks.activity=null")
PAIRS = {"gpt_python_docs": "from_scratch/gpt_python_docs", "seq2seq_long_sums": "from_scratch/seq2seq_long_sums"}


def reached(experiment, folder, *more):
    run_dir = folder / experiment.replace("/", "_")
    assert run(configure(f"experiment={experiment}", *SHORT, *more, run_dir=run_dir)) == 0
    return json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("finetuned", "scratch"), PAIRS.items())
def test_only_the_start_differs(finetuned, scratch):
    ours, theirs = settings(recipe(finetuned)), settings(recipe(scratch))
    assert {key for key in ours | theirs if ours.get(key) != theirs.get(key)} == {"pretrained"}


def test_what_is_frozen_and_what_is_known_differ_in_the_curve_of_few_labels():
    frozen, finetuned, scratch = (settings(recipe(f"few_labels/{name}")) for name in ("frozen", "finetuned", "scratch"))
    kinds = ("model.", "data.", "trainer.", "optimizer.", "scheduler.", "task.")
    for other in (frozen, finetuned):
        differ = {key for key in other if key.startswith(kinds) and other[key] != scratch.get(key)}
        assert differ == ({"optimizer.lr"} if other is frozen else set())


def test_a_reader_of_shakespeare_is_ahead_on_another_text_from_the_first_iterations_on(tmp_path):
    """Ten iterations: 2.2 nats against 3.2."""
    few = (
        "trainer.max_steps=10",
        "trainer.limit_val_batches=1",
        "trainer.limit_test_batches=1",
        "data.eval_batch_size=8",
    )
    finetuned, scratch = (reached(name, tmp_path, *few) for pair in list(PAIRS.items())[:1] for name in pair)
    assert finetuned["test/loss"] < scratch["test/loss"] - 0.5


@pytest.mark.slow
def test_who_adds_three_digits_learns_four_from_few_examples(tmp_path):
    """Exact match 0.9 against 0.1 to 0.2."""
    finetuned, scratch = (reached(name, tmp_path) for pair in list(PAIRS.items())[1:] for name in pair)
    assert finetuned["test/exact_match"] > 0.7 > 0.4 > scratch["test/exact_match"]


@pytest.mark.slow
@pytest.mark.parametrize(("finetuned", "scratch"), PAIRS.items())
def test_the_limit_of_a_recipe_is_what_random_weights_reach(finetuned, scratch, tmp_path):
    """The mean over three seeds, which `published` names, but for rounding."""
    limit = recipe(finetuned)["published"]
    found = [reached(scratch, tmp_path / str(seed), f"seed={seed}")[limit["metric"]] for seed in range(3)]
    assert sum(found) / 3 == pytest.approx(limit["value"], rel=0.01)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("ZOO_DATA"), reason="ZOO_DATA names no folder with the photos and the weights")
def test_features_of_photos_in_the_networks_own_format_serve_another_network(tmp_path, call_script):
    """MobileNetV2 sees ants and bees at 224 pixels, as ImageNet; a linear layer learns from what it makes of them."""
    name, photos = "MobileNet_V2_Weights.IMAGENET1K_V1", f"{os.environ['ZOO_DATA']}/hymenoptera-256"
    ran = call_script("predict", f"ckpt={name}", f"input={photos}", f"features={tmp_path / 'f.npz'}")
    assert ran.status == 0, ran.err
    learn = ["model=mlp", "model.hidden_features=[]", "data=features", f"data.path={tmp_path / 'f.npz'}"]
    learn += ["optimizer.lr=0.003", "trainer.max_epochs=30"]
    assert run(configure(*learn, *SHORT, run_dir=tmp_path / "run")) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test/accuracy"] > 0.9
