"""Pictures of Boltzmann machines show what they were given."""

import torch

from zoo.pictures.boltzmann import hidden_activity, mosaic, side_by_side


def test_a_mosaic_has_every_image_at_its_place_and_its_own_grey_levels():
    images = (torch.arange(5).view(5, 1, 1, 1) / 4).expand(5, 1, 3, 2)
    shown = mosaic(images, columns=3, side=24)
    zoom = 24 // (3 * 4)
    height, width = 3 * zoom + 2, 2 * zoom + 2
    assert shown.shape == (3, 2 * height + 2, 3 * width + 2)
    for i in range(5):
        top, left = i // 3 * height + 2, i % 3 * width + 2
        assert (shown[:, top : top + 3 * zoom, left : left + 2 * zoom] == i / 4).all()
    assert shown[0, 0, 0] == shown[0, height + 3, 2 * width + 3], "a gap, and a place without an image"


def test_values_beyond_black_and_white_have_a_scale_of_their_own():
    shown = mosaic(torch.tensor([-1.0, 3.0]).view(2, 1, 1, 1))
    assert (shown >= 0).all()
    assert (shown <= 1).all()
    assert (shown == 0).any()
    assert (shown == 1).any()


def test_what_became_of_an_image_stands_below_it():
    before, after = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    shown = side_by_side(before, after)
    half = shown.shape[1] // 2
    assert (shown[:, : half - 2] != 1).all()
    assert (shown[:, half + 2 :] != 0).all()


def test_activity_counts_units_and_maps_samples():
    figure = hidden_activity(torch.cat([torch.zeros(4, 3), torch.ones(4, 2)], 1))
    bars, picture, scale = figure.axes
    assert scale.get_ylabel() == "P(h = 1 | v)"
    heights = [bar.get_height() for bar in bars.patches]
    assert (heights[0], heights[-1], sum(heights)) == (3, 2, 5)
    assert picture.images[0].get_array().shape == (4, 5)
