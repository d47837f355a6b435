"""The rate that is found lies where training works, and looking for it changes nothing."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from zoo.analysis.lr_finder import GrowingRate, RateTest, find_rate, smooth
from zoo.build import build
from zoo.errors import UserError
from zoo.run import configure


@pytest.fixture
def config(tmp_path):
    """config("optimizer=sgd", ...) -> a configuration; nothing may be written for it."""
    yield lambda *overrides: configure("trainer=cpu", "trainer.num_threads=1", *overrides, run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def of_curve(losses, lowest=1e-6, highest=10.0):
    losses = list(map(float, losses))
    rates = np.geomspace(lowest, highest, len(losses)).tolist()
    return RateTest(rates, losses, smooth(losses, len(losses)), False)


def loss_after_one_epoch(cfg) -> float:
    """The training loss of a run, by a plain loop."""
    run = build(cfg)
    task, part = run.task, run.data.part("train")
    optimizer = task.configure_optimizers()
    for batch in run.data.train_dataloader():
        optimizer.zero_grad()
        task.losses(batch)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        return task.losses(part[torch.arange(len(part))])["loss"].item()


def test_on_a_quadratic_the_rate_is_below_two_over_the_largest_curvature(config):
    """Gradient descent on squared errors of a linear model is stable below 2 / lambda, and nowhere above."""
    overrides = ("data=diabetes", "model.hidden_features=[]", "data.batch_size=full", "optimizer=sgd")
    part = build(config(*overrides)).data.part("train")
    x = part[torch.arange(len(part))].x.double()
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    limit = 2 / torch.linalg.eigvalsh(2 * x.T @ x / len(x))[-1].item()
    found = find_rate(config(*overrides))
    assert limit / 100 < found.steepest < limit < found.rates[-1]
    assert found.diverged
    assert found.tenth < limit


@pytest.mark.parametrize(("optimizer", "too_much"), [("sgd", 100), ("adam", 100), ("momentum", 1000)])
def test_one_epoch_with_the_rate_halves_the_loss_and_far_above_it_learns_less(optimizer, too_much, config):
    overrides = (f"optimizer={optimizer}", "data=digits", "model=mlp")
    found = find_rate(config(*overrides))
    learned = loss_after_one_epoch(config(*overrides, f"optimizer.lr={found.steepest}"))
    assert learned < 0.5 * found.smoothed[0]
    too_high = f"optimizer.lr={too_much * found.steepest}"
    assert not loss_after_one_epoch(config(*overrides, too_high)) < 2 * learned  # or no number


def test_the_losses_are_those_of_a_plain_loop_with_the_same_rates(config):
    overrides = ("optimizer=sgd", "data.batch_size=500", "seed=3")
    found = find_rate(config(*overrides, "scheduler=cosine"), lowest=1e-3, highest=1.0, iterations=100)
    run = build(config(*overrides))
    model, part = run.task.model, run.data.part("train")
    losses = []
    for epoch in range(40):
        order = torch.randperm(len(part), generator=torch.Generator().manual_seed(3 * 1_000_003 + epoch))
        for indices in order.split(500):
            loss = nn.functional.cross_entropy(model(part[indices].image), part[indices].label)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            rate = 1e-3 * 1000 ** (min(len(losses), 99) / 99)
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.data -= rate * gradient
            losses.append(loss.item())
    assert found.losses == pytest.approx(losses[:100], rel=1e-4)
    assert found.rates == pytest.approx(np.geomspace(1e-3, 1, 100))


def test_the_configuration_stays_as_it_is(config):
    cfg = config("callbacks.ema.decay=0.9", "scheduler=one_cycle", "trainer.devices=2")
    before = OmegaConf.to_container(cfg)
    assert find_rate(cfg, iterations=100).losses  # two processes would have the same global batch
    assert OmegaConf.to_container(cfg) == before


def test_two_looks_see_the_same(config):
    assert find_rate(config(), iterations=100) == find_rate(config(), iterations=100)


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=lenet5",),
        ("data=xor", "optimizer=sgd"),
        ("data=diabetes", "task.loss=huber", "optimizer=adamw"),
        ("trainer.precision=bf16-mixed",),
        ("trainer.gradient_clip_val=1", "regularizer=l1"),
        ("scratch=true", "task.loss=hinge", "finetune=head"),
    ],
    ids=" ".join,
)
def test_it_looks_at_any_run_that_train_py_can_train(overrides, config):
    found = find_rate(config(*overrides), iterations=100)
    assert 1e-6 < found.steepest < 1
    assert len(found.rates) == len(found.losses) == len(found.smoothed) <= 100
    assert all(map(math.isfinite, found.losses))


def test_batches_that_make_one_update_together_count_as_one(config):
    tiny = {"lowest": 1e-12, "highest": 2e-12, "iterations": 100}  # nothing is learned, so each batch keeps its loss
    single = find_rate(config("data.batch_size=64"), **tiny).losses[:20]  # one epoch
    found = find_rate(config("data.batch_size=64", "trainer.accumulate_grad_batches=3"), **tiny)
    assert len(found.losses) == 100
    # The last update of an epoch is of the two batches that are left.
    assert found.losses[:7] == pytest.approx([np.mean(single[i : i + 3]) for i in range(0, 20, 3)])


def test_a_loss_that_is_no_number_ends_the_test_and_stands_in_no_row(config):
    found = find_rate(config("optimizer=sgd", "data=diabetes"), highest=1e30, iterations=100)
    assert found.diverged
    assert len(found.losses) < 100
    assert all(map(math.isfinite, found.losses + found.smoothed))


@pytest.mark.parametrize(
    ("overrides", "options", "telling"),
    [
        (("optimizer=lbfgs",), {}, "L-BFGS searches along a line"),
        (("model=gan", "data=digits"), {}, "A generator and a discriminator have a loss each"),
        (("model=perceptron",), {}, "changes no decision"),
        (("model=perceptron", "optimizer=sgd"), {}, "changes no decision"),
        ((), {"lowest": 0.0}, "must be above 0"),
        ((), {"lowest": 1.0, "highest": 0.1}, "must be above 0 and below highest=0.1"),
        ((), {"iterations": 99}, "must be at least 100"),
        (("optimizer=sgd",), {"lowest": 1e20, "highest": 1e30}, "is lowest=1e.20 too high"),
    ],
)
def test_where_there_is_no_rate_to_find_it_says_so_in_one_line(overrides, options, telling, config):
    with pytest.raises(UserError, match=telling) as refused:
        find_rate(config(*overrides), **options)
    assert "\n" not in str(refused.value)


def test_a_resumed_run_is_refused(config):
    cfg = config()
    cfg.resume = "outputs/some"
    with pytest.raises(UserError, match="resume= goes on"):
        find_rate(cfg)


def test_groups_of_parameters_keep_their_share_of_the_rate():
    groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.01)]
    trainer = SimpleNamespace(optimizers=[torch.optim.SGD(groups)], global_step=0)
    growing = GrowingRate([1.0, 2.0], base=0.1)
    growing.on_train_start(trainer, None)
    for step, rate in enumerate((1.0, 2.0)):
        trainer.global_step = step
        growing.on_train_batch_start(trainer, None, None, 0)
        assert [group["lr"] for group in trainer.optimizers[0].param_groups] == pytest.approx([rate, rate / 10])
    growing.on_train_end(trainer, None)


def test_a_task_with_two_optimizers_is_refused():
    with pytest.raises(UserError, match="2 optimizers"):
        GrowingRate([1.0], base=0.1).on_train_start(SimpleNamespace(optimizers=[None, None]), None)


def test_the_steepest_fall_of_a_smooth_curve_is_found_where_it_is():
    at = np.linspace(-6, 1, 150)  # log10 of the rate
    for middle in (-4.0, -2.5, -1.0):
        found = of_curve(1 / (1 + np.exp(4 * (at - middle))) + 0.1)
        assert math.log10(found.steepest) == pytest.approx(middle, abs=0.1)  # and not later, as a running mean has it


def test_the_way_down_from_a_peak_is_no_progress():
    at = np.linspace(-6, 1, 150)
    losses = 2 - np.clip(at + 4, 0, 3) * 0.5
    losses[110:116] += 3.0
    assert of_curve(losses).steepest < 10 ** at[105]


@pytest.mark.parametrize("losses", [np.ones(50), np.linspace(1, 5, 50), 1 + 0.01 * np.sin(np.arange(50))])
def test_without_a_fall_there_is_no_suggestion(losses):
    assert of_curve(losses).steepest is None
    assert of_curve(losses).marks() == {}


@pytest.mark.parametrize("number", [3, 20, 200])
def test_smoothing_keeps_a_constant_and_its_length_and_an_explosion_does_not_reach_back(number):
    assert smooth([2.5] * number, 150) == pytest.approx([2.5] * number)
    exploded = smooth([2.5] * number + [1e30], 150)
    assert len(exploded) == number + 1
    assert max(exploded) <= 2.5 + 4 * 2.5


def test_the_table_shows_the_first_and_the_last_rate_and_the_file_all():
    found = of_curve(np.linspace(3, 1, 70))
    lines = found.table(rows=10).splitlines()
    assert len(lines) <= 1 + 11
    assert (lines[1].split()[0], lines[-1].split()[0]) == ("1.00e-06", "1.00e+01")
    rows = [list(map(float, line.split(","))) for line in found.csv().splitlines()[1:]]
    assert [list(column) for column in zip(*rows, strict=True)] == [found.rates, found.losses, found.smoothed]
