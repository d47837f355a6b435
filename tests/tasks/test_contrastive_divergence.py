"""Boltzmann machines as they are trained: what a step does, what is measured of it, and whole runs."""

import json
import math
import signal
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from zoo.batches import ImageBatch
from zoo.build import build
from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.callbacks.curves import iterations_done
from zoo.checkpoint import load_model, read
from zoo.data.bars import BarsAndStripes
from zoo.errors import UserError
from zoo.losses.boltzmann import contrast
from zoo.metrics.partition import log_partition
from zoo.models.dbn import DBN
from zoo.models.rbm import RBM
from zoo.run import configure, run
from zoo.running.signals import LISTENER
from zoo.tasks.contrastive_divergence import ContrastiveDivergence

SGD = partial(torch.optim.SGD, lr=0.1)


def rbm_task(num_hidden=6, side=3, **options):
    torch.manual_seed(0)
    model = RBM(in_features=side * side, image_shape=[1, side, side], hidden_features=num_hidden)
    return ContrastiveDivergence(model.double(), SGD, **options).double()


def batch_of(data, rows=slice(None)):
    part = data.part("val")
    batch = part[torch.arange(len(part))[rows]]
    return ImageBatch(batch.image.double(), batch.label)


def attached(task, rank=0, world_size=1, batch_size=14, number=0, epoch=0):
    data = SimpleNamespace(train_batch_size=batch_size, eval_batch_size=batch_size)
    task.trainer = SimpleNamespace(
        global_rank=rank, world_size=world_size, datamodule=data, current_epoch=epoch, max_epochs=2
    )
    task.batch_at_hand = ("train", number)
    return task


# ---- a step


@pytest.mark.parametrize("k", [1, 3])
def test_a_step_is_contrastive_divergence_without_backpropagation(k):
    """The gradients are those of a chain that is written out here, with the noise of that place."""
    task, batch = attached(rbm_task(k=k, seed=5), number=3), batch_of(BarsAndStripes(image_size=3))
    task.losses(batch)["loss"].backward()
    (layer,), v = task.layers, batch.image.flatten(1)
    with torch.no_grad():
        h = (task.draw("hidden", 6, v) < layer(v)).double()
        sample = (task.draw("visible", 9, v) < layer.visible_means(h)).double()
        for step in range(k - 1):
            h = (task.draw(f"hidden {step}", 6, v) < layer(sample)).double()
            sample = (task.draw(f"visible {step}", 9, v) < layer.visible_means(h)).double()
        wanted = contrast(v, layer(v), sample, layer(sample))
    for name, gradient in wanted._asdict().items():
        torch.testing.assert_close(getattr(layer, name).grad, gradient, rtol=0, atol=1e-12)
    again = attached(rbm_task(k=k, seed=5), number=4)
    again.losses(batch)["loss"].backward()
    assert not torch.equal(again.layers[0].weight.grad, layer.weight.grad), "another batch has other noise"


@pytest.mark.parametrize("persistent", [False, True])
def test_two_processes_make_the_step_of_one(persistent):
    """Each moves its own rows of the chains; all then know all of them."""
    data = BarsAndStripes(image_size=3)
    alone = attached(rbm_task(persistent=persistent, chains=7))
    tasks = [attached(rbm_task(persistent=persistent, chains=7), rank, 2) for rank in (0, 1)]
    summed, waiting = [], []
    for number in range(3):
        for task in (alone, *tasks):
            task.zero_grad()
            task.batch_at_hand = ("train", number)
        alone.losses(batch_of(data))["loss"].backward()
        waiting = []
        if persistent:  # what each would send, and then what all of them get
            for task in tasks:
                before = task.chains_0.clone()
                task.add_up = lambda chains, sent=waiting: sent.append(chains.clone())
                task.chains(task.layers[0])
                task.chains_0.copy_(before)
            summed = waiting[0] + waiting[1]
        for rank, task in enumerate(tasks):
            task.add_up = lambda chains, total=summed: chains.copy_(total)
            (task.losses(batch_of(data, slice(rank, None, 2)))["loss"] * 0.5).backward()  # 7 rows each
        gradients = [[p.grad for p in task.model.parameters()] for task in (alone, *tasks)]
        for whole, one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one + other, whole, rtol=0, atol=1e-12)
        for task in tasks if persistent else ():
            assert torch.equal(task.chains_0, alone.chains_0)
            assert 0 < task.chains_0.mean() < 1


def test_persistent_chains_go_on_and_are_saved_and_evaluation_leaves_them():
    task, batch = attached(rbm_task(persistent=True, chains=5)), batch_of(BarsAndStripes(image_size=3))
    start = task.chains_0.clone()
    task.losses(batch)["loss"].backward()
    moved = task.chains_0.clone()
    assert not torch.equal(start, moved)
    assert torch.equal(task.state_dict()["chains_0"], moved)
    with torch.no_grad():
        task.eval().losses(batch)
    assert torch.equal(task.chains_0, moved)
    assert not [name for name in rbm_task().state_dict() if "chains" in name]


