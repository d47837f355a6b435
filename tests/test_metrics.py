import logging
import math

import pytest
import torch
from torch import nn

from zoo.batches import ImageBatch, TableBatch
from zoo.data.base import InMemory
from zoo.data.table import BreastCancer, Diabetes, Iris
from zoo.metrics import arrays, baselines, bleu, chrf, exact_match, translation_invariance


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


def dots(*places: tuple[int, int]) -> torch.Tensor:
    """An 8 x 8 image for each place, black but for one pixel there."""
    images = torch.zeros(len(places), 1, 8, 8)
    for image, (row, column) in zip(images, places, strict=True):
        image[0, row, column] = 1
    return images


@pytest.mark.parametrize(
    ("function", "change", "unchanged"),
    [
        (nn.Identity(), 2**0.5, 0.0),  # the dot is gone here and new there
        (nn.MaxPool2d(2), 2**0.5 / 2, 0.5),  # in two of four directions it stays under its window
        (nn.MaxPool2d(4), 2**0.5 / 4, 0.75),  # the first dot, in a corner of its window, in two; the second in all four
        (nn.AdaptiveMaxPool2d(1), 0.0, 1.0),
        (nn.AdaptiveAvgPool2d(1), 0.0, 1.0),
    ],
)
def test_the_larger_the_pool_the_less_a_shift_changes(function, change, unchanged):
    found = translation_invariance(function, dots((4, 4), (2, 2)))
    assert found.change == pytest.approx(change)
    assert found.unchanged == pytest.approx(unchanged)


def test_a_shift_of_two_leaves_a_pool_of_two_and_what_enters_repeats_the_edge():
    assert translation_invariance(nn.MaxPool2d(2), dots((4, 4)), shift=2).change == pytest.approx(2**0.5)
    assert translation_invariance(nn.Identity(), torch.full((2, 3, 5, 4), -0.7), shift=3) == (0.0, 1.0)


def test_pooling_makes_features_of_a_convolution_less_sensitive_to_a_shift():
    torch.manual_seed(0)
    images, convolution = torch.rand(16, 1, 20, 20), nn.Conv2d(1, 8, 5, padding=2)
    changes = [
        translation_invariance(nn.Sequential(convolution, nn.ReLU(), *pool), images).change
        for pool in ([], [nn.MaxPool2d(2)], [nn.MaxPool2d(4)], [nn.AdaptiveMaxPool2d(1)])
    ]
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] < 0.2 * changes[0]


def test_bleu_is_the_mean_precision_of_the_whole_set_by_hand():
    """Of one to four words 7/8, 4/6, 2/4 and 1/3 are found, "the" once though it stands twice; 8 words against 11."""
    texts, references = ["the cat sat on the mat", "a b"], ["the cat sat on a mat", "a b c d e"]
    found = bleu(texts, references)
    precisions = 7 / 8 * 4 / 6 * 2 / 4 * 1 / 3
    assert found.score == pytest.approx(100 * math.exp(1 - 11 / 8) * precisions**0.25)
    assert found.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    singly = [bleu([text], [reference]).score for text, reference in zip(texts, references, strict=True)]
    assert abs(found.score - sum(singly) / 2) > 1, "not the mean over texts"


def test_bleu_cuts_words_itself_and_ignores_case_only_where_asked(caplog):
    texts, references = ["a dog runs , and barks ."] * 200, ["A dog runs, and barks."] * 200
    assert bleu(texts, references, lowercase=True).score == pytest.approx(100)
    assert "case:lc" in bleu(texts, references, lowercase=True).signature
    assert bleu(texts, references).score < 90
    assert bleu(texts, references, lowercase=True, tokenize="none").score < 60
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_chrf_is_the_share_of_characters_found_by_hand():
    """Of one, two and three characters 2/3, 1/2 and 0 are found, and as many of the reference's."""
    found = chrf(["abc"], ["abd"])
    assert found.score == pytest.approx(100 * (2 / 3 + 1 / 2) / 3)
    assert "nc:6|nw:0" in found.signature
    assert chrf(["ABC"], ["abc"]).score == 0
    assert chrf(["ABC"], ["abc"], lowercase=True).score == pytest.approx(100)


def test_an_exact_match_is_one_in_all_but_white_space():
    texts, references = ["a b", " a  b\n", "a b.", "A b"], ["a b"] * 4
    assert exact_match(texts, references) == 0.5
    assert exact_match(texts, references, lowercase=True) == 0.75


@pytest.mark.parametrize("metric", [bleu, chrf, exact_match])
def test_an_empty_text_counts_and_one_that_is_missing_is_an_error(metric):
    full = metric(["one two three four five"], ["one two three four five"])
    half = metric(["one two three four five", ""], ["one two three four five"] * 2)
    score, less = (found if metric is exact_match else found.score for found in (full, half))
    assert 0 < less < score
    for texts in ([], ["a"]):
        with pytest.raises(ValueError, match="cannot be compared"):
            metric(texts, ["a", "b"])
