import contextlib
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import zoo.layers.attention as attention_module
from zoo.errors import UserError
from zoo.layers.attention import (
    LANES,
    MultiHeadAttention,
    attend,
    attention_weights,
    causal_mask,
    filled_up,
    watched,
)
from zoo.layers.positional import Rotary

B, H, T, S, D = 2, 2, 5, 7, 8  # d is 4


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def mask_of(shape, seed=3):
    """Some may be seen; each query sees the first key."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.5
    mask[..., 0] = True
    return mask


def close(ours, theirs, **options):
    torch.testing.assert_close(ours, theirs, **{"rtol": 0, "atol": 1e-12} | options)


def gradients(output, inputs):
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(9), dtype=output.dtype)
    return torch.autograd.grad((output * weights).sum(), inputs, retain_graph=True)


def by_hand(q, k, v, mask, is_causal):
    """One query at a time: equation 1."""
    rows = []
    for t in range(q.shape[2]):
        seen = mask.expand(B, H, q.shape[2], S)[:, :, t]  # (B, H, S)
        if is_causal:
            seen = seen & (torch.arange(S) <= S - q.shape[2] + t)
        exponents = ((q[:, :, t : t + 1] * k).sum(3) / math.sqrt(q.shape[3])).exp() * seen  # (B, H, S)
        rows.append(((exponents / exponents.sum(2, keepdim=True)).unsqueeze(3) * v).sum(2))
    return torch.stack(rows, 2)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("masked", ["nothing", "keys", "pairs"])
@pytest.mark.parametrize("num_queries", [1, T, S])
def test_the_kernel_and_the_weights_are_equation_1_forward_and_backward(num_queries, masked, is_causal):
    q, k, v = normal(B, H, num_queries, 4), normal(B, H, S, 4, seed=1), normal(B, H, S, 4, seed=2)
    mask = mask_of((B, 1, num_queries if masked == "pairs" else 1, S)) if masked != "nothing" else None
    expected = by_hand(q, k, v, torch.ones(S, dtype=torch.bool) if mask is None else mask, is_causal)
    weights = attention_weights(q, k, mask, is_causal=is_causal)
    close(weights.sum(3), torch.ones(B, H, num_queries, dtype=torch.float64))
    for found in (attend(q, k, v, mask, is_causal=is_causal), weights @ v):
        close(found, expected)
        for ours, theirs in zip(gradients(found, (q, k, v)), gradients(expected, (q, k, v)), strict=True):
            close(ours, theirs)


def test_new_queries_see_all_that_came_before_them():
    assert torch.equal(causal_mask(2, 5).int(), torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]))
    q, k, v = (normal(B, H, S, 4, seed=i) for i in range(3))
    whole = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    for newest in range(1, S + 1):
        close(attend(q[:, :, -newest:], k, v, is_causal=True), whole[:, :, -newest:])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_query_that_may_see_nothing_gets_0_and_gives_no_gradient(dtype, dropout):
    q, k, v = (normal(B, H, T, 4, seed=i, dtype=dtype) for i in range(3))
    mask = torch.ones(B, 1, T, T, dtype=torch.bool)
    mask[0, :, 1], mask[1] = False, False
    found = attend(q, k, v, mask, dropout=dropout)
    for output in (found, attention_weights(q, k, mask) @ v):
        assert not output[0, :, 1].any()
        assert not output[1].any()
        assert output[0, :, 0].any()
        for i, gradient in enumerate(gradients(output, (q, k, v))):
            assert gradient.isfinite().all()
            assert not gradient[1].any()
            assert i > 0 or not gradient[0, :, 1].any()
    layer = MultiHeadAttention(D, H).to(dtype)
    output = layer(normal(B, T, D, dtype=dtype), mask=torch.zeros(B, T, dtype=torch.bool))
    assert torch.equal(output, layer.out.bias.expand_as(output))


def pair_of_layers(bias=True):
    """Ours and torch's with the same weights."""
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(D, H, bias=bias, batch_first=True).double()
    ours = MultiHeadAttention(D, H, bias=bias).double()
    for one, other in NAMES.items():
        if bias or one.endswith("weight"):
            nn.init.normal_(dict(theirs.named_parameters())[other])
            ours.get_parameter(one).data.copy_(theirs.get_parameter(other))
    return ours, theirs