def test_drawn_pixels_are_binary_and_as_likely_as_they_are_light():
    task, x = attached(rbm_task(binarize=True), batch_size=4000), torch.full((4000, 1, 3, 3), 0.3).double()
    drawn = task.pixels(x)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert drawn.mean().item() == pytest.approx(0.3, abs=0.01)
    assert torch.equal(rbm_task().pixels(x), x)


def test_only_the_layer_whose_turn_it_is_learns():
    torch.manual_seed(0)
    model = DBN(in_features=9, image_shape=[1, 3, 3], hidden_features=[5, 4]).double()
    task, batch = ContrastiveDivergence(model, SGD, persistent=True).double(), batch_of(BarsAndStripes(image_size=3))
    for epoch, world_size in ((0, 1), (1, 1), (1, 2)):
        attached(task, epoch=epoch, world_size=world_size, batch_size=28)
        task.add_up = lambda chains: None
        model.zero_grad()
        task.losses(batch)["loss"].backward()
        if world_size == 2:
            assert all(p.grad is not None for p in model.parameters()), "what averages gradients waits for all"
        task.on_after_backward()
        have = [name for name, p in model.named_parameters() if p.grad is not None]
        assert have == [f"layers.{epoch}.{name}" for name in ("weight", "visible_bias", "hidden_bias")]


# ---- what is measured


def test_likelihoods_are_exact_and_of_binary_pixels():
    task, data = attached(rbm_task()), BarsAndStripes(image_size=3)
    nn.init.normal_(task.layers[0].weight)
    batch = batch_of(data)
    grey = ImageBatch(0.8 * batch.image + 0.1, batch.label)
    with torch.no_grad():
        first, second = task.eval().losses(batch), task.losses(grey)
        assert first["free_energy"] == second["free_energy"]
        assert first["pseudo_likelihood"] == second["pseudo_likelihood"], "exact, so it draws nothing"
        assert first["loss"] != second["loss"]
        task.means["test"].add(first, 14)
        task.batch_at_hand = ("test", 0)
        found = task.whole_set_metrics("test")["log_likelihood"]
    wanted = (-task.layers[0].free_energy(batch.image.flatten(1)) - log_partition(task.layers[0])).mean()
    assert found == pytest.approx(wanted.item())


def test_persistent_chains_bring_the_likelihood_within_half_a_nat_of_the_greatest_there_is():
    """Bars and stripes of 3x3 pixels: 14 patterns, so nothing exceeds -ln 14."""
    data, task = BarsAndStripes(image_size=3), rbm_task(num_hidden=16, persistent=True, chains=50, k=3)
    batch, optimizer = batch_of(data), torch.optim.SGD(task.model.parameters(), lr=0.5)
    for step in range(1200):
        optimizer.param_groups[0]["lr"] = 0.5 * (1 - step / 1200)
        attached(task, number=step)
        optimizer.zero_grad()
        task.losses(batch)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        found = (-task.layers[0].free_energy(batch.image.flatten(1)) - log_partition(task.layers[0])).mean().item()
    assert -math.log(14) - 0.5 < found < -math.log(14)


# ---- refusals


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("model=rbm data.normalize=true", "is for values from 0 to 1, .* use data.normalize=false"),
        ("model=rbm data=iris model.visible=bernoulli", "or model.visible=gaussian"),
        ("model=rbm data=iris task.binarize=true", "leave it out for model.visible=gaussian"),
        ("model=rbm data=diabetes task.probe=true", "is for data with one class a sample"),
        ("model=rbm data=captions", "are for images and tables alone; use data=digits"),
        ("model=rbm data=waves", "model=rbm needs data.num_features or data.image_shape"),
        ("model=rbm task=classification", "returns .128,. values a sample, and task=classification needs"),
        ("model=dbn task.ais_runs=10", "use it with model=rbm"),
        ("model=dbn model.num_outputs=10", "leave model.num_outputs out"),
        ("model=dbn trainer.max_epochs=-1 trainer.max_steps=5", "give task.epochs_per_layer"),
        ("model=rbm task.pseudo_likelihood=exakt", "did you mean 'exact'"),
        ("model=rbm task.k=0", "task.k=0 must be a whole number from 1 on"),
        ("model=stacked_autoencoder task.corruption=[0.5,1.0]", "needs numbers from 0 on and below 1"),
    ],
)
def test_what_cannot_work_is_one_line(typed, told, tmp_path):
    with pytest.raises(UserError, match=told) as error:
        # Whether a run has a last epoch is known to its trainer.
        build(configure(*typed.split(), "logger=none", run_dir=tmp_path / "run")).fit()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2)])})])
def test_a_network_without_machines_is_refused(model):
    with pytest.raises(UserError, match="use model=rbm, model=dbn or model=stacked_autoencoder"):
        ContrastiveDivergence(model, SGD)


# ---- whole runs

TINY = ("data.fraction=0.2", "trainer.max_epochs=2", "logger=none", "callbacks.progress=null", "data.batch_size=32")


