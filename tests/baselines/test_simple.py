import pytest
import torch

from zoo.baselines.simple import arrays, baselines
from zoo.batches import ImageBatch, TableBatch
from zoo.data.base import InMemory
from zoo.data.table import BreastCancer, Diabetes, Iris


@pytest.mark.parametrize(("data", "chance"), [(Iris(), 0.4), (BreastCancer(), 0.65)], ids=["iris", "breast_cancer"])
def test_baselines_are_far_better_than_chance(data, chance):
    parts = data.prepare().parts
    found = baselines(parts["train"], parts["test"], "multiclass")
    assert set(found) == {"baseline/logistic_regression_accuracy", "baseline/nearest_neighbours_accuracy"}
    assert all(chance + 0.2 < value <= 1 for value in found.values())


def test_baselines_of_a_regression_explain_some_of_the_variance():
    parts = Diabetes().prepare().parts
    found = baselines(parts["train"], parts["test"], "regression")
    methods = ("linear_regression", "nearest_neighbours")
    assert set(found) == {f"baseline/{method}_{score}" for method in methods for score in ("r2", "mse")}
    assert all(0.2 < found[f"baseline/{method}_r2"] < 1 for method in methods)


def test_a_linear_relation_is_found_exactly():
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    part = InMemory(TableBatch, x, (x @ torch.tensor([1.0, -2.0, 0.5]) + 3)[:, None])
    found = baselines(part, part, "regression")
    assert found["baseline/linear_regression_r2"] == pytest.approx(1)
    assert found["baseline/linear_regression_mse"] < 1e-8


def test_the_error_of_several_targets_is_a_mean_in_their_own_units():
    x = torch.randn(100, 1, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(100, 2, generator=torch.Generator().manual_seed(1))
    part = InMemory(TableBatch, x, noise)
    one, both = (baselines(part, part, "regression", spread=spread) for spread in ([1.0, 1.0], [3.0, 3.0]))
    assert both["baseline/linear_regression_mse"] == pytest.approx(9 * one["baseline/linear_regression_mse"])
    only_first = InMemory(TableBatch, x, noise[:, :1])
    first = baselines(only_first, only_first, "regression")["baseline/linear_regression_mse"]
    found = baselines(part, part, "regression", spread=[1e3, 1.0])["baseline/linear_regression_mse"]
    assert found == pytest.approx(1e6 * first / 2, rel=1e-3)


def test_baselines_are_fitted_to_the_training_part_alone():
    x = torch.cat([torch.full((20, 1), -1.0), torch.full((20, 1), 1.0)])
    y = (x[:, 0] > 0).long()
    found = baselines(InMemory(TableBatch, x, y), InMemory(TableBatch, x, 1 - y), "binary")
    assert set(found.values()) == {0.0}
    found = baselines(InMemory(TableBatch, x, x), InMemory(TableBatch, x, -x), "regression")
    assert found["baseline/linear_regression_r2"] == pytest.approx(-3)
    assert found["baseline/nearest_neighbours_r2"] == pytest.approx(-3)


def test_no_more_training_samples_than_allowed_are_used_and_the_draw_repeats():
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    part = InMemory(TableBatch, x, (x[:, 0] > 0).long())
    few, again, all_of_them = (baselines(part, part, "binary", most=n) for n in (20, 20, 500))
    assert few == again
    assert few["baseline/nearest_neighbours_accuracy"] < all_of_them["baseline/nearest_neighbours_accuracy"]


def test_several_labels_a_sample_have_baselines_too():
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    part = InMemory(TableBatch, x, (x > 0).float())
    found = baselines(part, part, "multilabel")
    assert set(found) == {"baseline/logistic_regression_accuracy", "baseline/nearest_neighbours_accuracy"}
    assert all(0.9 < value <= 1 for value in found.values())  # share of the labels that are right, as the task counts


def test_a_training_part_smaller_than_the_neighbourhood_works():
    x = torch.tensor([[-1.0], [1.0], [-2.0]])
    part = InMemory(TableBatch, x, torch.tensor([0, 1, 0]))
    assert baselines(part, part, "binary")["baseline/logistic_regression_accuracy"] == 1
    target = InMemory(TableBatch, x, x)
    assert baselines(target, target, "regression")["baseline/linear_regression_r2"] == pytest.approx(1)


def test_images_are_flattened_and_single_targets_become_a_vector():
    images = torch.arange(24.0).reshape(2, 3, 2, 2)
    x, y = arrays(InMemory(ImageBatch, images, torch.tensor([4, 5])))
    assert x.tolist() == images.flatten(1).tolist()
    assert y.tolist() == [4, 5]
    _, y = arrays(InMemory(TableBatch, images, torch.tensor([[1.5], [2.5]])))
    assert y.tolist() == [1.5, 2.5]
    _, y = arrays(InMemory(TableBatch, images, torch.eye(2)))
    assert y.tolist() == [[1.0, 0.0], [0.0, 1.0]]
