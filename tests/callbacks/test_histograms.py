"""Heaps of weights and of their gradients, as they stand in the event file."""

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.build import build
from zoo.callbacks.histograms import Histograms
from zoo.run import configure

SHORT = ("trainer.max_epochs=3", "data.batch_size=200", "trainer.num_threads=1", "trainer.gradient_clip_val=0.001")


def fitted(folder, *overrides):
    run = build(configure(*SHORT, *overrides, run_dir=folder))
    at_start = {name: p.detach().clone() for name, p in run.task.model.named_parameters()}
    run.fit()
    board = EventAccumulator(str(folder), size_guidance={"histograms": 0})
    board.Reload()
    return run, at_start, {tag: board.Histograms(tag) for tag in board.Tags()["histograms"]}


@pytest.mark.usefixtures("no_pictures")
def test_weights_stand_before_training_and_after_pictured_epochs(tmp_path):
    run, at_start, heaps = fitted(tmp_path)
    assert sorted(heaps) == [
        *("weight_gradients/1_hidden.0.linear", "weight_gradients/2_output"),
        *("weights/1_hidden.0.linear", "weights/2_output"),
    ]
    heap = heaps["weights/1_hidden.0.linear"]
    assert [one.step for one in heap] == [0, 7, 14, 21]
    now = run.task.model.get_parameter("hidden.0.linear.weight").detach()
    for found, weight in ((heap[0], at_start["hidden.0.linear.weight"]), (heap[-1], now)):
        value = found.histogram_value
        assert (value.num, value.min, value.max) == (weight.numel(), weight.min(), weight.max())
        assert value.sum == pytest.approx(weight.double().sum().item(), abs=1e-3)


@pytest.mark.usefixtures("no_pictures")
def test_gradients_are_those_of_the_last_batch_before_clipping(tmp_path):
    _, _, heaps = fitted(tmp_path)
    heap = heaps["weight_gradients/2_output"]
    assert [one.step for one in heap] == [7, 14, 21]
    length = heap[0].histogram_value.sum_squares ** 0.5
    assert length > 0.01, "clipping leaves 0.001 of the whole"


@pytest.mark.usefixtures("no_pictures")
def test_each_of_two_networks_is_read_in_its_own_turn(tmp_path):
    _, _, heaps = fitted(tmp_path, "model=gan")
    drawn = {tag.rpartition("_")[2].partition(".")[0] for tag in heaps if tag.startswith("weight_gradients")}
    assert drawn == {"generator", "discriminator"}
    steps = {tag: [one.step for one in heap] for tag, heap in heaps.items() if tag.startswith("weight_gradients")}
    assert all(found == [7, 14, 21] for found in steps.values()), "once each"


def test_what_is_no_number_is_left_out_and_sparse_gradients_are_drawn(monkeypatch):
    drawn = {}

    class Writer:
        def add_histogram(self, tag, values, step):
            drawn[tag] = (len(values), step)

    monkeypatch.setattr("zoo.callbacks.histograms.writers", lambda trainer: [Writer()])
    monkeypatch.setattr("zoo.callbacks.histograms.iterations_done", lambda trainer: 5)
    embedding = torch.nn.Embedding(4, 3, sparse=True)
    embedding(torch.tensor([1, 1])).sum().backward()
    values = {"good": torch.ones(2, 2), "lost": torch.tensor([[1.0, float("nan")]]), "sparse": embedding.weight.grad}
    Histograms()._draw(None, "weight_gradients", values)
    assert drawn == {"weight_gradients/good": (4, 5), "weight_gradients/sparse": (3, 5)}
