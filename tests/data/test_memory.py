import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from zoo.data.memory import Adding, CopyMemory
from zoo.errors import UserError
from zoo.tasks.sequence_prediction import SequencePrediction
from zoo.tasks.supervised import Regression

SGD = partial(torch.optim.SGD, lr=0.1)
SMALL = {"num_train": 300, "num_val": 20, "num_test": 20}


def whole(data, part: str = "train"):
    """A whole part as one batch."""
    dataset = data.prepare().parts[part]
    return dataset[torch.arange(len(dataset))]


def logged(task, batches, monkeypatch) -> dict[str, float]:
    """What a validation over these batches logs."""
    found: dict[str, float] = {}
    monkeypatch.setattr(task, "log_dict", lambda values, **options: found.update(values))
    task.start("val")
    for batch in batches:
        task.evaluate("val", batch)
    task.finish("val")
    return {name.removeprefix("val/"): float(value) for name, value in found.items()}


class Ones(nn.Module):
    """Always 1."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.ones(len(x), 1)


class Timekeeper(nn.Module):
    """Knows when to speak and remembers nothing."""

    def __init__(self, wait: int) -> None:
        super().__init__()
        self.silent = wait + 10

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, None]:
        logits = torch.full((*mask.shape, 10), -1e4)
        logits[:, : self.silent, 0] = 1e4
        logits[:, self.silent :, 1:9] = 0.0  # the eight symbols alike
        return logits, None


@pytest.mark.parametrize("length", [2, 3, 50])
def test_the_target_is_the_sum_of_the_two_marked_values(length):
    batch = whole(Adding(length=length, **SMALL))
    assert batch.x.shape == (300, length, 2)
    assert batch.mask.shape == (300, length)
    assert batch.mask.all()
    for x, target in zip(batch.x.tolist(), batch.target.tolist(), strict=True):
        marked = [value for value, mark in x if mark == 1.0]
        assert len(marked) == 2
        assert sum(mark for _, mark in x) == 2
        assert target == [pytest.approx(sum(marked), abs=1e-6)]
    assert 0 <= batch.x[..., 0].min() < 0.05
    assert 0.95 < batch.x[..., 0].max() < 1


def test_every_pair_of_places_is_marked_equally_often():
    batch = whole(Adding(length=4, num_train=6000))
    pairs = torch.unique(batch.x[..., 1], dim=0, return_counts=True)[1]
    assert len(pairs) == 6
    assert ((pairs - 1000).abs() < 150).all()  # five deviations


def test_always_answering_1_has_an_error_of_one_sixth_in_the_targets_own_units(monkeypatch):
    data = Adding(length=20, num_val=20_000)
    loaded = data.prepare()
    assert "target_mean" not in loaded.facts
    task = Regression(Ones(), SGD, num_targets=1)
    found = logged(task, [loaded.parts["val"][i] for i in torch.arange(20_000).split(7000)], monkeypatch)
    target = whole(data, "val").target.double()
    assert found["mse"] == pytest.approx((target - 1).square().mean().item(), rel=1e-5)
    assert found["loss"] == pytest.approx(found["mse"], rel=1e-5)
    assert found["mse"] == pytest.approx(1 / 6, abs=0.006)  # three deviations of the mean of 20,000


def test_the_inputs_of_copying_are_the_symbols_a_wait_and_marks():
    batch = whole(CopyMemory(wait=4, **SMALL))
    seen = batch.x.argmax(2)  # (N, 24)
    assert batch.x.shape == (300, 24, 10)
    assert (batch.x.sum(2) == 1).all()
    assert batch.mask.all()
    for inputs, target in zip(seen.tolist(), batch.target.tolist(), strict=True):
        symbols = inputs[:10]
        assert set(symbols) <= set(range(1, 9))
        assert inputs == symbols + [0] * 3 + [9] * 11
        assert target == [0] * 14 + symbols
    assert set(seen[:, :10].flatten().tolist()) == set(range(1, 9))


@pytest.mark.parametrize("wait", [1, 100])
def test_who_knows_when_to_speak_and_remembers_nothing_has_the_baseline(wait, monkeypatch):
    data = CopyMemory(wait=wait, **SMALL)
    task = SequencePrediction(Timekeeper(wait), SGD, loss="cross_entropy")
    found = logged(task, [data.part("val")[i] for i in torch.arange(20).split(7)], monkeypatch)
    assert found["loss"] == pytest.approx(10 * math.log(8) / (wait + 20), rel=1e-6)
    assert data.baseline == pytest.approx(found["loss"], rel=1e-6)
    assert f"{data.baseline:.4f}" in data.prepare().notes[0]


@pytest.mark.parametrize("kind", [Adding, CopyMemory])
def test_the_seed_makes_the_data_and_each_part_has_its_own(kind):
    first, again, other = (kind(seed=seed, **SMALL) for seed in (3, 3, 4))
    assert first.prepare().fingerprint == again.prepare().fingerprint != other.prepare().fingerprint
    parts = [whole(first, part).x[:20] for part in ("train", "val", "test")]
    assert not any(torch.equal(a, b) for a, b in [parts[:2], parts[1:], parts[::2]])
    larger = kind(seed=3, **SMALL | {"num_train": 400})
    assert all(torch.equal(whole(larger, part).x, whole(first, part).x) for part in ("val", "test"))


def test_the_facts_are_those_of_a_batch():
    for data, outputs in [(Adding(length=7, **SMALL), "num_targets"), (CopyMemory(wait=7, **SMALL), "num_classes")]:
        facts, batch = data.prepare().facts, next(iter(data.train_dataloader()))
        assert batch.x.shape[1:] == (facts["seq_len"], facts["input_size"])
        assert facts[outputs] == (1 if outputs == "num_targets" else 10)
        assert int(batch.target.max()) < facts[outputs] + 1


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Adding(length=1), "data.length=1 must be a whole number from 2 on"),
    (lambda: Adding(num_val=0), "data.num_val=0 must be a whole number from 1 on"),
    (lambda: CopyMemory(wait=0), "data.wait=0 must be a whole number from 1 on"),
])  # fmt: skip
def test_sizes_that_cannot_be_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
