"""Two networks that take turns: whose weights move when, what is counted, what a resumed run and an average give."""

import copy
import json
import shutil
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from zoo.batches import TableBatch
from zoo.build import build
from zoo.checkpoint import read
from zoo.errors import UserError
from zoo.layers.adversaries import Adversaries
from zoo.models.dcgan import DCGAN
from zoo.optim import Alternating
from zoo.run import configure, run
from zoo.tasks.adversarial import Adversarial

RING = ["data=ring", "data.num_train=200", "data.num_val=64", "data.num_test=64", "data.batch_size=20"]
SMALL = ["model=gan", "model.latent_size=2", "model.generator_features=[8]", "model.discriminator_features=[8]"]
SMALL += ["model.discriminator_activation=LeakyReLU", "trainer.num_threads=1", "callbacks.progress=null", "logger=none"]
SMALL += ["trainer.accelerator=cpu", "task.samples=64"]
CRITIC = ["task.loss=wasserstein", "task.gradient_penalty=10", "task.n_critic=3"]


def trained(folder, *overrides):
    built = build(configure(*SMALL, *RING, *overrides, run_dir=folder))
    built.fit()
    return built


def copied(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


class Maker(nn.Linear):
    """A generator of one affine map."""

    def forward(self, z, label=None):
        return super().forward(z)


class Judge(nn.Linear):
    """A discriminator of one unit."""

    def forward(self, x, label=None):
        return super().forward(x).tanh().squeeze(1)


def tiny(latent_size=2, prior="normal"):
    torch.manual_seed(0)
    model = Adversaries(Maker(latent_size, 2), Judge(2, 1), latent_size=latent_size, prior=prior, num_classes=None)
    return Adversarial(model.double(), partial(torch.optim.SGD, lr=0.1))


def batch_of(x):
    return TableBatch(x, torch.zeros(len(x), dtype=torch.long))


@pytest.mark.parametrize("turn", ["generator", "discriminator"])
@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_whose_turn_it_is_not_gets_no_gradient_and_keeps_its_statistics(turn, norm):
    torch.manual_seed(0)
    model = DCGAN(
        image_shape=[1, 16, 16], generator_channels=4, discriminator_channels=4, discriminator_norm=norm, latent_size=3
    )
    task = Adversarial(model, partial(torch.optim.SGD, lr=0.1))
    players = {"discriminator": model.discriminator, "generator": model.generator}
    task.alternating = Alternating({n: torch.optim.SGD(p.parameters(), lr=0.1) for n, p in players.items()})
    task.alternating.turn = turn
    other = players["discriminator" if turn == "generator" else "generator"]
    before, own = copied(other), copied(players[turn])
    loss = task.losses(batch_of(torch.rand(8, 1, 16, 16)))["loss"]
    loss.backward()
    assert all(p.grad is None for p in other.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in players[turn].parameters() if p.ndim > 1)
    assert same(before, copied(other)), "also the running statistics of batch norm, and vectors of the power iteration"
    if norm == "batch" or turn == "discriminator":
        assert not same(own, copied(players[turn])), "its own do move"


def test_without_an_optimizer_both_losses_are_there_and_each_net_has_the_gradient_of_its_own():
    task, batch = tiny(), batch_of(torch.randn(6, 2, dtype=torch.float64))
    model = task.model
    losses = task.losses(batch)
    assert losses["loss"].item() == pytest.approx((losses["loss/discriminator"] + losses["loss/generator"]).item())
    losses["loss"].backward()
    both = [p.grad.clone() for p in model.parameters()]
    found = []
    for loss, player in ((task.discriminators_turn(batch.x, None)[0], model.discriminator),
                         (task.generators_turn(batch.x, None), model.generator)):  # fmt: skip
        model.zero_grad()
        loss.backward()
        found.append([p.grad.clone() for p in player.parameters()])
    for one, other in zip(both, [*found[1], *found[0]], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


class Watch(Callback):
    """The newest values and the weights after each batch."""

    def __init__(self):
        self.seen, self.weights = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append({name: float(value) for name, value in pl_module.latest.items()})
        players = (pl_module.model.discriminator, pl_module.model.generator)
        self.weights.append([copied(player) for player in players])


def test_one_iteration_is_one_batch_whatever_the_turns(tmp_path):
    """max_steps, schedules and what is shown count batches; the generator moves in every third of the whole run."""
    built = build(configure(*SMALL, *RING, *CRITIC, "trainer.max_steps=14", "scheduler=cosine", run_dir=tmp_path))
    watch = Watch()
    built.trainer.callbacks.append(watch)
    built.fit()
    trainer = built.trainer
    assert (trainer.global_step, len(watch.seen), trainer.current_epoch) == (14, 14, 2)
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == 14
    assert all(group["lr"] < 1e-6 for group in trainer.optimizers[0].param_groups), "a whole cosine, of both"
    turns = trainer.optimizers[0].turns
    counts = {n: {int(state["step"]) for state in o.state.values()} for n, o in turns.items()}
    assert counts == {"discriminator": {14}, "generator": {4}}
    moved = [i + 1 for i in range(1, 14) if not same(watch.weights[i - 1][1], watch.weights[i][1])]
    assert moved == [3, 6, 9, 12]
    assert all(not same(watch.weights[i - 1][0], watch.weights[i][0]) for i in range(1, 13))
    names = {"loss", "loss/discriminator", "loss/generator", "score/real", "score/fake", "wasserstein"}
    for seen in watch.seen:
        assert set(seen) == names | {"gradient_penalty", "slope"}
        assert seen["loss"] == pytest.approx(seen["loss/discriminator"] + seen["loss/generator"], abs=1e-5)
        assert seen["wasserstein"] == pytest.approx(seen["score/real"] - seen["score/fake"], abs=1e-5)
        penalized = -seen["wasserstein"] + 10 * seen["gradient_penalty"]
        assert seen["loss/discriminator"] == pytest.approx(penalized, abs=1e-4)
        assert (seen["loss/generator"] == pytest.approx(-seen["score/fake"], abs=1e-6)) == (
            seen is not watch.seen[2] and seen is not watch.seen[5] and seen not in (watch.seen[8], watch.seen[11])
        ), "its own turn comes after the discriminator has moved, and has noise of its own"


@pytest.mark.parametrize(
    "also", [["model.dropout=0.5", "task.instance_noise=0.1"], [*CRITIC, "callbacks.ema.decay=0.9"]]
)
def test_a_run_that_is_resumed_inside_an_epoch_ends_with_the_same_bits(tmp_path, also):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    also = [
        *also,
        "data=digits",
        "data.fraction=0.16",
        "data.batch_size=20",
        "scheduler=cosine",
        "checkpoint_every=7",
        "checkpoint_keep=5",
        "trainer.max_epochs=2",
        "test=false",
    ]
    assert run(configure(*SMALL, *also, run_dir=whole)) == 0
    shutil.copytree(whole, cut)
    middle = next((cut / "checkpoints").glob("*step=7.ckpt"))
    before = read(middle)["optimizer_states"][0]["turns"]["generator"]["state"]
    assert run(configure(*SMALL, *also, f"resume={middle}", run_dir=cut)) == 0
    one, other = (read(folder / "checkpoints" / "last.ckpt") for folder in (whole, cut))
    assert one["global_step"] == other["global_step"] == 22
    assert json.loads((cut / "metrics.json").read_text())["resumed_from_iteration"] == 7
    assert same(one["state_dict"], other["state_dict"])
    states = [checkpoint["optimizer_states"][0] for checkpoint in (one, other)]
    assert states[0]["iterations"] == states[1]["iterations"] == 22
    for player in ("discriminator", "generator"):
        ours, theirs = (state["turns"][player]["state"] for state in states)
        assert len(ours) > 0
        assert all(torch.equal(ours[i][key], theirs[i][key]) for i in ours for key in ours[i])
    assert any(not torch.equal(before[i]["exp_avg"], ours[i]["exp_avg"]) for i in ours)


def test_the_rates_of_the_two_are_each_their_own_and_clipped_weights_stay_within_the_bound(tmp_path):
    rates = ["task.discriminator_lr=0.003", "optimizer.lr=0.01"]
    built = trained(tmp_path, "task.loss=wasserstein", "task.clip=0.01", *rates, "trainer.max_epochs=1")
    groups = {name: o.param_groups[0]["lr"] for name, o in built.trainer.optimizers[0].turns.items()}
    assert groups == {"discriminator": 0.003, "generator": 0.01}
    model = built.task.model
    assert max(p.abs().max().item() for p in model.discriminator.parameters()) <= 0.01
    assert max(p.abs().max().item() for p in model.generator.parameters()) > 0.01


def test_a_schedule_of_one_cycle_moves_the_rates_and_betas_of_both(tmp_path):
    built = trained(tmp_path, "scheduler=one_cycle", "task.discriminator_lr=0.003", "trainer.max_epochs=1")
    for optimizer in built.trainer.optimizers[0].turns.values():
        (group,) = optimizer.param_groups
        assert 0 < group["lr"] < 1e-4 * group["max_lr"]  # at its end
        assert group["betas"][0] == pytest.approx(group["max_momentum"])


def test_samples_of_a_conditional_pair_are_of_the_classes_that_they_are_shown_with(tmp_path):
    built = trained(tmp_path, "model.num_classes=8", "trainer.max_epochs=1", "test=false")
    made = built.task.make(520, seed=3)
    z = torch.cat(
        [built.task.two.latent(n, generator=g) for g in [torch.Generator().manual_seed(3)] for n in (500, 20)]
    )
    expected = built.task.two.from_latent(z, torch.arange(520) % 8)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("trainer.accumulate_grad_batches=2", "larger data.batch_size"),
        ("trainer.precision=16-mixed", "bf16-mixed"),
        ("optimizer=lbfgs", "optimizer=adam"),
        ("task.loss=wassertein", "Did you mean|wasserstein"),
        ("task.monitor=parsen", "parzen"),
        ("task.monitor=parzen", "is for images"),
        ("task.n_critic=0", "from 1 on"),
        ("task.samples=-1", "from 0 on"),
        ("task.clip=0.0", "above 0"),
        ("task.gradient_penalty=-1.0", "from 0 on"),
    ],
)
def test_what_two_nets_in_turn_cannot_have_is_refused_in_one_line(tmp_path, setting, says):
    with pytest.raises(UserError, match=says) as caught:
        trained(tmp_path, setting)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["model=dcgan", "data=digits", "data.image_size=16", "task.r1=10"], "model.discriminator_norm=layer"),
        (["model=gan", "data=diabetes", "model.num_classes=2"], "one class a sample"),
        (["model=gan", "data=ring", "task.loss=hinge", "task.label_smoothing=0.1"], "label_smoothing"),
        (["model=dcgan", "data=ring"], "data.image_shape"),
        (["model=gan", "task.monitor=parzen", "task.samples=0"], "for task.monitor=parzen from 1 on"),
        (["model=gan", "data=digits", "data.normalize=true"], "data.normalize=false"),
        (["model=gan", "data=ring", "callbacks.early_stopping.patience=1"], "callbacks.early_stopping.monitor="),
    ],
)
def test_a_pair_that_does_not_fit_is_refused_in_one_line(tmp_path, overrides, says):
    with pytest.raises(UserError, match=says) as caught:
        build(configure(*overrides, "trainer.accelerator=cpu", "logger=none", run_dir=tmp_path))
    assert "\n" not in str(caught.value)


