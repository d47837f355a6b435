"""What a step is, what a head sees, and where recurrent layers start."""

import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.layers.recurrent import Steps, init_recurrent, pool
from zoo.models.gru import GRU
from zoo.models.lstm import LSTM
from zoo.models.rnn import RNN

MODELS = [RNN, LSTM, GRU]


def numbered(*shape):
    return torch.arange(float(torch.Size(shape).numel())).view(shape)


def test_an_image_is_read_row_by_row_or_pixel_by_pixel():
    image = numbered(2, 3, 4, 5)  # (B, C, H, W)
    rows = Steps(image_shape=(3, 4, 5))(image)
    pixels = Steps(image_shape=(3, 4, 5), reading="pixels")(image)
    assert (rows.shape, pixels.shape) == ((2, 4, 15), (2, 20, 3))
    for row in range(4):
        for column in range(5):
            of_channels = image[:, :, row, column]  # (B, C)
            assert torch.equal(pixels[:, row * 5 + column], of_channels)
            assert torch.equal(rows[:, row, column * 3 : column * 3 + 3], of_channels)


def test_a_row_of_a_table_is_a_value_a_step():
    table = numbered(2, 7)
    assert torch.equal(Steps(num_features=7)(table), table[:, :, None])


def test_the_first_form_that_the_data_gives_is_taken():
    everything = {"vocab_size": 9, "input_size": 2, "image_shape": (1, 4, 6), "num_features": 24}
    assert Steps(**everything, embedding_dim=5).size == 5
    del everything["vocab_size"]
    assert Steps(**everything).size == 2
    del everything["input_size"]
    assert Steps(**everything).size == 6
    with pytest.raises(UserError, match="needs to know its input"):
        Steps()


def test_a_head_sees_real_steps_alone():
    outputs, mask = numbered(2, 3, 4), torch.tensor([[True, True, False], [True, True, True]])
    assert torch.equal(pool(outputs, mask, "last")[0], outputs[0, 1])
    assert torch.equal(pool(outputs, mask, "mean")[0], outputs[0, :2].mean(0))
    assert torch.equal(pool(-outputs, mask, "max")[0], -outputs[0, 0])
    for how in ("last", "mean", "max"):
        assert torch.equal(pool(outputs, mask, how)[1], pool(outputs[1:], None, how)[0])


def test_of_two_directions_each_gives_its_own_last_step():
    outputs, mask = numbered(1, 3, 4), torch.tensor([[True, True, False]])
    found = pool(outputs, mask, "last", directions=2)[0]
    assert torch.equal(found, torch.cat([outputs[0, 1, :2], outputs[0, 0, 2:]]))


@pytest.mark.parametrize("model", MODELS)
def test_every_gate_starts_as_an_orthogonal_map_of_the_state(model):
    network = model(num_outputs=2, input_size=3, hidden_size=6, num_layers=2, bidirectional=True)
    matrices = [p for name, p in network.layers.named_parameters() if name.startswith("weight_hh")]
    assert len(matrices) == 4
    for matrix in matrices:
        for gate in matrix.split(6):
            torch.testing.assert_close(gate @ gate.T, torch.eye(6))


def test_the_identity_start_keeps_a_state_and_hardly_hears():
    layers = nn.RNN(3, 6, nonlinearity="relu")
    init_recurrent(layers, "identity")
    assert torch.equal(layers.weight_hh_l0, torch.eye(6))
    assert 0 < layers.weight_ih_l0.abs().max() < 0.01
    assert not layers.bias_ih_l0.any()
    assert not layers.bias_hh_l0.any()


@pytest.mark.parametrize(("model", "gate"), [(LSTM, "forget_bias"), (GRU, "update_bias")])
@pytest.mark.parametrize("how", ["orthogonal", "uniform"])
def test_a_gate_that_keeps_starts_with_its_bias_and_no_other_gate_does(model, gate, how):
    sizes = {"input_size": 3, "hidden_size": 5, "num_layers": 2, "bidirectional": True}
    network = model(num_outputs=2, recurrent_init=how, **sizes, **{gate: 7.0})
    for place in ("l0", "l0_reverse", "l1", "l1_reverse"):
        total = getattr(network.layers, f"bias_ih_{place}") + getattr(network.layers, f"bias_hh_{place}")
        assert torch.equal(total[5:10], torch.full((5,), 7.0))
        assert total[:5].abs().max() < 1
        assert total[10:].abs().max() < 1


