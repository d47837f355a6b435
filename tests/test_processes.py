"""Several processes make the run that one would have made, and a lost one costs only the time since it was saved.

Each run is a command as a user types it; a fork of a threaded runner would hang. tests/drivers has the long versions.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from zoo.batches import TextBatch

ROOT = Path(__file__).parent.parent
DRIVERS = ROOT / "tests" / "drivers"


def driver(name):
    spec = importlib.util.spec_from_file_location(name, DRIVERS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WITH_DATA = pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="ZOO_DATA is not set: no downloaded data")
processes, lost_rank = driver("processes"), driver("lost_rank")
# 1,258 samples to learn from: 14 batches, the last of 10. 269 and 270 to look at: the last batch of 67 has 1 or 2.
SETTINGS = ["model=mlp", "data.batch_size=96", "data.eval_batch_size=67", "trainer.max_epochs=2", "augment=shift",
            "trainer.precision=64-true", "checkpoint_every=10"]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run by one, two and three processes; folders 1, 2 and 3 beside what was recorded."""
    folder = tmp_path_factory.mktemp("processes")
    return folder, {number: processes.train(folder / str(number), number, *SETTINGS) for number in (1, 2, 3)}


@pytest.mark.parametrize("number", [2, 3])
def test_several_processes_make_the_run_of_one(runs, number):
    """Same samples and pixels, losses, weights and metrics, where neither batches nor parts divide evenly."""
    row = processes.compare(runs[1][1], runs[1][number])
    assert processes.holds(row, "64-true", 1e-9), row
    assert (row["steps"], row["world_sizes"], row["dtypes"]) == (28, [1, number], ["torch.float64"])
    assert row["smallest_shares"] == {2: [5, 5], 3: [4, 3, 3]}[number]
    assert runs[1][number]["metrics.json"]["samples_seen"] == 2 * 1258


NORMALIZED = [
    *("model=mlp", "model.normalization=BatchNorm1d", "optimizer=sgd", "optimizer.lr=0.1"),
    *("data.eval_batch_size=67", "trainer.precision=64-true", "trainer.max_epochs=1"),
]


@pytest.mark.slow
def test_with_a_synchronized_batch_norm_too(tmp_path):
    """Where each normalizes by its own share, the first loss is another one already.

    A bias in front of a batch norm has a gradient of 0 but for rounding: plain descent leaves it there.
    """
    one = processes.train(tmp_path / "one", 1, *NORMALIZED, "data.batch_size=48")
    both = processes.train(tmp_path / "both", 2, *NORMALIZED, "data.batch_size=48", "trainer.sync_batchnorm=true")
    row = processes.compare(one, both)
    assert all(row[name] < 1e-9 for name in processes.FIGURES), row
    apart = processes.compare(one, processes.train(tmp_path / "apart", 2, *NORMALIZED, "data.batch_size=48"))
    assert apart["losses"] > 1e-3


@pytest.mark.slow
def test_with_a_synchronized_batch_norm_of_uneven_shares_too(tmp_path):
    """Gradients of other processes come in within the backward pass. Shares: 53, 52, 52; of the last batch: 1, 1, 0."""
    one = processes.train(tmp_path / "one", 1, *NORMALIZED, "data.batch_size=157")
    three = processes.train(tmp_path / "three", 3, *NORMALIZED, "data.batch_size=157", "trainer.sync_batchnorm=true")
    row = processes.compare(one, three)
    assert row["smallest_shares"] == [1, 1, 0]
    assert all(row[name] < 1e-9 for name in processes.FIGURES), row


def test_precision_and_recall_are_counted_over_all_processes(runs):
    """Each class's curves, of the whole part: true and false positives and negatives at each threshold."""
    folder, _ = runs
    boards = [EventAccumulator(str(folder / str(number)), {"tensors": 0}).Reload() for number in (1, 2, 3)]
    tags = [f"precision_recall/{digit}" for digit in range(10)]
    one, *others = (
        [(event.step, make_ndarray(event.tensor_proto)) for tag in tags for event in board.Tensors(tag)]
        for board in boards
    )
    assert {size for _, counts in one for size in counts[:4].sum(0).tolist()} <= {269, 270}  # validation, test
    for other in others:
        assert [step for step, _ in other] == [step for step, _ in one]
        assert all((theirs == ours).all() for (_, theirs), (_, ours) in zip(one, other, strict=True))


