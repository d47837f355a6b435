"""`scratch=true` trains with the twins and changes nothing else."""

import copy
import json
from functools import partial

import pytest
import torch
from torch import nn

from zoo import optim
from zoo.build import build
from zoo.checkpoint import load_model
from zoo.models.lenet5 import LeNet5
from zoo.optim import build_optimizer
from zoo.run import configure, run
from zoo.scratch import losses, optimizers
from zoo.scratch.drift import drift, loss_curve
from zoo.scratch.swap import from_scratch, optimizer_from_scratch, write_out

STEPS, BATCH = 20, 8
RUNS = {
    "mlp": ["model=mlp", "model.normalization=BatchNorm1d", "model.dropout=0.2", "optimizer=adamw", "data=digits"],
    "lenet5": ["model=lenet5", "optimizer=nesterov", "data=digits"],
    "resnet20": ["model=resnet", "optimizer=momentum", "data=digits", "trainer.num_threads=1"],
}


def curve(folder, precision: str, scratch: bool, *overrides: str) -> tuple[torch.Tensor, list[str]]:
    """Losses of a plain loop over the training part, of what `train.py` would build; and the run's notes."""
    built = build(
        configure(*overrides, f"scratch={str(scratch).lower()}", f"trainer.precision={precision}", "trainer=cpu",
                  "logger=none", run_dir=folder / str(scratch))
    )  # fmt: skip
    task, part = built.task, built.data.part("train")
    dtype = torch.float64 if precision == "64-true" else torch.float32
    batches = [part[torch.arange(i * BATCH, (i + 1) * BATCH)] for i in range(STEPS)]
    batches = [type(b)(*(x.to(dtype) if x.is_floating_point() else x for x in b)) for b in batches]
    torch.manual_seed(0)
    task.train()
    optimizer = build_optimizer(task.build_optimizer, task.model)
    return loss_curve(lambda batch: task.losses(batch)["loss"], optimizer, batches), built.notes


@pytest.mark.parametrize("name", RUNS)
def test_in_float64_the_loss_curve_is_that_of_torchs_layers(name, tmp_path):
    ours, notes = curve(tmp_path, "64-true", True, *RUNS[name])
    theirs, _ = curve(tmp_path, "64-true", False, *RUNS[name])
    assert any(note.startswith("Written out: ") and "torch's own" not in note for note in notes), notes
    assert theirs[-5:].mean() < 0.9 * theirs[:5].mean()  # it learns, so that there is something to compare
    assert not torch.equal(ours, theirs)  # it is not torch's own that was run twice
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7)


def test_drift_is_of_the_last_digits_and_the_model_stays_as_it_is():
    model = LeNet5(in_channels=1, image_size=28, num_classes=10, activation="ReLU", pooling="MaxPool2d")
    before = copy.deepcopy(model.state_dict())
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(STEPS, BATCH, 1, 28, 28, generator=generator), torch.randint(10, (STEPS, BATCH))
    sgd, loss = partial(torch.optim.SGD, lr=0.05), nn.functional.cross_entropy
    single = drift(model, sgd, loss, list(zip(x, y, strict=True)))
    double = drift(model.double(), sgd, loss, list(zip(x.double(), y, strict=True)))
    assert all(torch.equal(value.float(), before[name]) for name, value in model.state_dict().items())
    assert single.shape == (STEPS,)
    assert 1e-9 < single.max().item() < 1e-3
    assert 0 < double.max().item() < 1e-9


def test_a_model_keeps_its_weights_and_their_names():
    model = LeNet5(in_channels=1, image_size=28, num_classes=10, activation="ReLU", pooling="MaxPool2d").double()
    twin = copy.deepcopy(model)
    assert from_scratch(twin) == (["Conv2d", "Linear", "MaxPool2d", "ReLU"], [])
    x = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    assert list(twin.state_dict()) == list(model.state_dict())
    torch.testing.assert_close(twin(x), model(x), rtol=1e-12, atol=1e-12)