@pytest.mark.parametrize(("model", "keeps", "takes_in"), [(LSTM, 1, 0), (GRU, 1, None)])
def test_units_start_to_remember_for_times_from_one_step_to_the_longest(model, keeps, takes_in):
    """A gate that keeps sigmoid(b) of a state keeps it for 1 / (1 - sigmoid(b)) steps."""
    torch.manual_seed(0)
    sizes = {"input_size": 3, "hidden_size": 2000, "num_layers": 2, "bidirectional": True}
    network = model(num_outputs=2, recurrent_init="uniform", longest_memory=101, **sizes)
    for place in ("l0", "l0_reverse", "l1", "l1_reverse"):
        total = getattr(network.layers, f"bias_ih_{place}") + getattr(network.layers, f"bias_hh_{place}")
        gates = total.detach().double().split(2000)
        steps = 1 / (1 - gates[keeps].sigmoid())
        assert 2 - 1e-3 < steps.min() < 2.5
        assert 100 < steps.max() < 101 + 1e-3
        assert steps.quantile(torch.tensor([0.25, 0.5, 0.75]).double()).tolist() == pytest.approx(
            [26.5, 51, 75.5], abs=5
        )
        if takes_in is not None:
            assert torch.equal(gates[takes_in], -gates[keeps])
        others = [gate for number, gate in enumerate(gates) if number not in (keeps, takes_in)]
        assert max(gate.abs().max() for gate in others) < 1


@pytest.mark.parametrize("model", [LSTM, GRU])
def test_a_memory_shorter_than_three_steps_is_refused(model):
    with pytest.raises(UserError, match="longest_memory=2: it is a number of steps from 3 on"):
        model(num_outputs=2, input_size=3, hidden_size=4, longest_memory=2)


def test_an_update_gate_that_starts_open_keeps_the_state():
    """What the state was is there after twenty steps; without that bias it is not."""

    def change(bias):
        torch.manual_seed(0)
        layers = GRU(num_outputs=2, input_size=3, hidden_size=64, update_bias=bias).layers
        was = torch.full((1, 1, 64), 0.5)
        _, now = layers(torch.zeros(1, 20, 3), was)
        return ((now - was).norm() / was.norm()).item()

    assert change(8.0) < 0.1 < change(0.0)


@pytest.mark.parametrize("model", MODELS)
def test_weights_from_the_input_start_with_the_deviation_asked_for_in_the_first_layer_alone(model):
    network = model(num_outputs=2, input_size=50, hidden_size=50, num_layers=2, bidirectional=True, input_std=0.5)
    for name, parameter in network.layers.named_parameters():
        if name.startswith("weight_ih"):
            asked = 0.5 if name.startswith("weight_ih_l0") else (2 / (100 + 50)) ** 0.5  # Xavier's, of both directions
            assert parameter.std().item() == pytest.approx(asked, rel=0.05), name


@pytest.mark.parametrize(("input_dropout", "silent"), [(None, 0.5), (0.0, 0.0), (0.9, 0.9)])
def test_steps_are_dropped_as_often_as_all_else_unless_told(input_dropout, silent):
    torch.manual_seed(0)
    network = GRU(num_outputs=2, input_size=100, hidden_size=4, dropout=0.5, input_dropout=input_dropout)
    seen = []
    network.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.ones(8, 10, 100))
    assert (seen[0] == 0).float().mean().item() == pytest.approx(silent, abs=0.02)
    assert network.drop.p == 0.5


@pytest.mark.parametrize("model", MODELS)
def test_a_next_step_head_goes_on_from_a_state_and_sees_no_later_step(model):
    network = model(num_outputs=2, vocab_size=9, hidden_size=6, num_layers=2, head="next_step").eval()
    tokens = torch.randint(9, (3, 8), generator=torch.Generator().manual_seed(0))
    whole, _ = network(tokens)
    first, state = network(tokens[:, :5])
    second, _ = network(tokens[:, 5:], state=state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)


def test_a_forecast_has_a_row_for_each_step_ahead():
    network = RNN(num_outputs=2, input_size=2, hidden_size=4, head="forecaster", horizon=3)
    with torch.no_grad():
        network.output.weight.zero_()
        network.output.bias.copy_(numbered(6))
    assert torch.equal(network(torch.rand(1, 5, 2))[0], numbered(3, 2))


@pytest.mark.parametrize(
    ("wrong", "telling"),
    [
        ({"head": "nextstep"}, "did you mean 'next_step'"),
        ({"pooling": "first"}, "There is no model.pooling=first"),
        ({"reading": "columns"}, "There is no model.reading=columns"),
        ({"recurrent_init": "zeros"}, "There is no model.recurrent_init=zeros"),
        ({"input_std": 0.0}, "model.input_std=0.0 must be a positive number"),
        ({"head": "forecaster"}, "needs model.horizon"),
        ({"head": "next_step", "bidirectional": True}, "would see the next step"),
    ],
)
def test_what_no_network_can_be_is_said_in_one_line(wrong, telling):
    with pytest.raises(UserError, match=telling):
        LSTM(num_outputs=2, input_size=3, **wrong)