def test_they_leave_what_one_leaves(runs):
    """One folder, one event file, each message once."""
    folder, found = runs
    assert len(list((folder / "3").glob("*tfevents*"))) == 1
    assert found[3]["out"].count("Run folder:") == 1
    assert {p.name for p in (folder / "3" / "checkpoints").iterdir()} == {
        p.name for p in (folder / "1" / "checkpoints").iterdir()
    }


def test_a_lost_process_is_made_up_for(runs, tmp_path):
    """The run begins again from the newest checkpoint, once, and ends with the bits it would have had."""
    drawn = {"rank": 1, "iteration": 17, "where": "on_after_backward"}
    alone = lost_rank.result_of(runs[0], "2")
    arguments = [*SETTINGS, "trainer=ddp", "trainer.devices=2"]
    row = lost_rank.with_restarts(tmp_path, drawn, alone, 10, 100, arguments)
    assert row["holds"], row
    assert row["resumed_from_iteration"] == 10


def test_what_is_compared_can_fail():
    """The drivers see what they are there to see."""
    assert processes.apart([1.0, {"a": 2.0}], [1.0, {"a": 2.5}]) == 0.25
    assert processes.apart({"a": 1.0}, {}) == processes.apart([1.0], []) == processes.apart(1.0, None) == float("inf")
    assert processes.apart(1.0, float("nan")) == float("inf")
    assert not lost_rank.same({"a": [1, 2]}, {"a": [1, 3]})
    assert lost_rank.expected_start({"iteration": 20, "where": "on_train_batch_end"}, 10) == 10
    assert lost_rank.expected_start({"iteration": 21, "where": "on_train_batch_end"}, 10) == 20


def execute(name, folder, *arguments, limit=1500):
    command = [sys.executable, str(DRIVERS / f"{name}.py"), *arguments, f"folder={folder}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return json.loads(ended.stdout)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("model", ["mlp", "lenet5"])
def test_150_steps_are_those_of_one_process(tmp_path, model):
    rows = execute("processes", tmp_path, f"model={model}")["rows"]
    assert len(rows) == 8
    assert min(row["steps"] for row in rows) >= 150


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("model", "also"),
    [  # those without batch norm, which sees each process's own samples (dcgan has it)
        ("cnn", "data.image_size=28"),
        ("cnn1d", ""),
        ("alexnet", "model.dropout=0 model.widths=[8,24,48,32,32] model.hidden_features=[64,64]"),
        ("vgg", "model.dropout=0 model.batch_norm=false"),
        ("mlp", "finetune=gradual_unfreezing trainer.max_epochs=3 model.hidden_features=[12,10]"),
        ("conv_autoencoder", "task.noise=salt_and_pepper"),
        # Activities of the samples of all processes, with noise and the Jacobian of the codes.
        (
            "autoencoder",
            "task.noise=masking task.noise_level=0.3 model.hidden_features=[24] task.contraction=0.01 "
            "model.code_activation=Sigmoid task.sparsity=kl",
        ),
        # Dense, but two that take turns, with noise that each process draws for its rows.
        (
            "gan",
            "model.generator_features=[16] model.discriminator_features=[8] model.dropout=0 model.input_dropout=0 "
            "task.n_critic=2 task.gradient_penalty=1 task.instance_noise=0.1 task.samples=50 model.num_classes=10",
        ),
        (
            "vae",
            "model.hidden_features=[16] model.latent_size=4 task.binarize=stochastic task.kl_warmup_epochs=2 "
            "task.free_bits=0.1 task.eval_samples=20",
        ),
        ("cvae", "model.hidden_features=[16] model.latent_size=4 task.bound=iwae task.samples=3"),
        # Gradients that no backpropagation has made, chains of which each process has some, and layers in turn.
        ("rbm", "model.hidden_features=16 model.gibbs_steps=5 task.binarize=true task.k=2"),
        ("rbm", "model.hidden_features=16 model.gibbs_steps=5 task.persistent=true task.chains=11"),
        ("dbn", "model.hidden_features=[16,8] model.gibbs_steps=5"),
        ("stacked_autoencoder", "model.hidden_features=[16,8]"),
    ],
)
def test_convolutional_networks_are_trained_alike(tmp_path, model, also):
    settings = ["steps=28", "precision=64-true", "processes=1,2,3"]
    rows = execute("processes", tmp_path, f"model={model}", f"also={also}", *settings)["rows"]
    assert len(rows) == 4


