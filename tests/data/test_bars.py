"""Bars and stripes, and the digits that were nudged."""

import pytest
import torch

from zoo.data.bars import BarsAndStripes, patterns
from zoo.data.digits import Digits
from zoo.data.nudged_digits import NudgedDigits, nudged
from zoo.errors import UserError


@pytest.mark.parametrize(("side", "number"), [(2, 6), (3, 14), (4, 30)])
def test_all_patterns_are_there_once_and_have_lines_of_one_colour(side, number):
    found, labels = patterns(side)
    assert found.shape == (number, side, side)
    assert len({tuple(row) for row in found.flatten(1).tolist()}) == number
    for image, label in zip(found, labels.tolist(), strict=True):
        lines = image if label else image.T  # stripes are rows
        assert (lines == lines[:, :1]).all()


def test_every_pattern_is_as_frequent_and_pixels_are_0_and_1():
    data = BarsAndStripes(image_size=3, copies=7)
    batch = data.part("train")[torch.arange(7 * 14)]
    rows, counts = batch.image.flatten(1).unique(dim=0, return_counts=True)
    assert counts.tolist() == [7] * 14
    assert set(rows.unique().tolist()) == {0.0, 1.0}
    assert len(data.part("val")) == len(data.part("test")) == 14
    with pytest.raises(UserError, match="from 2 to 10"):
        BarsAndStripes(image_size=11)


def test_a_nudge_moves_an_image_by_one_pixel():
    image = torch.zeros(1, 1, 4, 4)
    image[..., 1, 2] = 1
    places = [tuple((found == 1).nonzero()[0].tolist()[1:]) for found in nudged(image)]
    assert places == [(1, 2), (0, 2), (1, 1), (1, 3), (2, 2)]
    assert nudged(torch.ones(2, 1, 3, 3)).sum() == 2 * (9 + 4 * 6), "what leaves the image is lost"


def test_nudged_digits_are_five_times_the_digits():
    data, plain = NudgedDigits(normalize=False), Digits(normalize=False)
    sizes = {name: len(data.part(name)) for name in ("train", "test")}
    assert sum(sizes.values()) == 5 * sum(len(plain.part(name)) for name in ("train", "val", "test")) == 8985
    assert sizes["test"] == 1797
    assert "val" not in data.prepare().parts
    batch = data.part("train")[torch.arange(sizes["train"])]
    assert batch.image.amax(0).min() > 0.99, "each pixel has its greatest value somewhere"
