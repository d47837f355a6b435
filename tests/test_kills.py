"""A run that is killed and resumed ends like one that was let be: tests/drivers/kills.py, as its user types it.

The driver forks its runs, so here it is a process of its own: a fork of a process that has used torch would hang.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.config.commandline import options

ROOT = Path(__file__).parent.parent
DRIVER = ROOT / "tests" / "drivers" / "kills.py"
OF_THE_WEIGHTS = ["weights", "weights_and_loops", "no_rng", "no_sampler", "no_optimizer", "no_schedule"]
OF_WHAT_IS_SHOWN = ["no_callbacks", "no_process_state", "no_curves"]
# Where images are no input; small batches, for there are few paragraphs.
OF_THEIR_OWN = {"textcnn": ("python_topics", 16), "dlinear": ("waves", 32)}
OF_THEIR_OWN |= {"unet": ("shapes", 16), "yolo": ("boxed_shapes", 16)}
# What more is asked of a model, so that the run has something to lose.
ASKED_FOR = {
    "unet": "model.channels=[4,8] model.dropout=0.1 task.dice_weight=1 data.num_train=400",
    "yolo": "model.channels=[4,4,8] model.dropout=0.1 data.num_train=400",
    "autoencoder": "task.noise=gaussian model.code_activation=Sigmoid task.sparsity=kl task.contraction=0.01",
    "conv_autoencoder": "task.noise=salt_and_pepper task.sparsity=l1",
    "vae": "model.hidden_features=[32] task.binarize=stochastic",
    "cvae": "model.hidden_features=[32] task.binarize=stochastic",
    "rbm": "task.persistent=true task.binarize=true",  # chains go on from where they were
    "dbn": "model.hidden_features=[32,32]",  # the kills fall into the turns of both layers
    "gan": "task.samples=100",
    "dcgan": "model.generator_channels=4 model.discriminator_channels=4 task.n_critic=2 task.samples=100",
}
PAIRS = "data.num_train=600 data.num_val=40 data.num_test=40 data.batch_size=32 model.dropout=0.1"
OF_THE_ATTENTION_WING = {
    "seq2seq": f"data=dates {PAIRS} model.hidden_size=16 model.embedding_dim=8 task.teacher_forcing=0.5",
    "transformer": f"data=dates {PAIRS} model.d_model=16 model.d_ff=32",
    "captioner": f"data=captions {PAIRS}",
    "gpt": "data=python_docs data.fraction=0.02 model.d_model=16 model.num_layers=2 model.dropout=0.1",
    "bert": "data=masked_docs data.fraction=0.2 model.d_model=16 model.num_layers=2 model.dropout=0.1",
    "skipgram": "data=words_docs data.fraction=0.1 model.embedding_dim=16",
    "cbow": "data=words_docs data.fraction=0.1 model.embedding_dim=16",
}
RUNNING_TEXT = [
    "data=python_docs",
    "settings=trainer.max_epochs=2 data.fraction=0.1 data.window=32 "
    "model.hidden_size=32 model.embedding_dim=32 model.num_layers=2 model.dropout=0.2",
]


def start(*arguments):
    command = [sys.executable, str(DRIVER), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process, limit=240):
    """(exit status, figures by variant, all that it said)."""
    try:
        said, _ = process.communicate(timeout=limit)
    finally:
        process.kill()
    last = said.splitlines()[-1]
    return process.returncode, json.loads(last)["variants"] if last.startswith("{") else {}, said


def test_killed_runs_end_like_one_that_was_let_be_and_weights_alone_do_not():
    short = "settings=trainer.max_epochs=2 logger=csv"
    exact, robbed = start("kills=4", "damage=1", short), start("kills=1", "mutation=weights", short)
    status, figures, said = ended(exact)
    assert status == 0, said
    plain = figures["plain"]
    assert (plain["runs"], plain["equal"], plain["kills"], plain["resumed above 0"]) == (5, 5, 5, 5)
    assert plain["kills in a write"] == 1
    status, figures, said = ended(robbed)
    assert (status, figures["plain"]["equal"], figures["plain"]["weights differ"]) == (1, 0, 1), said


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", ["mlp", "lenet5"])
def test_fifty_of_fifty_killed_runs_are_equal(model):
    status, figures, said = ended(start(f"model={model}", "kills=50"), limit=900)
    assert status == 0, said
    plain = figures["plain"]
    assert plain["runs"] == plain["equal"] == 55, "50, and 5 with a damaged checkpoint"
    assert plain["first kills after a checkpoint"] >= 40
    assert plain["first kills in a write"] >= 10
    assert plain["resumed above 0"] >= 40


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_part_of_a_run_goes_on_exactly():
    status, figures, said = ended(start("kills=5", "variants=all", "damage=1"), limit=900)
    assert status == 0, said
    assert len(figures) == 13
    assert all(result["equal"] == result["runs"] == 6 for result in figures.values())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "model", [n for n in options("model") if n not in ("custom", "mlp", "lenet5", *OF_THE_ATTENTION_WING)]
)
def test_every_model_goes_on_exactly(model):
    """What a model has beside its weights, such as the statistics of batch norm, is in the checkpoint."""
    data, batch_size = OF_THEIR_OWN.get(model, ("digits", 32))
    short = f"settings=trainer.max_epochs=2 data.fraction=0.3 data.batch_size={batch_size} {ASKED_FOR.get(model, '')}"
    status, figures, said = ended(start(f"model={model}", f"data={data}", "kills=5", "damage=0", short), limit=900)
    assert status == 0, said
    assert (figures["plain"]["runs"], figures["plain"]["equal"]) == (5, 5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", OF_THE_ATTENTION_WING)
def test_every_model_of_the_attention_wing_goes_on_exactly(model):
    """Dropout, drawn teacher forcing, hidden tokens and words drawn as noise are the same after a kill."""
    data, settings = OF_THE_ATTENTION_WING[model].split(" ", 1)
    short = f"settings=trainer.max_epochs=2 {settings}"
    status, figures, said = ended(start(f"model={model}", data, "kills=5", "damage=0", short), limit=900)
    assert status == 0, said
    assert (figures["plain"]["runs"], figures["plain"]["equal"]) == (5, 5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", ["rnn", "lstm", "gru"])
def test_a_carried_state_goes_on_exactly(model):
    """A language model that is killed inside an epoch goes on from the state that its last batch left."""
    status, figures, said = ended(start(f"model={model}", "kills=5", "damage=0", *RUNNING_TEXT), limit=900)
    assert status == 0, said
    assert (figures["plain"]["runs"], figures["plain"]["equal"]) == (5, 5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_carried_state_that_is_not_restored_is_noticed():
    status, figures, said = ended(start("model=lstm", "kills=2", "mutation=no_carried", *RUNNING_TEXT), limit=900)
    assert (status, figures["plain"]["equal"], figures["plain"]["weights differ"]) == (1, 0, 2), said


@pytest.mark.slow
@pytest.mark.parametrize("mutation", OF_THE_WEIGHTS + OF_WHAT_IS_SHOWN)
def test_a_part_that_is_not_restored_is_noticed(mutation):
    status, figures, said = ended(start("kills=2", f"mutation={mutation}", "settings=trainer.max_epochs=3"))
    assert status == 1, said
    assert figures["plain"]["equal"] == 0, said
    if mutation in OF_THE_WEIGHTS:
        assert figures["plain"]["weights differ"] == 2, said