NAMES = {
    "qkv.weight": "in_proj_weight",
    "qkv.bias": "in_proj_bias",
    "out.weight": "out_proj.weight",
    "out.bias": "out_proj.bias",
}
CASES = ("plain", "padding", "pairs", "causal", "causal_padding", "cross", "cross_padding", "no_bias")


def test_rows_that_share_a_memory_find_what_each_finds_in_its_own():
    torch.manual_seed(0)
    layer = MultiHeadAttention(D, H).double()
    query, memory, mask = normal(3 * B, T, D), normal(B, S, D, seed=1), mask_of((B, S))
    expected = layer(query, memory.repeat_interleave(3, 0), mask=mask.repeat_interleave(3, 0))
    for shared in (memory, layer.keys_values(memory)):
        found = layer(query, shared, mask=mask)
        close(found, expected)
        for a, b in zip(gradients(found, (query, memory)), gradients(expected, (query, memory)), strict=True):
            close(a, b)


@pytest.mark.parametrize("case", CASES)
def test_equals_torch_multihead_attention_forward_and_backward(case):
    ours, theirs = pair_of_layers(bias=case != "no_bias")
    query, memory = normal(B, T, D), normal(B, S, D, seed=1)
    attended = memory if "cross" in case else query
    padding = mask_of((B, attended.shape[1])) if "padding" in case else None
    pairs = mask_of((B, T, T)) if case == "pairs" else None
    hidden = pairs if pairs is not None else causal_mask(T, T) if "causal" in case else None
    with watched(ours) as seen:
        found = ours(
            query,
            memory if "cross" in case else None,
            mask=padding if pairs is None else pairs,
            is_causal="causal" in case,
        )
    expected, weights = theirs(
        query,
        attended,
        attended,
        key_padding_mask=None if padding is None else ~padding,
        attn_mask=None if hidden is None else ~(hidden.repeat_interleave(H, 0) if hidden.ndim == 3 else hidden),
        average_attn_weights=False,
    )
    close(found, expected)
    close(seen[""], weights.detach())
    inputs = (query, memory) if "cross" in case else (query,)
    for a, b in zip(gradients(found, inputs), gradients(expected, inputs), strict=True):
        close(a, b)
    names = [name for name, _ in ours.named_parameters()]
    found, expected = (gradients(y, list(m.parameters())) for y, m in ((found, ours), (expected, theirs)))
    expected = dict(zip((name for name, _ in theirs.named_parameters()), expected, strict=True))
    for name, gradient in zip(names, found, strict=True):
        assert gradient.any(), name
        close(gradient, expected[NAMES[name]])


def test_gradients_are_those_of_finite_differences():
    ours, _ = pair_of_layers()
    mask = torch.tensor([[True, True, False], [False, False, False]])
    inputs = normal(B, 2, D), normal(B, 3, D, seed=1)
    assert torch.autograd.gradcheck(lambda x, memory: ours(x, memory, mask=mask), inputs)


@pytest.mark.parametrize("rotary", [None, Rotary(4)])
def test_a_sequence_read_in_pieces_is_the_whole_one(rotary):
    ours, _ = pair_of_layers()
    x = normal(B, S, D)
    mask = torch.arange(S) >= torch.tensor([[0], [2]])  # the second one begins with padding
    whole = ours(x, mask=mask, is_causal=True, rotary=rotary)
    pieces, cache = [], ()
    for start, end in ((0, 3), (3, 4), (4, 6), (6, 7)):
        piece, cache = ours(x[:, start:end], mask=mask[:, :end], is_causal=True, cache=cache, rotary=rotary)
        pieces.append(piece)
        assert cache[0].shape == cache[1].shape == (B, H, end, 4)
    close(torch.cat(pieces, 1), whole)
    if rotary is not None:
        assert not torch.allclose(whole, ours(x, mask=mask, is_causal=True))


