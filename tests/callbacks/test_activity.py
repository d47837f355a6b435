import pytest
import torch
from torch import nn

from zoo.callbacks.activity import activity, alike, shares, slope, table, watch, written
from zoo.models.lenet5 import LeNet5
from zoo.models.mlp import MLP


def inputs(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_a_unit_is_dead_that_fires_for_no_sample():
    model = MLP(in_features=4, out_features=2, hidden_features=[10])
    model.hidden[0].linear.bias.data[:3] = -100.0
    (row,) = activity(model, (inputs(50, 4),))
    assert row["dead"] == pytest.approx(0.3)
    assert (row["layer"], row["activation"], row["units"]) == ("hidden.0.linear", "ReLU", 10)
    hidden = model.hidden(inputs(50, 4))
    assert row["size"] == pytest.approx(hidden.square().mean().sqrt().item(), rel=1e-5)


def test_a_leaky_unit_is_never_dead_for_its_gradient_passes():
    model = MLP(in_features=4, out_features=2, hidden_features=[10], activation="LeakyReLU")
    model.hidden[0].linear.bias.data.fill_(-100.0)
    assert activity(model, (inputs(50, 4),))[0]["dead"] == 0


@pytest.mark.parametrize(("activation", "edge"), [("Tanh", 2.18), ("Sigmoid", 4.36), ("Hardtanh", 1.0)])
def test_an_answer_is_saturated_where_a_twentieth_of_the_slope_is_left(activation, edge):
    """tanh' = 0.05 at 2.18, sigmoid' = 0.05 / 4 at 4.36."""
    model = nn.Sequential(nn.Linear(1, 1), getattr(nn, activation)(), nn.Linear(1, 1))
    model[0].weight.data.fill_(1.0)
    model[0].bias.data.zero_()
    x = torch.tensor([0.0, 0.98 * edge, -0.98 * edge, 1.02 * edge, -1.02 * edge])[:, None]
    assert activity(model, (x,))[0]["saturated"] == pytest.approx(2 / 5)


def test_channels_count_as_units_and_a_shared_activation_has_a_row_for_each_use():
    model = LeNet5(in_channels=1, image_size=28, num_classes=10, activation="ReLU")
    model.c1.bias.data[0] = -100.0
    rows = activity(model, (inputs(7, 1, 28, 28),))
    assert [(row["layer"], row["units"]) for row in rows] == [("c1", 6), ("c3", 16), ("c5", 120), ("f6", 84)]
    assert rows[0]["dead"] == pytest.approx(1 / 6)


def test_a_channel_lives_that_fires_at_one_place_of_one_image():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(9, 1))
    model[0].weight.data.fill_(1.0)
    model[0].bias.data.zero_()
    x = torch.full((5, 1, 3, 3), -1.0)
    assert activity(model, (x,))[0]["dead"] == 1
    x[3, 0, 2, 1] = 1.0
    assert activity(model, (x,))[0]["dead"] == 0


def test_units_over_time_are_found_on_the_last_axis_of_a_dense_layer():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    assert activity(model, (inputs(3, 5, 4),))[0]["units"] == 6


@pytest.mark.parametrize("inplace", [False, True])
def test_an_activation_that_overwrites_its_input_is_measured_alike(inplace):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=inplace), nn.Linear(8, 2))
    model[0].bias.data[:2] = -100.0
    model[0].bias.data[2:] = 100.0
    assert activity(model, (inputs(9, 4),))[0]["dead"] == pytest.approx(0.25)


def test_the_activation_of_the_output_is_no_hidden_one():
    assert (
        activity(MLP(in_features=4, out_features=2, hidden_features=[], output_activation="Sigmoid"), (inputs(3, 4),))
        == []
    )


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "GELU", "SiLU", "ELU", "Sigmoid", "Tanh", "Hardtanh"])
def test_a_slope_is_the_derivative(name):
    module, x = getattr(nn, name)(), inputs(200).double()
    step = 1e-6
    by_differences = (module(x + step) - module(x - step)) / (2 * step)
    torch.testing.assert_close(slope(module, x), by_differences, rtol=1e-4, atol=1e-6)


def test_equal_units_are_alike_and_those_that_are_0_do_not_count():
    y = inputs(30, 6)
    assert alike(y) == 0
    y[:, 4] = y[:, 1]
    assert alike(y) == pytest.approx(2 / 6)
    y[:, 5] = 0
    assert alike(y) == pytest.approx(2 / 5)
    y[:, 0] = y[:, 4] * (1 + 1e-7)  # but for rounding
    assert alike(y) == pytest.approx(3 / 5)
    assert alike(torch.zeros(30, 6)) == 0


def test_shares_count_each_unit_once():
    rows = [{"units": 10, "dead": 1.0, "alike": 0.0}, {"units": 30, "dead": 0.0, "alike": 0.5}]
    assert shares(rows) == {"dead_share": 0.25, "alike_share": 0.375}
    assert shares([]) == {}


def test_the_table_leaves_out_what_an_activation_has_not():
    row = {"layer": "c1", "activation": "Tanh", "units": 6, "size": 0.12345, "saturated": 0.256, "alike": 0.0}
    found = written(row)
    assert (found["size"], found["dead"], found["saturated"], found["alike"]) == ("0.123", "", "26 %", "0 %")


@pytest.mark.parametrize("training", [True, False])
def test_watching_changes_nothing(training):
    model = MLP(in_features=4, out_features=2, hidden_features=[6], normalization="BatchNorm1d", dropout=0.5)
    model.train(training)
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    activity(model, (inputs(9, 4),))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert model.training is training
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_hooks_go_where_the_model_fails():
    model = MLP(in_features=4, out_features=2)
    with pytest.raises(RuntimeError):
        watch(model, (inputs(9, 5),), lambda seen: None)
    assert not any(module._forward_hooks for module in model.modules())


def test_the_table_has_no_column_that_is_empty():
    relu = {"layer": "a", "activation": "ReLU", "units": 4, "size": 0.5, "dead": 0.25, "alike": 0.0}
    tanh = {"layer": "b", "activation": "Tanh", "units": 4, "size": 0.5, "saturated": 0.5, "alike": 0.0}
    assert list(table([relu])[0]) == ["layer", "activation", "units", "size", "dead", "alike"]
    assert [row["dead"] for row in table([relu, tanh])] == ["25 %", ""]
    assert [row["saturated"] for row in table([relu, tanh])] == ["", "50 %"]
