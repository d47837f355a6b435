"""Padding comes last and is said; batches are of similar lengths, and their order repeats."""

from itertools import zip_longest

import pytest
import torch

from zoo.batches import TextBatch
from zoo.data.base import BatchOrder, Loader
from zoo.data.buckets import Bucketed, Padded, Ragged


def lengths_of(number, *, seed=0):
    """From 1 to 40, few of them long."""
    generator = torch.Generator().manual_seed(seed)
    return 1 + (39 * torch.rand(number, generator=generator) ** 2).long()


def sequences_of(lengths, *width):
    """Sequence i holds the numbers from 100 i + 1 on."""
    return [
        (100 * i + 1 + torch.arange(length)).view(-1, *(1 for _ in width)).expand(-1, *width)
        for i, length in enumerate(lengths.tolist())
    ]


def padded(number=30, *, seed=0):
    lengths = lengths_of(number, seed=seed)
    return Padded(TextBatch, sequences_of(lengths), torch.arange(number))


@pytest.mark.parametrize("width", [(), (3,), (2, 3)])
def test_padding_comes_last_is_zero_and_the_mask_says_what_is_real(width):
    sequences = sequences_of(torch.tensor([2, 5, 1, 0]), *width)
    values, mask = Ragged.of(sequences)[torch.tensor([2, 0, 1, 3])]
    assert values.shape == (4, 5, *width)
    assert mask.tolist() == [[place < length for place in range(5)] for length in (1, 2, 5, 0)]
    for row, real, i in zip(values, mask, (2, 0, 1, 3), strict=True):
        assert torch.equal(row[real], sequences[i])
        assert not row[~real].any()


def test_targets_of_the_steps_are_padded_like_the_steps():
    lengths = torch.tensor([3, 1, 4])
    data = Padded(lambda *rows: rows, sequences_of(lengths), torch.tensor([7, 8, 9]), sequences_of(lengths, 2))
    steps, mask, label, targets = data[torch.tensor([1, 2])]
    assert label.tolist() == [8, 9]
    assert torch.equal(targets, steps.unsqueeze(2).expand(-1, -1, 2))
    assert mask.sum(1).tolist() == [1, 4]


def test_a_part_of_a_data_set_has_the_same_samples():
    data, some = padded(), torch.tensor([4, 0, 29])
    part = data.take(some)
    assert len(part) == 3
    assert torch.equal(part.lengths, data.lengths[some])
    for ours, theirs in zip(part[torch.tensor([2, 1])], data[torch.tensor([29, 0])], strict=True):
        assert torch.equal(ours, theirs)
    assert all(torch.equal(a, b) for a, b in zip(part.rows(torch.arange(3)), data[some], strict=True))


def test_a_process_that_gets_no_sample_gets_an_empty_batch():
    batch = padded()[torch.arange(0)]
    assert [tuple(x.shape) for x in batch] == [(0, 1), (0, 1), (0,)]


SIZES = [(1, 1), (10, 3), (97, 8), (500, 8), (12, 50)]


@pytest.mark.parametrize("pool", [1, 4, 20])
@pytest.mark.parametrize(("number", "batch_size"), SIZES)
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_sample_comes_once_an_epoch(number, batch_size, pool, shuffle):
    order = Bucketed(lengths_of(number), batch_size, pool=pool, shuffle=shuffle)
    for epoch in range(2):
        order.set_epoch(epoch)
        batches = list(order)
        assert len(batches) == len(order)
        assert sorted(torch.cat(batches).tolist()) == list(range(number))
        assert sorted(map(len, batches))[1:] == [batch_size] * (len(batches) - 1)


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize(("number", "batch_size"), SIZES[1:])
def test_several_processes_see_the_batches_that_one_sees(number, batch_size, world_size):
    lengths = lengths_of(number)
    whole = list(Bucketed(lengths, batch_size, shuffle=True, seed=3))
    ranks = [
        list(Bucketed(lengths, batch_size, shuffle=True, seed=3, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for batch, *pieces in zip(whole, *ranks, strict=True):
        mixed = [index for some in zip_longest(*(piece.tolist() for piece in pieces)) for index in some]
        assert [index for index in mixed if index is not None] == batch.tolist()


def test_the_order_depends_on_seed_and_epoch_alone():
    def batches(seed, epoch):
        order = Bucketed(lengths_of(97), 8, shuffle=True, seed=seed)
        order.set_epoch(epoch)
        torch.rand(1)  # nobody else's random numbers matter
        return [batch.tolist() for batch in order]

    assert batches(0, 2) == batches(0, 2)
    assert batches(0, 2) != batches(0, 3)
    assert batches(0, 2) != batches(1, 2)
    assert set(map(frozenset, batches(0, 2))) != set(
        map(frozenset, batches(0, 3))
    )  # other batches, not only their order


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("first", [0, 1, 7, 12, 13])
def test_an_epoch_goes_on_with_the_batch_that_comes_next(first, shuffle):
    order = Bucketed(lengths_of(97), 8, shuffle=shuffle)
    whole = [batch.tolist() for batch in order]
    order.first_batch = first
    assert [batch.tolist() for batch in order] == whole[first:]


def test_a_loader_resumes_in_the_middle_of_an_epoch():
    data = padded(50)

    def loader():
        made = Loader(data, Bucketed(data.lengths, 4, shuffle=True))
        made.order.set_epoch(5)
        return made

    whole, interrupted, resumed = list(loader()), loader(), loader()
    seen = [batch for batch, _ in zip(interrupted, range(3), strict=False)]
    resumed.load_state_dict({"batches_done": 3})
    together = [*seen, *resumed]
    assert len(together) == len(whole)
    assert all(torch.equal(x, y) for a, b in zip(together, whole, strict=True) for x, y in zip(a, b, strict=True))


def test_a_batch_holds_little_padding_and_the_order_still_mixes_lengths():
    lengths = lengths_of(1000)

    def cost(order):
        return sum(int(lengths[batch].max()) * len(batch) for batch in order) / int(lengths.sum())

    bucketed = Bucketed(lengths, 10, shuffle=True)
    assert cost(bucketed) < 1.15
    assert cost(BatchOrder(1000, 10, shuffle=True)) > 2
    means = torch.stack([lengths[batch].double().mean() for batch in bucketed])
    falls = int((means.diff() < 0).sum())  # of 99 steps from batch to batch; sorted ones would have next to none
    assert 35 < falls < 65


def test_without_shuffling_samples_come_as_they_are():
    assert torch.cat(list(Bucketed(lengths_of(97), 8, shuffle=False))).tolist() == list(range(97))
