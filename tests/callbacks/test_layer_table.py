import pytest
import torch
from torch import nn

from zoo.callbacks.layer_table import layer_table
from zoo.callbacks.probe import answers
from zoo.models.gru import GRU
from zoo.models.lenet5 import LeNet5
from zoo.models.mlp import MLP
from zoo.models.perceptron import Perceptron
from zoo.pictures.layers import layer_table as as_text

CASES = {
    "mlp": (MLP(in_features=64, out_features=10, hidden_features=[32, 16]), (1, 8, 8)),
    "mlp with normalization": (
        MLP(in_features=4, out_features=1, hidden_features=[6], normalization="BatchNorm1d", dropout=0.5), (4,)
    ),
    "linear": (MLP(in_features=4, out_features=3, hidden_features=[]), (4,)),
    "lenet5": (LeNet5(in_channels=3, image_size=32, num_classes=10), (3, 32, 32)),
    "perceptron": (Perceptron(in_features=2, num_classes=1), (2,)),
}  # fmt: skip
each_case = pytest.mark.parametrize(("model", "shape"), CASES.values(), ids=CASES)


def count(text: str) -> int:
    return int(text.replace(",", ""))


def test_rows_of_an_mlp_say_layer_kind_and_size_and_address_nodes():
    rows = layer_table(MLP(in_features=64, out_features=10, hidden_features=[32]), (torch.zeros(5, 1, 8, 8),))
    assert [(row["L"], row["layer"], row["kind"], row["output"], row["nodes"], row["parameters"]) for row in rows] == [
        (0, "input", "", "1 x 8 x 8", "N[1][0] … N[64][0]", "0"),
        (1, "hidden.0.linear", "Linear", "32", "N[1][1] … N[32][1]", "2,080"),
        (2, "output", "Linear", "10", "N[1][2] … N[10][2]", "330"),
    ]


def test_the_maps_of_lenet5_have_the_sizes_of_its_figure():
    rows = layer_table(LeNet5(in_channels=1, image_size=28, num_classes=10), (torch.zeros(2, 1, 28, 28),))
    assert [row["output"] for row in rows] == ["1 x 28 x 28", "6 x 28 x 28", "16 x 10 x 10", "120", "84", "10"]
    assert [row["layer"] for row in rows] == ["input", "c1", "c3", "c5", "f6", "output"]
    assert rows[2]["nodes"] == "N[1][2] … N[1600][2]"


def test_a_layer_of_one_node_has_one_address():
    rows = layer_table(*((CASES["perceptron"][0]), (torch.zeros(3, 2),)))
    assert rows[1]["nodes"] == "N[1][1]"


@each_case
def test_levels_count_from_0_at_the_input_without_a_gap(model, shape):
    rows = layer_table(model, (torch.zeros(3, *shape),))
    assert [row["L"] for row in rows] == list(range(len(rows)))
    assert all(f"][{row['L']}]" in row["nodes"] for row in rows)


@each_case
def test_parameters_of_the_rows_sum_to_those_of_the_model(model, shape):
    rows = layer_table(model, (torch.zeros(3, *shape),))
    assert sum(count(row["parameters"]) for row in rows) == sum(p.numel() for p in model.parameters())


@each_case
@pytest.mark.parametrize("training", [True, False])
def test_looking_changes_nothing(model, shape, training):
    model.train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layer_table(model, (torch.ones(3, *shape),))
    assert model.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_that_is_used_twice_counts_its_parameters_once():
    shared = nn.Linear(4, 4)
    rows = layer_table(nn.Sequential(shared, nn.ReLU(), shared), (torch.zeros(2, 4),))
    assert sum(count(row["parameters"]) for row in rows) == 20


def test_a_loop_over_steps_has_one_row_a_layer_at_the_addresses_that_the_probe_takes():
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step, self.say, self.end = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(5):
                x = self.step(x)
                y = self.say(x)
            return self.end(y)

    model, x = Loop(), torch.rand(3, 4)
    rows = layer_table(model, (x,))
    assert [(row["layer"], row["L"]) for row in rows] == [
        ("input", 0), ("step", "1, 3, … 9"), ("say", "2, 4, … 10"), ("end", 11)
    ]  # fmt: skip
    assert [row["kind"] for row in rows[1:]] == ["Linear, 5 times", "Linear, 5 times", "Linear"]
    assert sum(count(row["parameters"]) for row in rows) == sum(p.numel() for p in model.parameters())
    torch.testing.assert_close(answers(model, (x,), 1, 2), model.step(x)[:, 1])
    torch.testing.assert_close(answers(model, (x,), 11, 1), model(x)[:, 0])


def test_attention_counts_its_output_map():
    class SelfAttention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, x)[0]

    model = SelfAttention()
    rows = layer_table(model, (torch.zeros(2, 5, 8),))
    assert sum(count(row["parameters"]) for row in rows) == sum(p.numel() for p in model.parameters())


def test_the_table_in_markdown_has_a_line_for_each_row():
    rows = layer_table(CASES["lenet5"][0], (torch.zeros(1, 3, 32, 32),))
    lines = as_text(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert lines[0] == "| L | layer | kind | output | nodes | parameters |"
    assert lines[1].count("---") == lines[0].count("|") - 1
    assert lines[3].startswith("| 1 | c1 | Conv2d | 6 x 32 x 32 | N[1][1] … N[6144][1] | 456 |")


def test_padded_sequences_have_their_rows_too():
    network = GRU(num_outputs=2, input_size=3, hidden_size=5)
    x, mask = torch.rand(2, 4, 3), torch.tensor([[True, True, False, False], [True, True, True, True]])
    rows = layer_table(network, (x, mask))
    assert [row["layer"] for row in rows] == ["input", "layers", "output"]
    assert rows[1]["output"] == "5"
