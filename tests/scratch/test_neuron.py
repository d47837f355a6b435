from itertools import product

import pytest
import torch
from torch import Tensor

from zoo.optim import hebb_update
from zoo.scratch.neuron import logical_and, logical_not, logical_or, mcculloch_pitts

PAIRS = torch.tensor(list(product([0, 1], repeat=2)))  # (4, 2)
XOR = [0, 1, 1, 0]


def truth_table(num_inputs: int) -> Tensor:
    return torch.tensor(list(product([0, 1], repeat=num_inputs)))


@pytest.mark.parametrize("num_inputs", [1, 2, 3, 5])
@pytest.mark.parametrize(("unit", "meaning"), [(logical_and, all), (logical_or, any)])
def test_and_and_or_have_their_truth_tables(num_inputs, unit, meaning):
    table = truth_table(num_inputs)
    assert unit(table).tolist() == [int(meaning(row)) for row in table.tolist()]
    assert torch.equal(unit(table.float()), unit(table).float())


def test_not_turns_its_input_round():
    assert logical_not(torch.tensor([0, 1, 1])).tolist() == [1, 0, 0]


@pytest.mark.parametrize("num_inputs", [2, 4])
@pytest.mark.parametrize("threshold", [0, 1, 2, 4])
def test_a_unit_fires_from_its_threshold_on(num_inputs, threshold):
    table = truth_table(num_inputs)
    fires = mcculloch_pitts(table, table[:, :0], threshold)
    assert fires.tolist() == [int(sum(row) >= threshold) for row in table.tolist()]


@pytest.mark.parametrize("num_excitatory", [1, 5])
@pytest.mark.parametrize("num_inhibitory", [1, 3])
def test_one_inhibitory_input_vetoes_however_many_excite(num_excitatory, num_inhibitory):
    vetoes = truth_table(num_inhibitory)
    fires = mcculloch_pitts(torch.ones(len(vetoes), num_excitatory), vetoes, threshold=1)
    assert fires.tolist() == [float(not any(row)) for row in vetoes.tolist()]


def test_two_layers_of_units_compute_xor():
    a, b = PAIRS[:, :1], PAIRS[:, 1:]
    only_a, only_b = mcculloch_pitts(a, b, threshold=1), mcculloch_pitts(b, a, threshold=1)
    assert logical_or(torch.stack([only_a, only_b], 1)).tolist() == XOR


def test_no_single_unit_computes_xor():
    found = set()
    for excite_a, excite_b, inhibit_a, inhibit_b in product([0, 1, 2], [0, 1, 2], [0, 1], [0, 1]):
        a, b = PAIRS[:, :1], PAIRS[:, 1:]
        excitatory = torch.cat([a] * excite_a + [b] * excite_b + [a[:, :0]], 1)
        inhibitory = torch.cat([a] * inhibit_a + [b] * inhibit_b + [a[:, :0]], 1)
        for threshold in range(6):
            found.add(tuple(mcculloch_pitts(excitatory, inhibitory, threshold).tolist()))
    assert tuple(XOR) not in found
    assert {(0, 0, 0, 1), (0, 1, 1, 1), (0, 0, 1, 0), (1, 0, 0, 0)} <= found  # and, or, a without b, neither


def test_no_single_threshold_unit_with_signed_weights_computes_xor():
    found = set()
    for w1, w2, threshold in product(range(-3, 4), range(-3, 4), range(-6, 7)):
        found.add(tuple((PAIRS @ torch.tensor([w1, w2]) >= threshold).int().tolist()))
    assert len(found) == 16 - 2
    assert set(product([0, 1], repeat=4)) - found == {tuple(XOR), (1, 0, 0, 1)}  # xor and its opposite alone


@pytest.mark.parametrize("num_inputs", [2, 4])
def test_hebbs_synapse_grows_only_where_both_ends_are_active(num_inputs):
    for x in truth_table(num_inputs).double():
        for y in torch.tensor([0.0, 1.0], dtype=torch.float64):
            grown = hebb_update(torch.zeros(num_inputs, dtype=torch.float64), x, y, lr=0.5)
            assert grown.tolist() == [0.5 if v == 1 and y == 1 else 0.0 for v in x]


@pytest.mark.parametrize(("num_units", "num_patterns"), [(8, 1), (64, 2), (100, 4)])
def test_a_memory_grown_by_hebbs_rule_recalls_a_stored_pattern_from_a_damaged_one(num_units, num_patterns):
    generator = torch.Generator().manual_seed(0)
    patterns = 2.0 * torch.randint(2, (num_patterns, num_units), generator=generator) - 1  # (P, N) of -1 and 1
    weight = torch.zeros(num_units, num_units)
    for pattern in patterns:
        weight = torch.stack([hebb_update(row, pattern, y) for row, y in zip(weight, pattern, strict=True)])
    assert torch.equal(weight, patterns.T @ patterns)  # the sum of outer products
    damaged = patterns.clone()
    damaged[:, : num_units // 10 + 1] *= -1
    assert torch.equal(torch.sign(damaged @ weight.T), patterns)