def test_of_a_wide_table_the_first_two_columns_are_drawn(tmp_path):
    sizes = ("model.generator_features=[8]", "model.discriminator_features=[8]", "task.samples=50", "test=false")
    run = build(configure("model=gan", "data=iris", *sizes, "trainer.max_epochs=1", "logger=none", run_dir=tmp_path))
    run.fit()
    shown = run.task.show(next(iter(run.data.val_dataloader())))
    assert set(shown) == {"discriminator", "generated", "history"}
    assert [row.shape[1] for _, row in run.task.history] == [2]


def test_images_have_no_modes_to_choose_an_epoch_by(tmp_path):
    run = build(configure("model=gan", "data=bars", "task.monitor=modes", "logger=none", run_dir=tmp_path))
    with pytest.raises(UserError, match="a known mixture"):
        run.fit()


def test_a_model_that_is_no_pair_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"no generator and no discriminator.*use model=gan or model=dcgan"):
        Adversarial(nn.Linear(2, 1), partial(torch.optim.SGD, lr=0.1)).check(batch_of(torch.zeros(1, 2)))


def test_the_last_epoch_is_kept_unless_a_measure_chooses(tmp_path):
    first, second = tmp_path / "last", tmp_path / "best"
    for folder, also in ((first, []), (second, ["task.monitor=high_quality"])):
        assert run(configure(*SMALL, *RING, *also, "trainer.max_epochs=2", run_dir=folder)) == 0
    metrics = json.loads((first / "metrics.json").read_text())
    assert metrics["best_epoch"] is None
    assert not (first / "checkpoints" / "best.ckpt").exists()
    assert {"test/modes", "test/high_quality", "test/transport", "transport_floor", "val/modes"} <= set(metrics)
    assert 0 < metrics["transport_floor"] < metrics["test/transport"]
    metrics = json.loads((second / "metrics.json").read_text())
    assert (metrics["monitor"], metrics["best_epoch"] in (1, 2)) == ("val/high_quality", True)


