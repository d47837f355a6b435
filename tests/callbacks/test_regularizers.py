"""L1 makes exact zeros, both kinds of L2 are what they are said to be, max-norm bounds hidden units, in any loop."""

import copy
import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional as F

from zoo import optim
from zoo.build import build
from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.callbacks.curves import iterations_done
from zoo.callbacks.regularizers import Regularizers, zero_share
from zoo.checkpoint import read
from zoo.errors import UserError
from zoo.layers.weights import linear_maps
from zoo.models.mlp import MLP
from zoo.run import configure, run
from zoo.running.signals import LISTENER

DRIVERS = Path(__file__).parent.parent / "drivers"
SMALL = ("data=digits", "model.hidden_features=[16]", "callbacks.progress=null", "trainer.max_epochs=3")
SILENT = (*SMALL, "logger=none", "test=false")
SGD, ADAM, ADAMW = (getattr(torch.optim, name) for name in ("SGD", "Adam", "AdamW"))


def fitted(folder, *overrides):
    built = build(configure(*SILENT, *overrides, run_dir=folder))
    built.fit()
    return built


def trained(optimizer, regularizer=None, steps: int = 8) -> MLP:
    """A small network after some steps of an optimizer (partial), with a regularizer around each of them."""
    torch.manual_seed(0)
    model = MLP(in_features=6, out_features=3, hidden_features=[8], normalization="LayerNorm").double()
    x, y = torch.randn(40, 6, dtype=torch.float64), torch.randint(3, (40,))
    built = optim.build_optimizer(optimizer, model)
    trainer, module = SimpleNamespace(optimizers=[built]), SimpleNamespace(model=model)
    regularizer = regularizer or Regularizers()
    regularizer.on_train_start(trainer, module)
    for _ in range(steps):
        built.zero_grad()
        F.cross_entropy(model(x), y).backward()
        regularizer.on_before_optimizer_step(trainer, module, built)
        built.step()
    return model


def apart(one: nn.Module, other: nn.Module) -> float:
    return max((a - b).abs().max().item() for a, b in zip(one.parameters(), other.parameters(), strict=True))


# L2


@pytest.mark.parametrize("optimizer", [partial(SGD, lr=0.1), partial(SGD, lr=0.1, momentum=0.9), partial(ADAM, lr=0.1)])
def test_coupled_l2_is_the_weight_decay_of_sgd_and_adam(optimizer):
    decayed = trained(partial(optimizer, weight_decay=0.3))
    assert apart(trained(optimizer, Regularizers(l2=0.3, l2_kind="coupled")), decayed) < 1e-12
    assert apart(trained(optimizer), decayed) > 0.01


def test_decoupled_l2_is_the_weight_decay_of_adamw():
    decayed = trained(partial(ADAMW, lr=0.1, weight_decay=0.3))
    assert apart(trained(partial(ADAM, lr=0.1), Regularizers(l2=0.3)), decayed) < 1e-12


def test_both_kinds_of_l2_are_one_with_plain_sgd_and_two_with_adam():
    for optimizer, alike in ((partial(SGD, lr=0.1), True), (partial(ADAM, lr=0.1), False)):
        coupled, decoupled = (trained(optimizer, Regularizers(l2=0.3, l2_kind=k)) for k in ("coupled", "decoupled"))
        assert (apart(coupled, decoupled) < 1e-12) == alike
    assert apart(coupled, decoupled) > 0.1


@pytest.mark.parametrize("regularizer", [
    Regularizers(l1=0.5), Regularizers(l1=0.5, l1_kind="subgradient"), Regularizers(l2=0.5),
    Regularizers(l2=0.5, l2_kind="coupled"), Regularizers(max_norm=0.2),
], ids=["l1", "l1 subgradient", "l2", "l2 coupled", "max_norm"])  # fmt: skip
def test_a_step_without_gradient_shrinks_weights_and_leaves_biases_and_norms(regularizer):
    torch.manual_seed(0)
    model = MLP(in_features=6, out_features=3, hidden_features=[8], normalization="LayerNorm")
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    optimizer = SGD(model.parameters(), lr=0.1)
    trainer, module = SimpleNamespace(optimizers=[optimizer]), SimpleNamespace(model=model)
    regularizer.on_train_start(trainer, module)
    regularizer.on_before_optimizer_step(trainer, module, optimizer)
    optimizer.step()
    after = 0.2 / 6**0.5 if regularizer.max_norm else 0.95  # 1 - lr 0.5
    for name, parameter in model.named_parameters():
        shrinks = parameter.ndim == 2 and not (regularizer.max_norm and name.startswith("output"))
        torch.testing.assert_close(parameter.data, torch.full_like(parameter, after if shrinks else 1.0))