CARRIED = "data=python_docs data.fraction=0.02 data.window=16 model.hidden_size=32 model.embedding_dim=16"
TOPICS = "data=python_topics model.embedding_dim=16"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("model", "settings", "also"),
    [
        # Each process carries the states of its rows, twice 38 times; the last rows to look at are one alone.
        ("lstm", "steps=60 batch_size=10 eval_batch_size=7", CARRIED),
        ("gru", "steps=28 batch_size=10 eval_batch_size=7", f"{CARRIED} data.batching=windows"),
        ("lstm", "steps=28", f"{TOPICS} model.hidden_size=16"),  # packed, and padded by each process for itself
        ("lstm", "steps=4 batch_size=511", f"{TOPICS} model.hidden_size=16"),  # with Python 3.11 a last batch of one
        ("textcnn", "steps=28", f"{TOPICS} model.channels=16 model.dropout=0"),
        ("dlinear", "steps=28", "data=waves"),
        ("rnn", "steps=28", "data=waves model.hidden_size=16"),
        pytest.param(
            "gru", "steps=28 batch_size=10 eval_batch_size=7", "data=jsb model.hidden_size=16", marks=WITH_DATA
        ),
    ],
)
def test_networks_for_sequences_are_trained_alike(tmp_path, model, settings, also):
    """Perplexity and every other mean count tokens, steps and rows of all processes alike."""
    typed = [f"model={model}", f"also={also}", "precision=64-true", "processes=1,2,3", *settings.split()]
    found = execute("processes", tmp_path, *typed)
    assert found["holds"]
    assert len(found["rows"]) == 4


SMALL = "data.num_train=500 data.num_val=37 data.num_test=31 model.dropout=0"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("model", "settings", "also"),
    [
        ("seq2seq", "steps=28", f"data=dates {SMALL} model.hidden_size=16 model.embedding_dim=8"),
        ("transformer", "steps=28", f"data=dates {SMALL} model.d_model=16 model.d_ff=32 task.label_smoothing=0.1"),
        ("captioner", "steps=28", f"data=captions {SMALL}"),
        ("gpt", "steps=28 batch_size=10 eval_batch_size=7", "data=python_docs data.fraction=0.01 model.d_model=16"),
        ("bert", "steps=28 batch_size=10 eval_batch_size=7", "data=masked_docs data.fraction=0.01 model.dropout=0"),
        ("skipgram", "steps=28", "data=words_docs data.fraction=0.01 model.embedding_dim=16"),
        ("vit", "steps=28", "data=digits model.dropout=0"),
    ],
)
def test_networks_with_attention_are_trained_alike(tmp_path, model, settings, also):
    """Means over target tokens, BLEU and exact matches are those of one process, hidden tokens and noise the same."""
    typed = [f"model={model}", f"also={also}", "precision=64-true", "processes=1,2,3", *settings.split()]
    found = execute("processes", tmp_path, *typed)
    assert found["holds"]
    assert len(found["rows"]) == 4


DRAWN = "data.num_train=50 data.num_val=15 data.num_test=16 data.image_size=24 trainer.sync_batchnorm=true"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "also", ["data=shapes model.channels=[4,8]", "data=boxed_shapes model.channels=[4,8,8]"], ids=["masks", "boxes"]
)
def test_what_lies_in_images_is_counted_over_all_processes(tmp_path, also):
    """Pixels of each class, and boxes found, of uneven shares; batch norms see the whole batch."""
    model = "yolo" if "boxed" in also else "unet"
    settings = [
        "optimizer=sgd",
        "precision=64-true",
        "processes=1,2,3",
        "steps=4",
        "batch_size=20",
        "eval_batch_size=7",
    ]
    found = execute("processes", tmp_path, f"model={model}", f"also={also} {DRAWN}", *settings)
    assert found["holds"], found
    assert len(found["rows"]) == 2


WEIGHTS = "task.class_weights=[.001,.002,.003,.004,.005,.006,.007,.008,.009,.0005]"  # a share weighs less than 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "also",
    [WEIGHTS, f"{WEIGHTS} trainer.accumulate_grad_batches=2 task.label_smoothing=0.1", f"{WEIGHTS} task.loss=hinge"],
)
def test_classes_weigh_as_much_in_every_share(tmp_path, also):
    """The loss is a mean over weights, of which shares of equal size have unequal sums."""
    settings = ["optimizer=sgd", "precision=64-true", "steps=28", f"also={also}"]
    found = execute("processes", tmp_path, *settings)
    assert found["holds"], found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("also", ["model=dann data=shifted_digits task.method=none", "model=dann data=digits"])
