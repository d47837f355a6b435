"""Packed weights: the same answers, gradients as before, and nothing of it stays."""

import pytest
import torch
from torch import nn

from zoo import onednn
from zoo.decoding import answers
from zoo.models.transformer import Transformer
from zoo.onednn import packed

needs_onednn = pytest.mark.skipif(not onednn.can_pack(), reason="this torch has no oneDNN")


def maps():
    """A small linear map, then a large one."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 256), nn.ReLU(), nn.Linear(256, 4096))


def packs(model):
    return ["forward" in vars(module) for module in model.modules()]


@needs_onednn
@pytest.mark.parametrize("shape", [(1, 8), (7, 8), (3, 5, 8)])
def test_large_maps_are_packed_and_say_the_same(shape):
    model, x = maps(), torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    expected = model(x)
    with torch.no_grad(), packed(model):
        assert packs(model) == [False, False, False, True]
        found = model(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    apart = x.repeat_interleave(2, -1)[..., ::2]  # not laid out in a row
    with torch.inference_mode(), packed(model):
        torch.testing.assert_close(model(apart), expected, rtol=0, atol=1e-5)


@needs_onednn
def test_whoever_wants_gradients_gets_them():
    model = maps()
    with packed(model):
        model(torch.randn(2, 8)).sum().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


@needs_onednn
def test_nothing_of_it_stays_also_after_an_error_or_within_another():
    model = maps()
    with packed(model):
        with packed(model), pytest.raises(ValueError), packed(model):
            raise ValueError
        assert packs(model) == [False, False, False, True]
    assert not any(packs(model))
    with torch.no_grad():  # what is learned later counts
        model[2].weight.zero_()
        model[2].bias.zero_()
        with packed(model):
            assert not model(torch.ones(1, 8)).any()


@pytest.mark.parametrize("other", ["double", "no oneDNN", "a map of one's own"])
def test_what_cannot_be_packed_is_left_alone(other, monkeypatch):
    model = maps()
    if other == "double":
        model = model.double()
    elif other == "no oneDNN":
        monkeypatch.setattr(onednn, "can_pack", lambda: False)
    else:
        model[2] = type("Own", (nn.Linear,), {})(256, 4096)
    with packed(model):
        assert not any(packs(model))


@needs_onednn
def test_answers_are_written_by_packed_weights():
    torch.manual_seed(0)
    sizes = {"src_vocab_size": 9, "tgt_vocab_size": 2**15, "d_model": 32, "num_heads": 2, "d_ff": 16, "num_layers": 1}
    model = Transformer(**sizes).eval()
    seen, step = [], model.step

    def watched(tokens, state):
        seen.append("forward" in vars(model.output))
        return step(tokens, state)

    model.step = watched
    src = torch.randint(4, 9, (2, 3))
    answers(model, src, torch.ones(2, 3, dtype=torch.bool), bos=2, eos=3, beams=2)
    assert seen
    assert all(seen)
    assert not any(packs(model))