def test_what_is_judged_and_shown_in_validation_is_the_average(tmp_path):
    built = trained(tmp_path, "callbacks.ema.decay=0.9", "trainer.max_epochs=1", "optimizer.lr=0.05")
    task, newest = built.task, copied(built.task.model)
    judged, shown = task.generated["val"], task.shown
    average = read(tmp_path / "checkpoints" / "last.ckpt")["state_dict"]
    assert not same({f"model.{name}": tensor for name, tensor in newest.items()}, average)
    task.eval()
    assert not torch.equal(task.make(len(judged)), judged)
    task.load_state_dict(average)
    assert torch.equal(task.make(len(judged)), judged)
    assert torch.equal(task.make(len(shown), seed=0), shown)


def test_images_have_a_parzen_likelihood_with_its_ceiling_pictures_and_a_history_that_goes_on(tmp_path):
    settings = ["model=gan", "data=digits", "data.fraction=0.1", "model.generator_features=[16]", "task.samples=50"]
    settings += ["model.discriminator_features=[8]", "trainer.num_threads=1", "callbacks.progress=null"]
    settings += ["checkpoint_every=2", "model.num_classes=10"]
    assert run(configure(*settings, "trainer.max_epochs=3", run_dir=tmp_path / "whole")) == 0
    metrics = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert metrics["parzen_ceiling"] > metrics["test/parzen"]
    assert {"parzen_sigma", "parzen_standard_error"} <= set(metrics)
    saved = read(tmp_path / "whole" / "checkpoints" / "last.ckpt")["generated"]
    assert saved["epochs"] == [1, 2], "1, 2, 4, 8, ..."
    assert [tuple(row.shape) for row in saved["samples"]] == [(12, 1, 8, 8)] * 2
    assert not torch.equal(*saved["samples"])
    last = tmp_path / "whole" / "checkpoints" / "last.ckpt"
    assert run(configure(*settings, "trainer.max_epochs=4", f"resume={last}", run_dir=tmp_path / "whole")) == 0
    again = read(last)["generated"]
    assert again["epochs"] == [1, 2, 4]
    assert all(map(torch.equal, saved["samples"], again["samples"]))


def test_noise_is_new_in_every_turn_and_batch_and_the_same_when_asked_again():
    task, x = tiny(latent_size=4, prior="uniform"), torch.zeros(5, 2)
    first = {name: task.latent(name, x) for name in ("discriminator", "generator")}
    assert not torch.equal(first["discriminator"], first["generator"])
    assert torch.equal(first["generator"], task.latent("generator", x))
    assert all(z.shape == (5, 4) and -1 <= z.min() < -0.5 and 0.5 < z.max() < 1 for z in first.values())
    task.batch_at_hand = ("val", 1)
    assert not torch.equal(first["generator"], task.latent("generator", x))
    other = copy.deepcopy(task)
    other.seed = 1
    assert not torch.equal(other.latent("generator", x), task.latent("generator", x))
