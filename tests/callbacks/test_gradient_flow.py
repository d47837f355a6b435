import math

import pytest
import torch
from lightning.pytorch import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.build import build
from zoo.callbacks.gradient_flow import GradientFlow, spread, weights
from zoo.errors import UserError
from zoo.models.lenet5 import LeNet5
from zoo.models.mlp import MLP
from zoo.run import configure

SHORT = ("trainer.max_epochs=3", "trainer.log_every_n_steps=5", "data.batch_size=200", "trainer.num_threads=1")
OFF = [f"callbacks.{name}=null" for name in ("gradient_flow", "activity", "kernels", "feature_maps")]


class Reference(Callback):
    """Norms of the gradients, the plain way, at every update."""

    lean = True

    def __init__(self):
        self.found = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        parameters = [p for p in pl_module.model.parameters() if p.ndim > 1]
        self.found.append([p.grad.norm().item() for p in parameters])


def fitted(folder, *overrides, also=()):
    run = build(configure(*SHORT, *overrides, run_dir=folder))
    run.trainer.callbacks.extend(also)
    run.fit()
    return run


def flow_of(run):
    return next(c for c in run.trainer.callbacks if isinstance(c, GradientFlow))


def board(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def test_lines_are_the_norms_at_the_first_update_and_at_the_last_of_pictured_epochs(tmp_path):
    reference = Reference()
    flow = flow_of(fitted(tmp_path, "trainer.max_epochs=5", "logger=none", also=[reference]))
    per_epoch = len(reference.found) // 5
    expected = {"iteration 1": reference.found[0]}
    expected |= {f"epoch {epoch}": reference.found[epoch * per_epoch - 1] for epoch in (1, 2, 4, 5)}
    assert list(flow.lines) == list(expected)
    for when, norms in expected.items():
        assert flow.lines[when] == pytest.approx(norms, rel=1e-5)


def test_scalars_of_log_steps_are_the_norms_of_that_iteration(tmp_path):
    reference = Reference()
    run = fitted(tmp_path, also=[reference])
    run.close({})
    found = board(tmp_path)
    tags = [tag for tag in found.Tags()["scalars"] if tag.startswith("gradients/")]
    assert tags == ["gradients/1_hidden.0.linear", "gradients/2_output", "gradients/first_over_last"]
    for event in found.Scalars("gradients/1_hidden.0.linear"):
        assert event.step % 5 == 0
        assert event.value == pytest.approx(reference.found[event.step - 1][0], rel=1e-5)
    first, last = reference.found[4]
    assert found.Scalars("gradients/first_over_last")[0].value == pytest.approx(first / last, rel=1e-5)


def test_gradients_are_read_before_they_are_clipped(tmp_path):
    lines = [
        flow_of(fitted(tmp_path / str(clip), "logger=none", f"trainer.gradient_clip_val={clip}")).lines["iteration 1"]
        for clip in (0.001, "null")
    ]
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=lenet5", "data.image_size=16"),
        ("model.dropout=0.3", "trainer.accumulate_grad_batches=2"),
        ("model.normalization=BatchNorm1d", "optimizer=lbfgs"),
        ("model.hidden_features=[]", "data=diabetes"),
    ],
    ids=lambda overrides: overrides[0],
)
def test_the_panels_change_no_bit_of_training(tmp_path, overrides):
    """Neither random numbers nor weights nor running statistics, with everything drawn or nothing."""
    short = ["trainer.max_epochs=2", "trainer.log_every_n_steps=1", "data.batch_size=300"]
    on = fitted(tmp_path / "on", *overrides, *short)
    off = fitted(tmp_path / "off", *overrides, *short, *OFF, "logger=none")
    on.close({})
    for (name, a), b in zip(on.task.state_dict().items(), off.task.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert "samples/gradient_flow" in board(tmp_path / "on").Tags()["images"]


def test_metrics_hold_what_was_found(tmp_path):
    run = fitted(tmp_path, "logger=none", "model.hidden_features=[16,16]")
    metrics = run.metrics("finished")
    norms = list(flow_of(run).newest.values())
    assert (metrics["gradient_first_layer"], metrics["gradient_last_layer"]) == (norms[0], norms[-1])
    assert 0 <= metrics["dead_share"] <= 1


def test_a_run_that_ends_as_nan_shows_the_gradients_it_ended_with(tmp_path):
    run = build(configure("experiment=pathology/exploding", "trainer.num_threads=1", run_dir=tmp_path))
    with pytest.raises(UserError, match="The loss became"):
        run.fit()
    assert next(iter(flow_of(run).lines)) == "iteration 1"
    assert len(flow_of(run).lines) == 2, "and the last update"
    assert len(board(tmp_path).Images("samples/gradient_flow")) == 1


class OfEachTurn(Callback):
    """{iteration: {turn: norms of the gradients of whose turn it is}}, the plain way."""

    lean = True

    def __init__(self):
        self.found = {}

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        own = getattr(pl_module.model, optimizer.turn)
        norms = {f"{optimizer.turn}.{name}": p.grad.norm().item() for name, p in own.named_parameters()}
        self.found.setdefault(optimizer.iterations, {})[optimizer.turn] = norms


@pytest.mark.parametrize("n_critic", [1, 3])
def test_networks_that_take_turns_are_both_seen(tmp_path, n_critic):
    """Also where the generator has no turn at a log step: then its gradients are those of its newest turn."""
    reference = OfEachTurn()
    small = ["model=gan", "model.generator_features=[8]", "model.discriminator_features=[8]", "task.samples=0"]
    run = fitted(tmp_path, *small, f"task.n_critic={n_critic}", also=[reference])
    run.close({})
    found = board(tmp_path)
    newest = {}
    for iteration, turns in reference.found.items():
        newest |= turns
        if iteration % 5 == 0:
            expected = {name: norm for norms in newest.values() for name, norm in norms.items() if "weight" in name}
            assert len(expected) == 4
            for number, name in enumerate(weights(run.task.model), 1):
                events = {event.step: event.value for event in found.Scalars(f"gradients/{number}_{name}")}
                assert events[iteration] == pytest.approx(expected[f"{name}.weight"], rel=1e-5)
            lengths = {turn: math.hypot(*norms.values()) for turn, norms in turns.items()}
            for turn in ("discriminator", "generator"):
                events = {event.step: event.value for event in found.Scalars(f"norms/gradient_{turn}")}
                assert (iteration in events) == (turn in newest)
                assert events.get(iteration, 0.0) == pytest.approx(math.hypot(*newest.get(turn, {}).values()), rel=1e-5)
            whole = {event.step: event.value for event in found.Scalars("norms/gradient")}
            assert whole[iteration] == pytest.approx(math.hypot(*lengths.values()), rel=1e-5)
    assert "gradients/first_over_last" not in found.Tags()["scalars"]  # no gradient goes through both
    assert flow_of(run).starts == [2]  # generator and discriminator have two layers each
    assert list(flow_of(run).lines) == [f"iteration {n_critic}", "epoch 1", "epoch 2", "epoch 3"]
    assert all(min(line) > 0 for line in flow_of(run).lines.values())


def test_lines_outlive_an_interruption():
    flow, other = GradientFlow(), GradientFlow()
    flow.lines, flow.newest = {"iteration 1": [0.5, 1.0]}, {"a": 0.25, "b": 2.0}
    other.load_state_dict(flow.state_dict())
    assert (other.lines, other.newest) == (flow.lines, flow.newest)


def test_frozen_layers_biases_and_norms_are_no_part_of_it():
    model = MLP(in_features=4, out_features=2, hidden_features=[3], normalization="BatchNorm1d")
    assert list(weights(model)) == ["hidden.0.linear", "output"]
    model.hidden.requires_grad_(False)
    assert list(weights(model)) == ["output"]
    assert list(weights(LeNet5(in_channels=1, image_size=28, num_classes=10))) == ["c1", "c3", "c5", "f6", "output"]


@pytest.mark.parametrize("number", [0, 1, 2, 6, 7, 50])
def test_a_few_layers_are_spread_over_all_with_both_ends(number):
    places = spread(number, 6)
    assert len(places) == min(number, 6)
    assert places == sorted(set(places))
    if number:
        assert (places[0], places[-1]) == (0, number - 1)
