"""What was learnt elsewhere helps where the tasks are near: fine-tuned beats the same network from random weights.

Bounds lie between what was measured, for the recipes' own lengths in `results/` and the headers of the recipes.
"""

import json

import pytest

from zoo.provenance import recipe, settings
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
