import hashlib
import random

import numpy as np
import pytest
import torch

from zoo.data.mnist1d import Mnist1d, published
from zoo.data.sheet import Sheet
from zoo.data.table_preprocessing import TablePreprocessing
from zoo.errors import UserError


def tensors(part, **options):
    return Mnist1d(val_size=0, **options).prepare().parts[part].tensors


@pytest.mark.parametrize(
    ("part", "labels", "first", "total", "weighted"),
    [  # of the authors' file mnist1d_data.pkl
        ("train", "d97dc7aecec8ad6b", [-0.3320056674, -0.4719103657], -51.78746788, 209.98645126),
        ("test", "8de99be3ff9dab15", [-0.0787707805, -0.2107317059], 51.78746788, -172.43625066),
    ],
)
def test_the_series_are_those_of_the_published_file(part, labels, first, total, weighted):
    x, y = tensors(part)
    assert hashlib.sha256(y.numpy().tobytes()).hexdigest()[:16] == labels
    assert x[0, :2].tolist() == pytest.approx(first, abs=1e-7)
    x = x.double()
    assert x.sum().item() == pytest.approx(total, abs=1e-3)
    weights = torch.cos(torch.arange(x.numel(), dtype=torch.float64)).view_as(x)
    assert (x * weights).sum().item() == pytest.approx(weighted, abs=1e-3)


def test_sizes_and_facts():
    loaded = Mnist1d().prepare()
    assert [len(loaded.parts[name]) for name in ("train", "val", "test")] == [3600, 400, 1000]
    assert (loaded.facts["num_features"], loaded.facts["num_classes"]) == (40, 10)
    assert sum(loaded.facts["label_counts"]) == 3600
    assert loaded.facts["label_counts"] == torch.bincount(loaded.train_labels).tolist()
    batch = next(iter(Mnist1d().train_dataloader()))
    assert (batch.x.shape, batch.x.dtype, batch.target.dtype) == ((100, 40), torch.float32, torch.int64)


def test_values_are_as_published_and_not_scaled_anew():
    x = torch.cat([tensors("train")[0], tensors("test")[0]]).double()
    assert x.mean().item() == pytest.approx(0, abs=1e-6)
    assert x.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert x.std(0).max() > 1.1  # a table's columns would be scaled one by one


def test_without_a_validation_part_all_4000_are_trained_on_in_their_published_order():
    loaded = Mnist1d(val_size=0).prepare()
    assert set(loaded.parts) == {"train", "test"}
    assert torch.equal(loaded.parts["train"].tensors[0], published()[0])


def test_the_validation_part_comes_from_the_training_part_by_the_seed():
    parts = Mnist1d(seed=1).prepare().parts
    rows = {tuple(row) for name in ("train", "val") for row in parts[name].tensors[0].tolist()}
    assert rows == set(map(tuple, published()[0].tolist()))
    same, other = (Mnist1d(seed=seed).prepare().parts["val"].tensors[0] for seed in (1, 2))
    assert torch.equal(same, parts["val"].tensors[0])
    assert not torch.equal(other, same)


def test_shuffled_moves_the_places_of_all_series_alike_whatever_the_seed():
    places = np.random.RandomState(42).permutation(40)  # as in the authors' notebook
    for part in ("train", "test"):
        for seed in (0, 7):
            assert torch.equal(tensors(part, shuffled=True, seed=seed)[0], tensors(part)[0][:, places])
            assert torch.equal(tensors(part, shuffled=True, seed=seed)[1], tensors(part)[1])
    assert sorted(places) == list(range(40))
    assert places.tolist() != list(range(40))


def test_making_it_leaves_the_global_random_numbers_alone():
    published.cache_clear()
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.rand()
    random.seed(3)
    np.random.seed(3)
    published()
    assert (random.random(), np.random.rand()) == expected


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_file_of_series_is_prepared_by_the_names_of_its_columns(shuffled):
    x = published()[2][:3]
    sheet = Sheet({f"t{place}": x[:, place].tolist() for place in range(40)})
    state = Mnist1d(shuffled=shuffled).prepare().preprocessing
    assert torch.equal(TablePreprocessing.from_dict(state).encode(sheet)[0], tensors("test", shuffled=shuffled)[0][:3])


def test_same_data_has_the_same_fingerprint_and_shuffled_data_another():
    plain, again, shuffled = (Mnist1d(shuffled=flag).prepare().fingerprint for flag in (False, False, True))
    assert plain == again != shuffled


@pytest.mark.parametrize(("val_size", "message"), [(4000, "below 4000"), (-1, "from 0 on"), (0.1, "whole number")])
def test_a_validation_part_that_cannot_be_is_refused(val_size, message):
    with pytest.raises(UserError, match=message):
        Mnist1d(val_size=val_size).prepare()
