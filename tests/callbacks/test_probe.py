"""A node is the one that the table of layers addresses, and its answers are drawn."""

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from zoo.callbacks.layer_table import layer_table
from zoo.callbacks.probe import answers
from zoo.errors import UserError
from zoo.models.lenet5 import LeNet5
from zoo.models.mlp import MLP
from zoo.run import configure, run


def inputs(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (MLP(in_features=64, out_features=10, hidden_features=[32, 5]), inputs(7, 1, 8, 8)),
        (LeNet5(in_channels=1, image_size=28, num_classes=10), inputs(7, 1, 28, 28)),
    ],
)
def test_every_address_of_the_table_is_a_node_and_the_next_one_is_none(model, x):
    rows = layer_table(model, (x,))
    for row in rows:
        last = int(row["nodes"].rpartition("N[")[2].partition("]")[0])
        assert answers(model, (x,), row["L"], last).shape == (7,)
        with pytest.raises(UserError, match=f"nodes 1 to {last}"):
            answers(model, (x,), row["L"], last + 1)
    with pytest.raises(UserError, match=f"this network has 0 to {len(rows) - 1}"):
        answers(model, (x,), len(rows), 1)


def test_a_node_is_counted_from_1_and_answers_behind_its_activation():
    """N[2][1] of two units with weights 1 and -1: on 3 and -3 the second says 0 and 3."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).train()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model[0].bias.zero_()
    x = torch.tensor([[3.0], [-3.0]])
    assert answers(model, (x,), 1, 2).tolist() == [0.0, 3.0]
    assert answers(model, (x,), 0, 1).tolist() == [3.0, -3.0]
    torch.testing.assert_close(answers(model, (x,), 2, 1), model(x)[:, 0].detach())
    assert model.training, "as it was"


def test_a_layer_that_is_used_twice_has_two_addresses():
    shared = nn.Linear(2, 2)
    model, x = nn.Sequential(shared, nn.Tanh(), shared), inputs(3, 2)
    torch.testing.assert_close(answers(model, (x,), 1, 1), torch.tanh(shared(x))[:, 0].detach())
    torch.testing.assert_close(answers(model, (x,), 2, 1), shared(torch.tanh(shared(x)))[:, 0].detach())


@pytest.mark.usefixtures("no_pictures")
def test_a_run_draws_the_node_before_training_and_after_each_epoch(tmp_path):
    typed = (
        "callbacks.probe.layer=1",
        "callbacks.probe.node=3",
        "trainer.max_epochs=2",
        "trainer.limit_train_batches=4",
    )
    run(configure(*typed, run_dir=tmp_path))
    board = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0})
    board.Reload()
    assert [event.step for event in board.Histograms("probe/N[3][1]")] == [0, 4, 8]
    assert all(event.histogram_value.num == 256 for event in board.Histograms("probe/N[3][1]")), "of its samples"


@pytest.mark.parametrize(
    ("typed", "said"),
    [("layer=9", "this network has 0 to 2"), ("layer=-1", "from 0 on"), ("layer=one", "layer=one must be"),
     ("layer=2 callbacks.probe.node=11", "nodes 1 to 10")],
)  # fmt: skip
def test_an_address_of_nothing_is_one_line(typed, said, tmp_path):
    words = [word if "." in word else f"callbacks.probe.{word}" for word in typed.split()]
    with pytest.raises(UserError, match=said.replace("[", r"\[")):
        run(configure(*words, "trainer.max_epochs=1", run_dir=tmp_path))