def test_an_optimizers_twin_has_its_settings_and_not_how_fast_torch_runs_it():
    build = optimizer_from_scratch(partial(torch.optim.Adam, lr=0.1, betas=(0.5, 0.9), fused=True, foreach=None))
    assert build.func is optimizers.Adam
    assert build.keywords == {"lr": 0.1, "betas": (0.5, 0.9)}


@pytest.mark.parametrize("build", [
    partial(torch.optim.LBFGS, line_search_fn="strong_wolfe"), partial(torch.optim.Adam, capturable=True),
    partial(torch.optim.Rprop, lr=0.1),
])  # fmt: skip
def test_an_optimizer_with_what_its_twin_lacks_stays_torchs(build):
    assert optimizer_from_scratch(build) is None


def test_an_optimizer_of_the_zoo_steps_as_its_bases_twin():
    steps = []
    rule = partial(optim.PerceptronRule, lr=0.5)
    for made in (rule, optimizer_from_scratch(rule)):
        p = nn.Parameter(torch.ones(3, dtype=torch.float64))
        p.grad = torch.arange(3, dtype=torch.float64)
        optimizer = made([p])
        optimizer.step()
        steps.append(p.detach())
    assert isinstance(optimizer, optimizers.SGD)
    assert isinstance(optimizer, optim.PerceptronRule)
    assert torch.equal(*steps)


@pytest.mark.parametrize(("overrides", "turned", "left"), [
    (["model=mlp"], ["Dropout", "Linear", "ReLU", "cross_entropy", "Adam"], []),
    (["model=mlp", "optimizer=lbfgs"], ["Dropout", "Linear", "ReLU", "cross_entropy"], ["LBFGS"]),
    (["model=mlp", "data=diabetes", "task.loss=huber"], ["Dropout", "Linear", "ReLU", "huber", "Adam"], []),
    (["model=perceptron"], ["Linear", "PerceptronRule"], []),
])  # fmt: skip
def test_a_run_says_what_was_turned_and_what_is_torchs_own(overrides, turned, left, tmp_path):
    built = build(configure(*overrides, "scratch=true", "logger=none", run_dir=tmp_path))
    (note,) = [note for note in built.notes if "Written out" in note]
    own = f"; torch's own: {', '.join(left)}" if left else ""
    assert note == f"Written out: {', '.join(turned)}{own}"


def test_a_tasks_loss_gives_way_to_its_twin_and_keeps_its_options(tmp_path):
    built = build(configure("model=mlp", "task.label_smoothing=0.1", "logger=none", run_dir=tmp_path))
    task, batch = built.task.double(), built.data.part("train")[torch.arange(BATCH)]
    batch = type(batch)(*(x.double() if x.is_floating_point() else x for x in batch))
    expected = task.losses(batch)["loss"]
    assert "cross_entropy" in write_out(task)[0]
    assert task.loss.function is losses.cross_entropy
    torch.testing.assert_close(task.losses(batch)["loss"], expected, rtol=1e-13, atol=0)


def test_a_run_from_scratch_ends_like_one_of_torchs_layers(tmp_path):
    common = ["trainer.max_epochs=1", "model.activation=Tanh", "model.dropout=0.2", "logger=none"]
    for scratch in ("true", "false"):
        assert run(configure(*common, f"scratch={scratch}", run_dir=tmp_path / scratch)) == 0
    ours, theirs = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("true", "false"))
    assert ours["train/loss"] == pytest.approx(theirs["train/loss"], abs=1e-5)
    assert ours["test/loss"] == pytest.approx(theirs["test/loss"], abs=1e-5)
    weights = [load_model(tmp_path / name).state_dict() for name in ("true", "false")]
    assert list(weights[0]) == list(weights[1])
    assert type(load_model(tmp_path / "true").output) is nn.Linear  # a checkpoint does not care how it was trained
