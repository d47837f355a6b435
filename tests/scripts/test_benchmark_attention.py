"""scripts/benchmark_attention.py compares like with like: the same texts, the same lengths, turn by turn."""

import importlib
from pathlib import Path

import pytest
import torch

from zoo.errors import UserError

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def benchmark(monkeypatch):
    """scripts/benchmark_attention.py as a module, of a small Transformer."""
    monkeypatch.syspath_prepend(SCRIPTS)
    module = importlib.import_module("benchmark_attention")
    monkeypatch.setattr(module, "VOCABULARY", 50)
    monkeypatch.setattr(module, "BATCH", 4)
    monkeypatch.setattr(module, "SIZES", {"d_model": 16, "num_heads": 2, "d_ff": 24, "num_layers": 2})
    return module


def test_lengths_are_spread_as_those_of_captions(benchmark):
    for number in (64, 256):
        lengths = benchmark.lengths_like_captions(number).double()
        assert 14 < lengths.mean() < 15.5
        assert 4 < lengths.std() < 5.5
        assert lengths.min() > 4
        assert 25 < lengths.max() < 40
        assert not lengths.equal(lengths.sort().values), "they come in no order"


def test_a_marian_with_our_weights_is_the_same_function(benchmark):
    pytest.importorskip("transformers")
    model, (src, mask) = benchmark.transformer(), benchmark.sources(torch.tensor([3, 9, 1]))
    tgt = torch.randint(4, 50, (3, 5), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases, too
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
        marian = benchmark.marian_of(model)
        found = marian(input_ids=src, attention_mask=mask.long(), decoder_input_ids=tgt).logits
        torch.testing.assert_close(found, model(src, mask, tgt), rtol=0, atol=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
def test_both_sides_write_the_same_texts_to_the_same_ends(benchmark, beams):
    pytest.importorskip("transformers")
    lengths = torch.tensor([3, 9, 5, 1, 7, 2, 4, 4, 6])
    limits = lengths.flip(0) + 1
    ours, theirs = benchmark.writers("cpu")
    found = benchmark.in_batches(ours, lengths, limits, beams, by_length=True)
    assert [len(text) for text in found] == limits.tolist()
    assert found == benchmark.in_batches(theirs, lengths, limits, beams, by_length=False)


def test_the_sides_take_turns_and_the_first_turn_is_warming_up(benchmark):
    now, stepped = [0.0], []

    class Loop:
        def __init__(self, seconds):
            self.seconds = seconds

        def steps(self, number):
            stepped.append((self.seconds, number))
            now[0] += self.seconds * number

    turns = benchmark.TakesTurns({"one": Loop(2.0), "two": Loop(4.0)}, 5, lambda: now[0])
    for batch in range(15):
        now[0] += 1.0
        turns.on_train_batch_end(None, None, None, None, batch)
    assert stepped == [(2.0, 5), (4.0, 5)] * 3
    tokens = benchmark.ROWS * benchmark.WINDOW
    assert turns.pairs == {"one": [(tokens, tokens / 2)] * 2, "two": [(tokens, tokens / 4)] * 2}


def test_what_needs_transformers_is_left_out_with_a_line(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    monkeypatch.setattr(benchmark, "training", lambda *_: {"bare loop": [(1.0, 1.0)]})
    monkeypatch.setattr(benchmark, "writing", lambda *_: pytest.fail("it needs transformers"))
    monkeypatch.setattr(benchmark, "memory", lambda way, length, **_: float(length))
    figures = benchmark.attention(
        lambda ours, theirs, rounds: {"ratio": ours() / theirs()}, lambda pairs: {}, None, None, 5, 300, "cpu"
    )
    assert list(figures) == ["gpt, bare loop", "4096 to 2048 tokens", "fused to explicit"]
    assert [row.get("ratio") for row in figures.values()] == [None, 2.0, 1.0]
    assert "transformers is not installed" in capsys.readouterr().out
    assert list(benchmark.loops(torch.arange(100), 100, torch.device("cpu"))) == ["bare loop"]


@pytest.mark.slow
def test_memory_of_the_fused_kernel_is_linear_in_length(benchmark, monkeypatch):
    child = importlib.import_module("benchmark").child
    once, twice, explicit = (
        benchmark.memory(way, length, "cpu", child)
        for way, length in (("fused", 2048), ("fused", 4096), ("explicit", 2048))
    )
    assert 1.8 < twice / once < 2.3
    assert explicit > 4 * once
    with pytest.raises(UserError):
        benchmark.memory("fused", "long", "cpu", child)


def test_it_is_one_of_the_measures(call_script):
    ran = call_script("benchmark", "only=atention")
    assert ran.status == 2
    assert "did you mean 'attention'" in ran.err