def go(*typed, run_dir):
    assert run(configure(*typed, run_dir=run_dir)) == 0
    return json.loads((run_dir / "metrics.json").read_text())


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack") / "run"
    go("model=dbn", "model.hidden_features=[16,12]", "task.persistent=true", "task.chains=9", *TINY, run_dir=folder)
    return folder


def test_a_stopped_run_goes_on_with_the_bits_of_its_chains(stack, tmp_path):
    """Stopped in the second layer: weights of both, chains of both and momentum come out equal."""
    real = RunCheckpoint.on_train_batch_start

    def hear(self, trainer, *arguments):
        if iterations_done(trainer) == 11:
            LISTENER.asked = signal.SIGTERM
        real(self, trainer, *arguments)

    typed = ["model=dbn", "model.hidden_features=[16,12]", "task.persistent=true", "task.chains=9", *TINY]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_start", hear)
        assert run(configure(*typed, run_dir=tmp_path / "half")) == 75
    assert run(configure(f"resume={tmp_path}/half")) == 0
    whole, half = (read(folder / "checkpoints" / "last.ckpt") for folder in (stack, tmp_path / "half"))
    names = set(whole["state_dict"])
    assert {"chains_0", "chains_1", "model.layers.1.weight"} <= names
    assert all(torch.equal(whole["state_dict"][name], half["state_dict"][name]) for name in names)


def test_the_best_epoch_is_one_of_the_last_layer(stack):
    found = json.loads((stack / "metrics.json").read_text())
    assert (found["monitor"], found["best_epoch"], found["val/layer"]) == ("val/layer", 2, 2.0)


def test_a_stack_becomes_a_classifier_with_a_new_head(stack, tmp_path, capsys):
    typed = ["model=dbn", "model.hidden_features=[16,12]", "task=classification", f"pretrained={stack}", *TINY]
    built = build(configure(*typed, run_dir=tmp_path / "built"))
    said = "\n".join(built.notes)
    assert "6 loaded, 0 adapted, 2 newly initialized, 0 skipped tensors" in said
    assert "newly initialized: classify.weight, classify.bias" in said
    x, before = torch.rand(3, 1, 8, 8), load_model(stack)
    assert torch.equal(built.task.model.up(x), before(x))
    found = go(*typed, "optimizer=adam", "optimizer.lr=0.01", run_dir=tmp_path / "run")
    assert 0 <= found["test/accuracy"] <= 1
    after = load_model(tmp_path / "run")
    assert after(x).shape == (3, 10)
    assert not torch.equal(after.layers[0].weight, before.layers[0].weight)
    assert torch.equal(after.layers[0].visible_bias, before.layers[0].visible_bias)


def test_a_run_tells_likelihoods_a_probe_and_how_sure_it_is(tmp_path):
    typed = ["model=rbm", "model.hidden_features=16", "task.ais_runs=40", "task.ais_steps=200", "task.probe=true"]
    found = go(*typed, *TINY, run_dir=tmp_path / "run")
    sure = found["log_partition_high"] - found["log_partition_low"]
    assert found["test/log_likelihood_ais"] == pytest.approx(found["test/log_likelihood"], abs=max(0.05, 2 * sure))
    assert 0.1 < found["test/probe_accuracy_raw"] <= 1
    assert 0.1 < found["test/probe_accuracy"] <= 1
    assert abs(found["val/free_energy_gap"]) < 20


@pytest.mark.parametrize("model", ["rbm", "dbn", "stacked_autoencoder"])
def test_mixed_precision_trains_too(model, tmp_path):
    sizes = "model.hidden_features=8" if model == "rbm" else "model.hidden_features=[8,6]"
    typed = [f"model={model}", sizes, "trainer.precision=bf16-mixed", "trainer.max_epochs=2", "logger=none"]
    limits = ["trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "test=false"]
    built = build(configure(*typed, *limits, "trainer.accelerator=cpu", run_dir=tmp_path))
    before = [p.detach().clone() for p in built.task.model.parameters()]
    built.fit()
    moved = [not torch.equal(p, old) for p, old in zip(built.task.model.parameters(), before, strict=True)]
    assert all(moved)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in built.task.model.parameters())


def test_pictures_of_images_and_of_tables(tmp_path):
    task = attached(rbm_task(persistent=True))
    shown = task.eval().show(batch_of(BarsAndStripes(image_size=3)))
    assert set(shown) == {"filters", "fantasies", "reconstructions", "hidden_activity"}
    assert all(shown[name].min() >= 0 and shown[name].max() <= 1 for name in shown if name != "hidden_activity")
    again = task.show(batch_of(BarsAndStripes(image_size=3)))
    assert torch.equal(shown["fantasies"], again["fantasies"])
    model = RBM(in_features=4, hidden_features=3)
    table = attached(ContrastiveDivergence(model, SGD))
    assert list(table.eval().show(SimpleNamespace(inputs=(torch.rand(5, 4),)))) == [
        "hidden_activity",
        "reconstructions",
    ]
