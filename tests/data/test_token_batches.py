"""Batches by the number of tokens: bounded, whole, others in each epoch, and as many."""

from itertools import zip_longest

import pytest
import torch

from zoo.data.base import BatchOrder
from zoo.data.token_batches import TokenBatches
from zoo.errors import UserError


def lengths_of(number, *, seed=0):
    """Lengths from 1 on, most of them short, a few very long."""
    generator = torch.Generator().manual_seed(seed)
    return 1 + (torch.randn(number, generator=generator).mul(0.6).add(2.3).exp()).long().clamp(max=90)


CASES = [(1, 100), (2, 3), (40, 100), (777, 91), (3000, 500), (3000, 4096)]


def lengths_for(number, batch_tokens):
    return lengths_of(number).clamp(max=batch_tokens)


@pytest.mark.parametrize(("number", "batch_tokens"), CASES)
@pytest.mark.parametrize("shuffle", [True, False])
def test_each_sample_comes_once_no_batch_is_too_large_and_every_epoch_has_as_many(number, batch_tokens, shuffle):
    lengths = lengths_for(number, batch_tokens)
    order = TokenBatches(lengths, batch_tokens, shuffle=shuffle)
    counts = set()
    for epoch in range(4):
        order.set_epoch(epoch)
        batches = list(order)
        assert sorted(torch.cat(batches).tolist()) == list(range(number))
        assert max(len(batch) * int(lengths[batch].max()) for batch in batches) <= batch_tokens
        counts.add(len(batches))
    assert counts == {len(order)}


def test_no_more_batches_than_the_places_ask_for_and_none_with_next_to_nothing():
    lengths = lengths_of(3000)
    order = TokenBatches(lengths, 1000, shuffle=True)
    places = [len(batch) * int(lengths[batch].max()) for batch in order]
    assert len(order) < 1.12 * int(lengths.sum()) / 1000
    assert min(places) > 300


@pytest.mark.parametrize(("longer", "sizes"), [([20], [96, 5]), ([10] * 3, [93, 10]), ([50], [100, 1])])
def test_a_rest_takes_no_more_from_a_batch_of_short_ones_than_has_room_beside_it(longer, sizes):
    """A hundred samples of one token, then longer ones: of 20 tokens, five samples fill a batch of 100 places."""
    order = TokenBatches(torch.tensor([1] * 100 + longer), 100, shuffle=False)
    batches = list(order)
    assert [len(batch) for batch in batches] == sizes
    assert torch.cat(batches).tolist() == list(range(100 + len(longer)))


def test_a_batch_holds_much_less_padding_than_one_of_random_samples():
    lengths = lengths_of(3000)

    def padding(order):
        places = sum(int(lengths[batch].max()) * len(batch) for batch in order)
        return 1 - int(lengths.sum()) / places

    by_tokens = TokenBatches(lengths, 1000, shuffle=True)
    random = BatchOrder(3000, 3000 // len(by_tokens), shuffle=True)
    assert padding(by_tokens) < 0.1 * padding(random)


@pytest.mark.parametrize("world_size", [2, 3])
def test_several_processes_share_the_batches_that_one_sees(world_size):
    lengths = lengths_of(500)
    whole = list(TokenBatches(lengths, 300, shuffle=True, seed=3))
    ranks = [
        list(TokenBatches(lengths, 300, shuffle=True, seed=3, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for batch, *pieces in zip(whole, *ranks, strict=True):
        mixed = [index for some in zip_longest(*(piece.tolist() for piece in pieces)) for index in some]
        assert [index for index in mixed if index is not None] == batch.tolist()


def test_the_order_depends_on_seed_and_epoch_alone_and_mixes_samples_and_lengths():
    lengths = lengths_of(2000)

    def batches(seed, epoch):
        order = TokenBatches(lengths, 400, shuffle=True, seed=seed)
        order.set_epoch(epoch)
        torch.rand(1)  # nobody else's random numbers matter
        return [tuple(batch.tolist()) for batch in order]

    one = batches(0, 2)
    assert one == batches(0, 2)
    for other in (batches(0, 3), batches(1, 2)):
        assert len(other) == len(one)
        assert len(set(map(frozenset, one)) & set(map(frozenset, other))) < 0.1 * len(one)
    means = torch.tensor([lengths[list(batch)].double().mean() for batch in one])
    falls = float((means.diff() < 0).double().mean())
    assert 0.35 < falls < 0.65  # short and long ones take turns


@pytest.mark.parametrize("first", [0, 1, 7])
def test_an_epoch_goes_on_with_the_batch_that_comes_next(first):
    order = TokenBatches(lengths_of(500), 300, shuffle=True)
    order.set_epoch(4)
    whole = [batch.tolist() for batch in order]
    order.first_batch = first
    assert [batch.tolist() for batch in order] == whole[first:]
    order.first_batch = len(whole)
    assert list(order) == []


def test_a_sample_that_fits_into_no_batch_is_one_line():
    with pytest.raises(UserError, match=r"data\.batch_tokens=40 has no room .* of 41 tokens.*data\.max_len"):
        TokenBatches(torch.tensor([3, 41, 5]), 40, shuffle=True)
    assert len(TokenBatches(torch.tensor([3, 40, 5]), 40, shuffle=True)) == 2
