"""One run from configuration to files: what it writes, and that it says the truth."""

import itertools
import json

import pytest
import torch
from lightning.pytorch import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.build import build
from zoo.callbacks.curves import clipped_share, iterations_done
from zoo.callbacks.tags import TAGS
from zoo.checkpoint import load_model, read
from zoo.run import configure, run

DIGITS = ("trainer.max_epochs=4", "trainer.log_every_n_steps=3")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "it's a run (1)"
    assert run(configure(*DIGITS, run_dir=folder)) == 0
    return folder


class Break(Callback):
    """Ends a run the hard way."""

    lean = True

    def __init__(self, after):
        self.after = after

    def on_train_batch_end(self, trainer, *arguments):
        if iterations_done(trainer) == self.after:
            raise RuntimeError("the power is gone")


def events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def points(accumulator, tag):
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def test_the_run_folder_holds_exactly_what_is_promised(finished):
    names = sorted(path.name for path in finished.iterdir())
    assert [name for name in names if "tfevents" not in name] == [
        "checkpoints",
        "config.yaml",
        "metrics.json",
        "projector",
        "projector_config.pbtxt",
    ]
    assert len(names) == 6, "one event file for fit and test together"
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_metrics_json_has_every_fixed_name(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    fixed = "train/loss val/loss test/loss epoch iteration samples_seen seconds world_size num_threads"
    assert {*fixed.split(), "resumed_from_iteration", "status", "test/accuracy", "test/f1"} <= set(metrics)
    assert (metrics["status"], metrics["epoch"], metrics["iteration"]) == ("finished", 4, 80)
    assert metrics["samples_seen"] == 4 * 1258
    assert metrics["world_size"] == 1


def test_what_callbacks_and_the_task_have_found_is_among_the_metrics(tmp_path):
    """As how BLEU was computed, which the task of translation says."""
    built = build(configure("logger=none", run_dir=tmp_path))
    for one, name in ((built.trainer.callbacks[0], "callback"), (built.task, "task")):
        one.findings = lambda name=name: {f"{name}_signature": f"of the {name}"}
    found = {name: text for name, text in built.metrics("finished").items() if name.endswith("_signature")}
    assert found == {"callback_signature": "of the callback", "task_signature": "of the task"}


def test_a_checkpoint_loads_safely_and_says_what_it_is(finished):
    checkpoint = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    promised = {"state_dict", "config", "format_version", "zoo", "classes", "preprocessing", "data_fingerprint"}
    assert promised <= set(checkpoint)
    assert checkpoint["config"]["model"]["in_features"] == 64
    assert checkpoint["classes"] == [str(digit) for digit in range(10)]
    assert checkpoint["zoo"]["torch"] == str(torch.__version__)


def test_load_model_gives_the_network_that_was_tested(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    cfg = configure(*DIGITS, run_dir=finished)
    data = build(cfg).data
    batch = data.part("test")[torch.arange(len(data.part("test")))]
    model = load_model(finished)
    assert not model.training
    right = (model(*batch.inputs).argmax(1) == batch.targets).float().mean()
    assert right.item() == pytest.approx(metrics["test/accuracy"], abs=1e-7)


def test_the_best_checkpoint_is_the_best_epoch(finished):
    accuracy = dict(points(events(finished), "by_epoch/val/accuracy"))
    loss = dict(points(events(finished), "by_epoch/val/loss"))
    best = max(accuracy, key=lambda epoch: (accuracy[epoch], -loss[epoch]))
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["best_epoch"] == best
    assert read(finished)["metrics"]["val/accuracy"] == pytest.approx(accuracy[best], abs=1e-6)
    assert metrics["val/accuracy"] == pytest.approx(accuracy[best], abs=1e-6)
    assert metrics["train/loss"] == pytest.approx(dict(points(events(finished), "by_epoch/train/loss"))[best], abs=1e-6)


def test_every_chart_is_explained(finished):
    tags = events(finished).Tags()
    names = tags["scalars"] + tags["images"] + [tag.removesuffix("/text_summary") for tag in tags["tensors"]]
    for name in names:
        parts = name.rsplit("/", 1)
        known = {name, *(f"{parts[0]}/<{each}>" for each in ("metric", "layer", "class"))} & set(TAGS)
        assert known or name.startswith("custom_scalars"), name


@pytest.mark.usefixtures("no_pictures")
def test_losses_are_written_when_an_epoch_is_shorter_than_the_interval(tmp_path):
    run(configure("trainer.max_epochs=3", "data.batch_size=500", "trainer.log_every_n_steps=4", run_dir=tmp_path))
    assert [step for step, _ in points(events(tmp_path), "train/loss")] == [4, 8]  # 3 iterations an epoch


@pytest.mark.usefixtures("no_pictures")
def test_5000_samples_in_batches_of_100_for_5_epochs_make_250_iterations(tmp_path):
    """The arithmetic of epoch, iteration and batch, read back from the event file."""
    arguments = ["data=xor", "data.num_samples=7142", "data.batch_size=100", "trainer.max_epochs=5"]
    run(configure(*arguments, "trainer.log_every_n_steps=1", run_dir=tmp_path))
    board = events(tmp_path)
    assert [step for step, _ in points(board, "train/loss")] == list(range(1, 251))
    assert [step for step, _ in points(board, "by_epoch/train/loss")] == [1, 2, 3, 4, 5]
    assert dict(points(board, "by_epoch/progress/iteration"))[1] == 50
    epoch_one = [step for step, value in points(board, "progress/epoch") if value == 1]
    assert epoch_one == [50]
    assert dict(points(board, "progress/iteration"))[50] == 50
    assert dict(points(board, "progress/samples_seen"))[50] == 5000
    assert json.loads((tmp_path / "metrics.json").read_text())["iteration"] == 250


def test_the_gap_is_validation_less_training_loss(finished):
    board = events(finished)
    train, val = dict(points(board, "by_epoch/train/loss")), dict(points(board, "by_epoch/val/loss"))
    for epoch, gap in points(board, "by_epoch/gap/loss"):
        assert gap == pytest.approx(val[epoch] - train[epoch], abs=1e-6)


@pytest.mark.usefixtures("no_pictures")
def test_the_learning_rate_is_the_one_that_was_used(tmp_path):
    arguments = ["optimizer=sgd", "optimizer.lr=0.1", "scheduler=step", "scheduler.step_size=1", "scheduler.gamma=0.5"]
    run(configure(*arguments, "trainer.max_epochs=2", "trainer.log_every_n_steps=1", run_dir=tmp_path))
    rates = dict(points(events(tmp_path), "optim/lr"))
    assert rates[1] == rates[20] == pytest.approx(0.1)
    assert rates[21] == rates[40] == pytest.approx(0.05)


@pytest.mark.usefixtures("no_pictures")
def test_norms_are_those_of_the_step_just_taken(tmp_path):
    arguments = ["optimizer=sgd", "optimizer.lr=0.1", "trainer.max_epochs=1", "trainer.log_every_n_steps=1"]
    run(configure(*arguments, run_dir=tmp_path))
    board = events(tmp_path)
    gradient, update = dict(points(board, "norms/gradient")), dict(points(board, "norms/update"))
    for step, length in update.items():
        assert length == pytest.approx(0.1 * gradient[step], rel=1e-4)  # plain gradient descent


def test_hparams_hold_the_real_final_metrics(finished):
    from tensorboard.plugins.hparams import plugin_data_pb2

    board = events(finished)
    found = board.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(found).session_start_info
    assert start.hparams["optimizer.lr"].number_value == pytest.approx(0.001)
    assert start.hparams["model"].string_value == "mlp"
    declared = board.SummaryMetadata("_hparams_/experiment").plugin_data.content
    names = {info.name.tag for info in plugin_data_pb2.HParamsPluginData.FromString(declared).experiment.metric_infos}
    assert "test/accuracy" in names
    assert "hp_metric" not in names | set(board.Tags()["scalars"])


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tmp_path):
    states = []
    for i, seed in enumerate((1, 1, 2)):
        run(
            configure(
                "trainer.max_epochs=2", "model.dropout=0.2", "logger=none", f"seed={seed}", run_dir=tmp_path / str(i)
            )
        )
        states.append(load_model(tmp_path / str(i)).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(states[0].values(), states[2].values(), strict=True))


def test_csv_and_no_logger(tmp_path):
    run(configure(*DIGITS, "logger=csv", run_dir=tmp_path / "csv"))
    assert "train/loss" in (tmp_path / "csv" / "metrics.csv").read_text().splitlines()[0]
    run(configure(*DIGITS, "logger=none", run_dir=tmp_path / "none"))
    assert not list((tmp_path / "none").glob("*tfevents*"))


def test_compile_leaves_checkpoint_keys_plain(tmp_path, monkeypatch):
    # Compiling for real takes half a minute; the wrapping, which is what changes keys, happens before.
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, *a, **k: compiled.append(self))
    run(configure("compile=true", "debug=fast", "logger=none", run_dir=tmp_path))
    assert len(compiled) == 1
    assert all("_orig_mod" not in name for name in read(tmp_path)["state_dict"])


