"""The order of samples, resuming inside an epoch, and the split."""

from itertools import chain

import numpy as np
import pytest
import torch

from zoo.batches import TableBatch
from zoo.data.base import BatchOrder, DataModule, InMemory, Loaded, Loader, split_indices
from zoo.errors import UserError

NUM_SAMPLES, BATCH_SIZE = 103, 10


class Rows(DataModule):
    """Row i holds the number i."""

    def load(self) -> Loaded:
        x = torch.arange(NUM_SAMPLES)
        parts = {"train": InMemory(TableBatch, x, x % 3), "val": InMemory(TableBatch, x[:7], x[:7] % 3)}
        return Loaded(parts=parts, facts={}, preprocessing={}, train_labels=x % 3)


def batches(order: BatchOrder, epoch: int = 0) -> list[list[int]]:
    order.set_epoch(epoch)
    return [indices.tolist() for indices in order]


def order(*, seed: int = 0, rank: int = 0, world_size: int = 1, shuffle: bool = True) -> BatchOrder:
    return BatchOrder(NUM_SAMPLES, BATCH_SIZE, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_processes_share_the_batch_of_one_process_without_overlap(world_size):
    whole = batches(order(), epoch=4)
    ranks = [batches(order(rank=rank, world_size=world_size), epoch=4) for rank in range(world_size)]
    for step, expected in enumerate(whole):
        pieces = [index for rank in ranks for index in rank[step]]
        assert len(pieces) == len(set(pieces))
        assert sorted(pieces) == sorted(expected)


def test_every_sample_is_seen_once_an_epoch_and_none_is_padded():
    seen = batches(order())
    assert [len(batch) for batch in seen] == [10] * 10 + [3]
    assert sorted(chain(*seen)) == list(range(NUM_SAMPLES))
    assert len(order()) == len(seen)


def test_the_order_is_a_function_of_seed_and_epoch():
    assert batches(order(seed=1), epoch=2) == batches(order(seed=1), epoch=2)
    assert batches(order(seed=1), epoch=2) != batches(order(seed=1), epoch=3)
    assert batches(order(seed=1), epoch=2) != batches(order(seed=2), epoch=2)


def test_the_order_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    batches(order())
    assert torch.equal(torch.rand(1), expected)


def test_without_shuffling_the_order_is_that_of_the_data():
    assert list(chain(*batches(order(shuffle=False), epoch=5))) == list(range(NUM_SAMPLES))


def test_a_loader_resumes_with_the_batch_that_comes_next():
    whole = [batch.x.tolist() for batch in Rows(batch_size=BATCH_SIZE).train_dataloader()]
    interrupted = Rows(batch_size=BATCH_SIZE).train_dataloader()
    steps = iter(interrupted)
    first = [next(steps).x.tolist() for _ in range(4)]
    resumed = Rows(batch_size=BATCH_SIZE).train_dataloader()
    resumed.load_state_dict(interrupted.state_dict())
    assert first + [batch.x.tolist() for batch in resumed] == whole


def test_only_the_resumed_epoch_starts_in_its_middle():
    loader = Rows(batch_size=BATCH_SIZE).train_dataloader()
    loader.load_state_dict({"batches_done": 4})
    assert [len(list(loader)) for _ in range(2)] == [7, 11]


def test_a_loader_saved_at_the_end_of_an_epoch_starts_the_next_from_its_first_batch():
    loader = Rows(batch_size=BATCH_SIZE).train_dataloader()
    list(loader)
    assert loader.state_dict() == {"batches_done": 0}


def test_workers_do_not_change_the_order_of_samples():
    dataset = Rows().part("train")
    one = Loader(dataset, order())
    two = Loader(dataset, order(), num_workers=2)
    for _ in range(2):  # the second epoch goes through the persistent workers again
        assert [batch.x.tolist() for batch in two] == [batch.x.tolist() for batch in one]


@pytest.mark.parametrize("stratified", [False, True])
def test_the_parts_of_a_split_never_share_a_sample_and_lose_none(stratified):
    labels = np.arange(NUM_SAMPLES) % 4 if stratified else None
    split = split_indices(NUM_SAMPLES, (0.7, 0.15, 0.15), seed=3, labels=labels)
    assert sorted(torch.cat(split).tolist()) == list(range(NUM_SAMPLES))


def test_a_split_is_a_function_of_the_seed():
    one, same, other = (split_indices(NUM_SAMPLES, (0.7, 0.15, 0.15), seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one.val, other.val)


def test_a_stratified_split_gives_each_class_its_share_in_each_part():
    labels = np.repeat([0, 1], [900, 100])  # without strata, the rare class would be spread by chance
    split = split_indices(1000, (0.7, 0.15, 0.15), seed=0, labels=labels)
    assert [np.bincount(labels[part]).tolist() for part in split] == [[630, 70], [135, 15], [135, 15]]


def test_a_fraction_cuts_the_training_part_alone():
    data = Rows(fraction=0.25)
    assert (len(data.part("train")), len(data.part("val"))) == (26, 7)
    assert torch.equal(data.prepare().train_labels, data.part("train")[torch.arange(26)].target)


def test_overfit_trains_validates_and_tests_on_one_and_the_same_batch():
    data = Rows(batch_size=8, overfit=True)
    assert len(data.train_dataloader()) == 1
    seen = [sorted(next(iter(data.loader(name))).x.tolist()) for name in ("train", "val", "test")]
    assert len(seen[0]) == 8
    assert seen[0] == seen[1] == seen[2]


def test_a_full_batch_holds_the_whole_training_part():
    (batch,) = Rows(batch_size="full").train_dataloader()
    assert sorted(batch.x.tolist()) == list(range(NUM_SAMPLES))


@pytest.mark.parametrize("bad", [{"batch_size": 0}, {"batch_size": "all"}, {"fraction": 0.0}, {"eval_batch_size": 0}])
def test_an_impossible_setting_is_named(bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        Rows(**bad)
