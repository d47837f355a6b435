"""Scores as the papers print them, and shares that only real places get."""

import pytest
import torch

from zoo.errors import UserError
from zoo.layers.alignment import ALIGNMENTS, alignment

B, T, S, Q, D = 3, 4, 5, 6, 7
MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [True] + [False] * 4])


def made(name):
    """An alignment with random parameters, queries (B, T, Q) and a memory (B, S, D), in float64."""
    torch.manual_seed(0)
    size = Q if name == "dot" else D
    layer = alignment(name, Q, size).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer, torch.randn(B, T, Q).double(), torch.randn(B, S, size).double()


def printed_score(name, layer, q, m):
    """Bahdanau et al., appendix A.1.2, and Luong et al., equation 8, of one state and one place."""
    if name == "dot":
        return q @ m
    if name == "general":
        return q @ (layer.key.weight @ m)
    v = layer.score.weight[0]
    if name == "concat":
        return v @ torch.tanh(torch.cat([layer.query.weight, layer.key.weight], 1) @ torch.cat([q, m]))
    return v @ torch.tanh(layer.query.weight @ q + layer.query.bias + layer.key.weight @ m)


each = pytest.mark.parametrize("name", ALIGNMENTS)


@each
def test_context_and_weights_are_those_of_the_printed_equations(name):
    layer, query, memory = made(name)
    context, weights = layer(query, memory, MASK)
    assert torch.equal(layer(query, memory, MASK, keys=layer.keys(memory))[0], context)
    for b in range(B):
        real = int(MASK[b].sum())
        for t in range(T):
            scores = torch.stack([printed_score(name, layer, query[b, t], memory[b, s]) for s in range(real)])
            shares = scores.exp() / scores.exp().sum()
            torch.testing.assert_close(weights[b, t, :real], shares, rtol=0, atol=1e-12)
            mean = sum(share * memory[b, s] for s, share in enumerate(shares))
            torch.testing.assert_close(context[b, t], mean, rtol=0, atol=1e-12)
    assert not weights.masked_select(~MASK[:, None]).any()


@each
def test_gradients_are_right(name):
    layer, query, memory = made(name)
    inputs = (query[:2, :1].requires_grad_(), memory[:2, :4].requires_grad_(), *layer.parameters())
    assert torch.autograd.gradcheck(lambda q, m, *_: layer(q, m, MASK[:2, :4]), inputs, fast_mode=True)


@each
def test_padding_is_not_seen_whatever_stands_there(name):
    layer, query, memory = made(name)
    context, weights = layer(query, memory, MASK)
    longer = torch.cat([memory.masked_fill(~MASK[:, :, None], 1e6), torch.full_like(memory[:, :2], -1e6)], 1)
    mask = torch.cat([MASK, torch.zeros(B, 2, dtype=torch.bool)], 1)
    longer_context, longer_weights = layer(query, longer, mask)
    torch.testing.assert_close(longer_context, context, rtol=0, atol=1e-12)
    torch.testing.assert_close(longer_weights[:, :, :S], weights, rtol=0, atol=1e-12)


@each
def test_where_nothing_is_real_the_context_is_0_and_gradients_are_numbers(name):
    layer, query, memory = made(name)
    query.requires_grad_()
    mask = MASK.clone()
    mask[1] = False
    context, weights = layer(query, memory, mask)
    assert not context[1].any()
    assert not weights[1].any()
    torch.testing.assert_close(weights[[0, 2]].sum(2), torch.ones(2, T).double())
    context.square().sum().backward()
    assert not query.grad[1].any()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_what_does_not_fit_is_said_in_one_line():
    with pytest.raises(UserError, match="did you mean 'additive'"):
        alignment("aditive", Q, D)
    with pytest.raises(UserError, match=r"use model\.attention=general"):
        alignment("dot", Q, D)