def test_what_got_no_gradient_is_passed_over():
    model = nn.Linear(3, 2)
    before = copy.deepcopy(model)
    optimizer = SGD(model.parameters(), lr=0.1)
    for regularizer in (Regularizers(l1=1.0), Regularizers(l2=1.0), Regularizers(l2=1.0, l2_kind="coupled")):
        trainer, module = SimpleNamespace(optimizers=[optimizer]), SimpleNamespace(model=model)
        regularizer.on_train_start(trainer, module)
        regularizer.on_before_optimizer_step(trainer, module, optimizer)
        optimizer.step()
    assert apart(model, before) == 0


# L1


def test_the_soft_threshold_gives_exact_zeros_and_the_subgradient_none(tmp_path):
    share = {
        kind: zero_share(fitted(tmp_path / kind, "regularizer.l1=0.03", f"regularizer.l1_kind={kind}",
                                "optimizer=sgd", "trainer.max_epochs=5").task.model)
        for kind in ("proximal", "subgradient")
    }  # fmt: skip
    assert share["subgradient"] == 0
    assert 0.4 < share["proximal"] < 0.8, share  # 0.59


def test_the_share_of_zeros_is_a_curve_and_a_number_of_the_run(tmp_path):
    typed = ["regularizer=l1", "regularizer.l1=0.03", "optimizer=sgd", "trainer.log_every_n_steps=10"]
    assert run(configure(*SMALL, *typed, run_dir=tmp_path / "run")) == 0
    board = EventAccumulator(str(tmp_path / "run"))
    board.Reload()
    curve = board.Scalars("norms/zero_share")
    assert [event.step for event in curve] == [10, 20, 30, 40, 50, 60]
    values = [event.value for event in curve]
    assert values == sorted(values)
    assert values[0] < values[-1] < 1
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())["zero_share"]
    weights = read(tmp_path / "run" / "checkpoints" / "best.ckpt")["state_dict"]
    matrices = torch.cat([w.flatten() for name, w in weights.items() if name.startswith("model") and w.ndim == 2])
    assert found == pytest.approx((matrices == 0).double().mean().item())
    assert read(tmp_path / "run" / "checkpoints" / "last.ckpt")["config"]["regularizer"]["l1"] == 0.03


# Max-norm


@pytest.mark.parametrize(("model", "typed"), [
    ("mlp", ["model.hidden_features=[16,16]"]),
    ("lenet5", ["~model.hidden_features", "data.image_size=28"]),
])  # fmt: skip
def test_max_norm_bounds_every_hidden_unit_and_no_output(tmp_path, model, typed):
    typed = [f"model={model}", *(typed if model == "mlp" else typed[1:]), "optimizer.lr=0.01"]
    small = [text for text in SILENT if "hidden" not in text]
    built = build(configure(*small, *typed, "trainer.max_epochs=1", "regularizer.max_norm=0.5", run_dir=tmp_path))
    built.fit()
    *hidden, output = [one.units.flatten(2).norm(dim=2) for one in linear_maps(built.task.model)]
    assert all((norms <= 0.5 * (1 + 1e-6)).all() for norms in hidden)
    assert any((norms > 0.5 * (1 - 1e-6)).any() for norms in hidden), "it had something to do"
    assert output.max() > 0.51


# The run around it

ALL = ("regularizer.l1=0.05", "regularizer.l2=0.1", "regularizer.max_norm=0.8", "regularizer.dropout=classic",
       "model.dropout=0.2", "scheduler=cosine", "optimizer.lr=0.02")  # fmt: skip


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_fast_loop_stays_in_use_and_does_what_the_stock_loop_does(tmp_path, optimizer):
    lean, stock = (
        fitted(tmp_path / str(wish), *ALL, f"optimizer={optimizer}", f"trainer.lean_loop={str(wish).lower()}")
        for wish in (True, False)
    )
    assert lean.trainer.fit_loop.epoch_loop.lean is True
    assert stock.trainer.fit_loop.epoch_loop.lean is False
    assert apart(lean.task.model, stock.task.model) == 0