@pytest.mark.parametrize("places", [1, 15, 16, 17])
@pytest.mark.parametrize("masked", [False, True])
def test_a_memory_that_is_filled_up_says_the_same(places, masked):
    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 2).double()
    query, memory = torch.randn(2, 3, 8).double(), torch.randn(2, places, 8).double()
    mask = torch.arange(places) < torch.tensor([[1], [places]]) if masked else None
    filled, its_mask = filled_up(memory, mask)
    assert filled.shape[1] % LANES == 0
    assert filled.shape[1] - places < LANES
    close(layer(query, filled, mask=its_mask), layer(query, memory, mask=mask))


def test_a_memory_is_projected_once_for_many_calls():
    ours, _ = pair_of_layers()
    query, memory, mask = normal(B, T, D), normal(B, S, D, seed=1), mask_of((B, S))
    projected = ours.keys_values(memory)
    with torch.no_grad():
        memory.zero_()  # it is not looked at again
    expected = ours(query, normal(B, S, D, seed=1), mask=mask)
    close(torch.cat([ours(query[:, t : t + 1], projected, mask=mask) for t in range(T)], 1), expected)


def test_dropout_hides_weights_in_training_alone():
    torch.manual_seed(0)
    layer = MultiHeadAttention(D, H, dropout=0.25)
    nn.init.eye_(layer.out.weight)
    layer.qkv.weight.data[2 * D :] = 0
    nn.init.ones_(layer.qkv.bias)  # every value is 1, so what comes out is the sum of the weights
    nn.init.zeros_(layer.out.bias)
    x = torch.randn(4, 64, D)
    sums = layer(x).detach()
    assert sums.std() > 0.02
    assert abs(sums.mean().item() - 1) < 0.01
    torch.testing.assert_close(layer.eval()(x), torch.ones_like(x))


def test_weights_are_computed_only_where_they_are_wanted(monkeypatch):
    model = nn.ModuleDict({"a": MultiHeadAttention(D, H), "b": MultiHeadAttention(D, H)})
    x, memory = normal(B, T, D, dtype=torch.float32), normal(B, S, D, dtype=torch.float32)
    plain = model["a"](x)
    with contextlib.suppress(KeyError), watched(model) as found:
        assert torch.equal(model["a"](x), plain)
        model["b"](x, memory)
        raise KeyError  # and afterwards nothing is watched all the same
    assert {name: weights.shape for name, weights in found.items()} == {"a": (B, H, T, T), "b": (B, H, T, S)}
    assert not any(weights.requires_grad for weights in found.values())
    monkeypatch.setattr(attention_module, "attention_weights", None)  # would fail if it were called
    model["a"](x)
    assert found["a"].shape == (B, H, T, T)


@pytest.mark.parametrize("is_causal", [False, True])
def test_what_is_kept_for_the_backward_pass_is_linear_in_the_length(is_causal):
    def kept(length):
        sizes = {}

        def note(x):
            sizes[x.data_ptr()] = x.numel()
            return x

        layer = MultiHeadAttention(D, H)
        mask = None if is_causal else torch.ones(1, length, dtype=torch.bool)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            layer(torch.randn(1, length, D), mask=mask, is_causal=is_causal)
        return sum(sizes.values())

    assert kept(2048) < 4.5 * kept(512)  # 16 times as much with the weights


def test_heads_of_unequal_width_are_one_line():
    with pytest.raises(UserError, match=r"model\.d_model=10 cannot be cut into model\.num_heads=3"):
        MultiHeadAttention(10, 3)