def test_a_head_that_nobody_asks_stays_as_it_is(tmp_path, also):
    """Several processes wait for a gradient of each parameter; weight decay would shrink one whose gradient is 0."""
    small = ["data.fraction=0.05", "trainer.precision=64-true", "optimizer=adamw", "optimizer.weight_decay=0.1",
             "trainer.max_epochs=1", "data.batch_size=32", *also.split()]  # fmt: skip
    one, two = (processes.train(tmp_path / str(number), number, *small) for number in (1, 2))
    row = processes.compare(one, two)
    assert all(row[name] < 1e-9 for name in processes.FIGURES), row


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_line_search_goes_the_same_way_in_every_process(tmp_path):
    """It compares losses: those of the whole batch, not of the shares. In float64 30 iterations differ by rounding."""
    settings = ["model=mlp", "data=iris", "optimizer=lbfgs", "data.batch_size=full", "trainer.max_epochs=30",
                "trainer.precision=64-true"]  # fmt: skip
    one, two = (processes.train(tmp_path / str(number), number, *settings) for number in (1, 2))
    losses = [[step["loss"] for step in run["steps"]] for run in (one, two)]
    assert processes.apart(*(found[:5] for found in losses)) < 1e-6
    assert losses[1][-1] == pytest.approx(losses[0][-1], abs=0.01)


@pytest.mark.slow
def test_some_processes_may_have_no_sample_to_validate(tmp_path):
    """Of three rows one has two and the other one, of which no variance can be told: all must ask the same."""
    rows = [f"{i},{i * i % 7},{i * 0.5 + i % 3}" for i in range(20)]
    (tmp_path / "small.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    settings = ["model=mlp", "data=csv", f"data.path={tmp_path / 'small.csv'}", "data.target=y", "trainer.max_epochs=1",
                "trainer.precision=64-true"]  # fmt: skip
    one, three = (processes.train(tmp_path / str(number), number, *settings) for number in (1, 3))
    row = processes.compare(one, three)
    assert all(row[name] < 1e-9 for name in processes.FIGURES), row
    assert "val/r2" in one["val"][0]


@pytest.mark.slow
def test_an_episode_to_validate_is_that_of_a_whole_batch(tmp_path):
    settings = ["model=mlp", "data=digits", "task=prototypical", "data.eval_batch_size=67", "optimizer.lr=0",
                "trainer.max_epochs=1", "trainer.precision=64-true"]  # fmt: skip
    one, three = (processes.train(tmp_path / str(number), number, *settings) for number in (1, 3))
    row = processes.compare(one, three)
    assert max(row["validation"], row["test"]) < 1e-9, row
    assert 0.3 < one["test"][0]["test/accuracy"] < 1


def test_what_a_sample_is_does_not_depend_on_its_padding():
    """The drivers compare samples of batches that are padded to different lengths."""
    short = TextBatch(torch.tensor([[3, 4]]), torch.ones(1, 2, dtype=torch.bool), torch.tensor([1]))
    padded = TextBatch(torch.tensor([[3, 4, 0]]), torch.tensor([[True, True, False]]), torch.tensor([1]))
    other = TextBatch(torch.tensor([[3, 4, 0]]), torch.ones(1, 3, dtype=torch.bool), torch.tensor([1]))
    assert processes.samples_of(short) == processes.samples_of(padded) != processes.samples_of(other)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "arguments",
    [
        "optimizer=adamw precision=64-true steps=28 also=data=diabetes",  # mse, mae and r2 of uneven shares
        "optimizer=sgd precision=64-true steps=8 batch_size=419",  # a last batch of one sample
        "model=lenet5 optimizer=sgd precision=64-true steps=28 augment=shift",
        "dropout=0.3 optimizer=adamw precision=32-true steps=28 processes=2,3",  # the same bits twice
    ],
)
def test_uneven_shares_augmentation_and_dropout(tmp_path, arguments):
    found = execute("processes", tmp_path, *arguments.split())
    assert found["holds"]
    assert all(row["same_samples"] and row["same_counts"] for row in found["rows"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", [2, 3])
def test_ten_of_ten_lost_processes_cost_nothing(tmp_path, number):
    found = execute("lost_rank", tmp_path, f"processes={number}")
    assert (found["restart"], found["stop"]) == ("10 of 10", "10 of 10")


def test_the_drivers_say_how_they_are_called():
    for module in (processes, lost_rank):
        name = Path(module.__file__).name
        assert re.search(rf"^python tests/drivers/{name} ", module.__doc__, re.MULTILINE)
