"""scripts/benchmark_sequences.py: the two ways over sequences of different lengths do the same work in turns."""

import importlib
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts")
    return importlib.import_module("benchmark_sequences")


@pytest.mark.parametrize("cell", [nn.RNN, nn.GRU, nn.LSTM])
def test_both_ways_read_the_same_sequences_and_each_goes_back_through_them(cell, benchmark, monkeypatch):
    """The lengths are from half the longest to all of it; a way that read less would be faster for that alone."""
    read, gradients = [], []

    def ours(layer, x, real):
        outputs = over_real_steps(layer, x, real)
        outputs[0].register_hook(lambda gradient: gradients.append(("ours", gradient.clone())))
        read.append(("ours", real.tolist(), outputs[0].detach().sum()))
        return outputs

    def theirs(packed, **options):
        outputs = unpack(packed, **options)
        outputs[0].register_hook(lambda gradient: gradients.append(("theirs", gradient.clone())))
        read.append(("theirs", outputs[1].tolist(), outputs[0].detach().sum()))
        return outputs

    over_real_steps, unpack = benchmark.over_real_steps, benchmark.pad_packed_sequence
    monkeypatch.setattr(benchmark, "over_real_steps", ours)
    monkeypatch.setattr(benchmark, "pad_packed_sequence", theirs)
    rates = {}

    def ratios(one, other, rounds):
        rates.update(ours=[one() for _ in range(rounds)], theirs=[other() for _ in range(rounds)])
        return {}

    assert benchmark.lengths(cell, 12, 5, 2, ratios) == {"unit": "sequences a second"}
    assert [name for name, *_ in read] == [name for name, _ in gradients] == ["ours", "theirs", *["ours"] * 2,
                                                                              *["theirs"] * 2]  # fmt: skip
    lengths = {tuple(real) for _, real, _ in read}
    (real,) = lengths
    assert max(real) == 12
    assert min(real) >= 6
    torch.testing.assert_close(torch.stack([s for *_, s in read]), read[0][2].expand(6), rtol=1e-4, atol=1e-4)
    for (_, first), (_, second) in itertools.pairwise(gradients):
        torch.testing.assert_close(first, second)
    assert min(rates["ours"] + rates["theirs"]) > 0