def test_full_batch_gradient_descent_takes_one_step_an_epoch(tmp_path):
    run(configure("data.batch_size=full", "trainer.max_epochs=3", "logger=none", run_dir=tmp_path))
    assert json.loads((tmp_path / "metrics.json").read_text())["iteration"] == 3


def test_four_times_the_batch_halves_the_noise_of_its_gradient(tmp_path):
    """At fixed weights, which start the same: the mean distance of a batch's gradient from that of all samples."""

    def gradients(size, number):
        built = build(configure(f"data.batch_size={size}", "logger=none", run_dir=tmp_path))
        for batch in itertools.islice(built.data.train_dataloader(), number):
            loss = built.task.losses(batch)["loss"]
            yield torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(built.task.model.parameters()))])

    (whole,) = gradients("full", 1)
    noise = {size: sum((g - whole).norm().item() for g in gradients(size, 60)) / 60 for size in (1, 4, 16)}
    assert noise[1] / noise[4] == pytest.approx(2, rel=0.15)
    assert noise[4] / noise[16] == pytest.approx(2, rel=0.15)


def test_early_stopping_ends_the_run_and_ema_weights_are_what_is_kept(tmp_path):
    arguments = ["callbacks.early_stopping.patience=2", "callbacks.ema.decay=0.9", "optimizer.lr=0.02"]
    run(configure(*arguments, "trainer.max_epochs=60", "logger=none", run_dir=tmp_path))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["epoch"] < 60
    last = read(tmp_path / "checkpoints" / "last.ckpt")
    averaged, raw = last["state_dict"]["model.output.weight"], last["current_model_state"]["model.output.weight"]
    assert not torch.equal(averaged, raw)


