"""Segmenters without training: they find what is plain to see, and the truth names what they found."""

import numpy as np
import pytest
import torch

from zoo.baselines.segmenters import MOST, SEGMENTERS, baselines, largest, named, otsu
from zoo.data.shapes import Shapes


def plain() -> tuple[np.ndarray, np.ndarray]:
    """An image of a light square and a dark one on grey, and its mask."""
    image, mask = np.full((24, 24, 3), 0.5), np.zeros((24, 24), np.int64)
    for k, (start, level) in enumerate(((3, 0.95), (14, 0.05)), start=1):
        image[start : start + 8, start : start + 8], mask[start : start + 8, start : start + 8] = level, k
    return image + np.random.default_rng(0).normal(0, 0.01, image.shape), mask


@pytest.mark.parametrize("name", SEGMENTERS)
def test_squares_on_a_plain_ground_are_found(name):
    image, mask = plain()
    regions = largest(SEGMENTERS[name](image))
    said = named(regions, mask, 3)
    assert (said == mask).mean() > 0.95
    assert all((said[mask == k] == k).mean() > 0.8 for k in (1, 2))


@pytest.mark.parametrize("name", SEGMENTERS)
def test_an_image_of_one_colour_is_one_thing(name):
    if name == "kmeans":
        pytest.skip("k means are asked for")
    assert len(np.unique(largest(SEGMENTERS[name](np.full((12, 10, 1), 0.3))))) == 1


def test_a_region_has_the_class_of_most_of_its_pixels_that_are_known():
    regions, mask = np.array([[0, 0, 0, 1, 1]]), np.array([[2, 2, 1, 255, 1]])
    assert named(regions, mask, 3).tolist() == [[2, 2, 2, 1, 1]]
    mask[0, 1:] = 255
    assert named(regions, mask, 3).tolist() == [[2, 2, 2, 0, 0]]


def test_regions_beyond_the_largest_go_to_their_neighbours():
    regions = np.repeat(np.arange(12), 10 + np.arange(12))[None].repeat(2, 0)  # (2, 186), the last is the largest
    found = largest(regions)
    assert found.max() == MOST - 1
    assert (found[regions == 11] == 0).all()
    assert (found[regions == 0] == found[regions == 4][0]).all()  # the smallest four lie left of the eight that stay
    assert (largest(np.arange(12).reshape(3, 4)) == 0).all(), "no region is as small as noise"


def test_the_threshold_splits_two_heaps():
    values = np.concatenate([np.random.default_rng(0).normal(0, 0.1, 500), np.random.default_rng(1).normal(3, 0.1, 80)])
    assert 0.4 < otsu(values) < 2.6
    assert otsu(np.full(9, 0.7)) == np.inf


def test_they_are_scored_on_the_pixels_before_normalization():
    data = Shapes(num_train=40, num_val=1, num_test=6, noise=4)
    prepared = data.prepare().preprocessing
    found = baselines(data.part("test"), 4, prepared["mean"], prepared["std"])
    assert set(found) == {f"baseline/{name}_{metric}" for name in SEGMENTERS for metric in ("mean_iou", "dice")}
    assert all(0.3 < value < 1 for value in found.values())
    image = data.part("test")[torch.tensor([0])].image[0]
    pixels = image * torch.tensor(prepared["std"])[:, None, None] + torch.tensor(prepared["mean"])[:, None, None]
    torch.testing.assert_close(255 * pixels, data.made("test").images[0].float(), atol=0.01, rtol=0)