def test_the_rate_is_that_of_the_step_and_not_what_the_schedule_makes_of_it_after(tmp_path):
    typed = ["optimizer=sgd", "optimizer.lr=0.5", "scheduler=cosine", "trainer.max_epochs=2", "data.batch_size=400"]
    run_of = build(configure(*SILENT, *typed, "regularizer.l1=0.2", run_dir=tmp_path / "run"))
    model = copy.deepcopy(run_of.task.model).train()
    optimizer = SGD(model.parameters(), lr=0.5)
    batches = run_of.data.train_dataloader()
    schedule = optim.cosine(optimizer, 2 * len(batches), len(batches))["scheduler"]
    for epoch in range(2):
        batches.sampler.set_epoch(epoch)
        for batch in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(*batch.inputs), batch.targets).backward()
            rate = optimizer.param_groups[0]["lr"]
            optimizer.step()
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.data = optim.soft_threshold(parameter.data, rate * 0.2)
            schedule.step()
    run_of.fit()
    assert zero_share(model) > 0.1
    assert apart(run_of.task.model, model) == 0


def test_a_gradient_that_is_only_accumulated_changes_nothing(tmp_path, monkeypatch):
    calls = {"before": 0, "after": 0}
    before, after = Regularizers.on_before_optimizer_step, Regularizers.after_step

    def counted(name, hook):
        def count(self, *arguments):
            calls[name] += 1
            return hook(self, *arguments)

        return count

    monkeypatch.setattr(Regularizers, "on_before_optimizer_step", counted("before", before))
    monkeypatch.setattr(Regularizers, "after_step", counted("after", after))
    fitted(tmp_path, "regularizer.l1=0.1", "trainer.accumulate_grad_batches=4", "trainer.max_epochs=1")
    assert calls == {"before": 5, "after": 5}  # of 20 batches


def test_an_interrupted_run_ends_with_the_bits_of_one_that_was_not(tmp_path, monkeypatch):
    assert run(configure(*SILENT, *ALL, run_dir=tmp_path / "whole")) == 0
    real = RunCheckpoint.on_train_batch_start

    def hear(self, trainer, *arguments):
        if iterations_done(trainer) == 27:
            LISTENER.asked = signal.SIGTERM
        real(self, trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_start", hear)
        assert run(configure(*SILENT, *ALL, run_dir=tmp_path / "cut")) == 75
    assert run(configure(f"resume={tmp_path}/cut")) == 0
    one, other = (read(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("whole", "cut"))
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "cut")]
    assert metrics[1]["resumed_from_iteration"] == 27
    assert metrics[0]["zero_share"] == metrics[1]["zero_share"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_several_processes_do_what_one_does(tmp_path):
    """Weights, losses and metrics within 1e-9 in float64 (tests/drivers/processes.py)."""
    also = "also=regularizer.l1=0.05 regularizer.l2=0.1 regularizer.max_norm=0.8"
    command = [
        sys.executable,
        str(DRIVERS / "processes.py"),
        "precision=64-true",
        "steps=28",
        also,
        f"folder={tmp_path}",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert len(json.loads(ended.stdout)["rows"]) == 4


def test_what_is_off_is_no_callback(tmp_path):
    def found(*typed):
        built = build(configure(*SILENT, *typed, run_dir=tmp_path))
        return [callback for callback in built.trainer.callbacks if isinstance(callback, Regularizers)]

    assert found() == found("regularizer=classic_dropout", "model.dropout=0.1") == []
    assert len(found("regularizer.max_norm=1")) == 1


def test_no_hook_is_left_at_an_optimizer_after_training(tmp_path):
    built = fitted(tmp_path, "regularizer.l1=0.1", "trainer.max_epochs=1")
    (callback,) = (callback for callback in built.trainer.callbacks if isinstance(callback, Regularizers))
    assert callback.handles == []


@pytest.mark.parametrize(("typed", "told"), [
    (["optimizer=lbfgs", "data.batch_size=full", "regularizer.l2=1"], "optimizer=lbfgs searches along the loss"),
    (["model.hidden_features=[]", "regularizer=max_norm"], "bounds the weights of hidden units"),
    (["finetune=head", "regularizer=max_norm"], "bounds the weights of hidden units"),
    (["regularizer.l1_kind=proximl"], "did you mean 'proximal'"),
    (["regularizer.l2_kind=x"], "regularizer.l2_kind=x. There is: coupled, decoupled"),
    (["regularizer.l1=-1"], "regularizer.l1=-1 must be a number from 0 on"),
    (["regularizer.max_norm=big"], "regularizer.max_norm=big must be a number"),
])  # fmt: skip
def test_what_cannot_be_is_told(tmp_path, typed, told):
    with pytest.raises(UserError, match=told):
        run(configure(*SILENT, *typed, run_dir=tmp_path))
