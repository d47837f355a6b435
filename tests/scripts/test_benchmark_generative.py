"""scripts/benchmark_generative.py compares like with like: a bare step learns what ours learns, turn by turn."""

import copy
import importlib
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from zoo.build import build
from zoo.run import configure

SCRIPTS = Path(__file__).parents[2] / "scripts"
SMALL = {
    "rbm": (),
    "gan": ("model.generator_features=[16]", "model.discriminator_features=[8]", "model.dropout=0",
            "model.input_dropout=0"),
    "vae": ("model.hidden_features=[16]",),
}  # fmt: skip


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("benchmark_generative")


def drawn(kind):
    """Always the same numbers of a shape."""
    draw = getattr(torch, kind)
    return lambda *shape: draw(*shape, generator=torch.Generator().manual_seed(3))


class Watch(Callback):
    lean = True

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen = batch.inputs[0]


@pytest.mark.parametrize("name", list(SMALL))
def test_a_bare_step_learns_what_ours_learns(benchmark, name, tmp_path, monkeypatch):
    settings = ("data=digits", "data.batch_size=50", "trainer.max_steps=1", "trainer.limit_val_batches=0", "test=false")
    run = build(configure(*benchmark.TYPED[name], *SMALL[name], *settings, "logger=none", run_dir=tmp_path))
    before, watch = copy.deepcopy(run.task.model), Watch()
    run.trainer.callbacks.append(watch)
    uniform, normal = drawn("rand"), drawn("randn")
    monkeypatch.setattr("zoo.noise.Noise.uniform", lambda self, shape, *, like, **_: uniform(len(like), *shape))
    monkeypatch.setattr("zoo.noise.Noise.normal", lambda self, shape, *, like, **_: normal(len(like), *shape))
    run.fit()
    monkeypatch.setattr(torch, "rand_like", lambda x: uniform(*x.shape))
    monkeypatch.setattr(torch, "randn_like", lambda x: normal(*x.shape))
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: normal(*shape))
    bare = benchmark.BARE[name](before)
    assert bare(watch.seen) == pytest.approx(float(run.task.latest["loss"]), rel=1e-5)
    found = bare.parameters if name == "rbm" else before.parameters()
    for ours, theirs in zip(run.task.model.parameters(), found, strict=True):
        torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=1e-4, atol=1e-6)


def test_the_sides_take_turns_and_the_first_turn_is_warming_up(benchmark):
    now, stepped = [0.0], []

    class Loop:
        def steps(self, number):
            stepped.append(number)
            now[0] += 4.0 * number

    turns = benchmark.TakesTurns(Loop(), 5, lambda: now[0])
    for batch in range(15):
        now[0] += 1.0
        turns.on_train_batch_end(None, None, None, None, batch)
    assert stepped == [5] * 3
    assert turns.pairs == [(1e6, 4e6)] * 2


def test_every_batch_is_of_pixels_and_epochs_follow_one_another(benchmark):
    images = torch.arange(250, dtype=torch.uint8).view(250, 1, 1, 1)
    seen = []
    benchmark.BareLoop(lambda x: seen.append(x) or 0.0, images, torch.device("cpu")).steps(4)
    assert [len(x) for x in seen] == [100] * 4
    assert len(torch.cat(seen[:2]).unique()) == 200
    torch.testing.assert_close(seen[0] * 255, (seen[0] * 255).round())


def test_it_is_one_of_the_measures(call_script):
    ran = call_script("benchmark", "only=generativ")
    assert ran.status == 2
    assert "did you mean 'generative'" in ran.err