def test_debug_overfit_drives_the_loss_of_one_batch_to_zero(tmp_path):
    run(configure("debug=overfit", "logger=none", run_dir=tmp_path))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["train/loss"] < 0.02
    assert metrics["test/accuracy"] == 1.0


def test_fine_tuning_the_head_moves_nothing_else(tmp_path):
    run(configure(*DIGITS, "model.normalization=BatchNorm1d", "logger=none", run_dir=tmp_path / "source"))
    pretrained = [
        f"pretrained={tmp_path / 'source'}",
        "finetune=head",
        "model.normalization=BatchNorm1d",
        "logger=none",
    ]
    run(configure(*DIGITS, *pretrained, "seed=1", run_dir=tmp_path / "target"))
    source = load_model(tmp_path / "source").state_dict()
    target = load_model(tmp_path / "target").state_dict()
    moved = [name for name in source if not torch.equal(source[name], target[name])]
    assert moved == ["output.weight", "output.bias"], "frozen batch norm keeps its statistics, too"


def test_pretrained_says_what_was_loaded_and_what_is_new(tmp_path, caplog):
    run(configure(*DIGITS, "data.image_size=16", "logger=none", run_dir=tmp_path / "source"))
    with caplog.at_level("INFO"):
        arguments = ["data.image_size=16", "logger=none"]
        run(configure("debug=fast", *arguments, f"pretrained={tmp_path / 'source'}", run_dir=tmp_path / "target"))
    assert "4 loaded, 0 adapted, 0 newly initialized, 0 skipped tensors" in caplog.text


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path):
    common = ["model.dropout=0.3", "checkpoint_every=10", "scheduler=cosine", "data.batch_size=100", "logger=none"]
    run(configure(*common, "trainer.max_epochs=4", run_dir=tmp_path / "whole"))
    cut = build(configure(*common, "trainer.max_epochs=4", run_dir=tmp_path / "cut"))
    cut.trainer.callbacks.append(Break(after=33))  # inside the third epoch, three iterations past a checkpoint
    with pytest.raises(RuntimeError, match="the power is gone"):
        cut.fit()
    run(configure(*common, "trainer.max_epochs=4", f"resume={tmp_path / 'cut'}", run_dir=tmp_path / "rest"))
    metrics = json.loads((tmp_path / "rest" / "metrics.json").read_text())
    assert (metrics["resumed_from_iteration"], metrics["iteration"]) == (30, 52)
    whole, rest = (read(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"] for name in ("whole", "rest"))
    assert all(torch.equal(whole[name], rest[name]) for name in whole)


@pytest.mark.slow
def test_a_compiled_model_learns_and_its_checkpoint_has_plain_keys(tmp_path):
    run(configure("compile=true", "trainer.max_epochs=3", "logger=none", run_dir=tmp_path))
    assert json.loads((tmp_path / "metrics.json").read_text())["test/accuracy"] > 0.7
    assert set(load_model(tmp_path).state_dict()) == {
        name.removeprefix("model.") for name in read(tmp_path)["state_dict"]
    }


def test_the_tested_weights_are_the_averaged_ones(tmp_path):
    """With EMA the numbers of the run are those of the network that load_model gives, not of the raw weights."""
    run(configure("callbacks.ema.decay=0.98", "trainer.max_epochs=3", "logger=none", run_dir=tmp_path))
    data = build(configure("logger=none", run_dir=tmp_path)).data
    batch = data.part("test")[torch.arange(len(data.part("test")))]
    loss = torch.nn.functional.cross_entropy(load_model(tmp_path)(*batch.inputs), batch.targets)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert loss.item() == pytest.approx(metrics["test/loss"], abs=1e-5)
    best = read(tmp_path)
    raw = {name.removeprefix("model."): value for name, value in best["current_model_state"].items()}
    model = load_model(tmp_path)
    model.load_state_dict({name: raw[name] for name in model.state_dict()})
    other = torch.nn.functional.cross_entropy(model(*batch.inputs), batch.targets)
    assert abs(other.item() - metrics["test/loss"]) > 1e-3


@pytest.mark.usefixtures("no_pictures")
def test_the_share_that_is_clipped_is_of_gradients_before_clipping(tmp_path):
    arguments = ["optimizer=sgd", "optimizer.lr=0.1", "trainer.max_epochs=2", "trainer.log_every_n_steps=1"]
    run(configure(*arguments, "trainer.gradient_clip_val=2", run_dir=tmp_path))
    board = events(tmp_path)
    curves = ("norms/gradient", "norms/update", "norms/clipped_share")
    rows = list(zip(*([value for _, value in points(board, tag)] for tag in curves), strict=True))
    clipped = [gradient > 2 for gradient, _, _ in rows]
    assert 0 < sum(clipped) < len(rows) == 40
    for (gradient, update, share), is_long in zip(rows, clipped, strict=True):
        assert share == float(is_long)
        assert update == pytest.approx(0.1 * min(gradient, 2), rel=1e-4)
    gradients = [torch.tensor([3.0, -4.0]), torch.tensor([[0.5, -2.0]])]
    assert clipped_share(gradients, 5.4, 2.0, "value") == 0.5
    assert [clipped_share(gradients, 5.4, limit, "norm") for limit in (5.0, 6.0)] == [1.0, 0.0]
