"""Every layer's weights seen as units: each unit's numbers are those that it multiplies its inputs with."""

import pytest
import torch
from torch import nn

from zoo.layers.weights import linear_maps, maps_of
from zoo.scratch.init import fans

CONVOLUTIONS = [
    nn.Conv1d(4, 6, 3),
    nn.Conv2d(4, 6, (3, 5), groups=2),
    nn.Conv3d(2, 3, 2),
    nn.ConvTranspose1d(4, 6, 3),
    nn.ConvTranspose2d(4, 6, 3, groups=2),
    nn.ConvTranspose3d(2, 3, 2),
]
LAYERS = [nn.Linear(5, 3), *CONVOLUTIONS]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_fans_are_those_of_the_written_out_twin(layer):
    (one,) = maps_of(layer)
    transposed = "Transpose" in type(layer).__name__
    assert (one.fan_in, one.fan_out) == fans(layer.weight, groups=getattr(layer, "groups", 1), transposed=transposed)


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_without_the_weights_of_a_unit_its_channel_is_the_bias_alone(layer):
    (one,) = maps_of(layer)
    unit = 4 if layer.out_channels == 6 else 1
    units = one.units.flatten(0, 1)  # a copy or a view, as the layout has it
    assert len(units) == layer.out_channels
    group, place = divmod(unit, one.units.shape[1])
    one.units[group, place].zero_()  # writes into the layer
    y = layer(torch.randn(1, layer.in_channels, *[7] * (layer.weight.ndim - 2)))
    for channel in range(layer.out_channels):
        silent = torch.allclose(y[0, channel], layer.bias[channel].expand_as(y[0, channel]))
        assert silent == (channel == unit)


@pytest.mark.parametrize(("layer", "gates"), [
    (nn.RNN(3, 5, num_layers=2), 1),
    (nn.GRU(3, 5, bidirectional=True), 3),
    (nn.LSTM(3, 5), 4),
    (nn.LSTMCell(3, 5), 4),
    (nn.GRUCell(3, 5), 3),
])  # fmt: skip
def test_each_gate_of_a_recurrent_layer_is_a_map_of_its_own(layer, gates):
    maps = maps_of(layer)
    assert {one.name for one in maps} == {name for name, p in layer.named_parameters() if p.ndim == 2}
    for one in maps:
        assert one.units.shape == (gates, 5, one.parameter.shape[1])
        assert (one.fan_in, one.fan_out) == (one.parameter.shape[1], 5)


def test_the_projection_of_an_lstm_has_no_gates():
    shapes = {one.name: tuple(one.units.shape) for one in maps_of(nn.LSTM(3, 5, proj_size=2))}
    assert shapes == {"weight_ih_l0": (4, 5, 3), "weight_hh_l0": (4, 5, 2), "weight_hr_l0": (1, 2, 5)}


@pytest.mark.parametrize(("layer", "expected"), [
    (nn.MultiheadAttention(6, 2), {"in_proj_weight": (3, 6, 6), "out_proj.weight": (1, 6, 6)}),
    (nn.MultiheadAttention(6, 2, kdim=4, vdim=5), {"q_proj_weight": (1, 6, 6), "k_proj_weight": (1, 6, 4),
                                                   "v_proj_weight": (1, 6, 5), "out_proj.weight": (1, 6, 6)}),
])  # fmt: skip
def test_query_key_and_value_are_maps_of_their_own(layer, expected):
    assert {one.name: tuple(one.units.shape) for one in linear_maps(layer)} == expected


def test_neither_norms_nor_embeddings_nor_loose_parameters_are_maps():
    model = nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm([3, 4]), nn.BatchNorm1d(3), nn.PReLU(3))
    model.register_parameter("position", nn.Parameter(torch.zeros(3, 4)))
    assert linear_maps(model) == []


def test_a_weight_that_two_layers_share_is_one_map():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    assert [one.name for one in linear_maps(nn.Sequential(first, nn.ReLU(), second))] == ["0.weight"]
