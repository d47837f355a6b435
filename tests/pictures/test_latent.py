"""Codes that are walked through, and what is drawn of them."""

import matplotlib.colors
import pytest
import torch

from zoo.pictures.latent import (
    between,
    code_map,
    main_plane,
    pairs,
    plane,
    quantiles,
    table_columns,
    tiles,
    walks,
)


def test_the_plane_shows_equal_shares_of_the_prior():
    at = quantiles(20)
    below = torch.distributions.Normal(0, 1).cdf(at)
    torch.testing.assert_close(below, (torch.arange(20) + 0.5) / 20, rtol=0, atol=1e-5)
    codes = plane(3)
    assert codes.shape == (9, 2)
    torch.testing.assert_close(codes[0], torch.stack([quantiles(3)[0], quantiles(3)[2]]))  # left, and at the top
    torch.testing.assert_close(codes[1] - codes[0], torch.stack([quantiles(3)[1] - quantiles(3)[0], torch.zeros(())]))


def test_a_walk_changes_one_variable_of_one_code():
    start = torch.tensor([5.0, 6.0, 7.0])
    codes = walks(start, [2, 0], 3, reach=2).view(2, 3, 3)
    assert codes[0].tolist() == [[5, 6, -2], [5, 6, 0], [5, 6, 2]]
    assert codes[1].tolist() == [[-2, 6, 7], [0, 6, 7], [2, 6, 7]]
    assert start.tolist() == [5, 6, 7]


def test_between_two_codes_lies_a_straight_line_with_both_ends():
    codes = between(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[2.0, 4.0], [1.0, 1.0]]), 3)
    assert codes.tolist() == [[0, 0], [1, 2], [2, 4], [1, 1], [1, 1], [1, 1]]


def test_tiles_lie_row_by_row_and_small_ones_are_enlarged():
    images = torch.arange(5).float().div(4)[:, None, None, None].expand(5, 1, 42, 42)
    grid = tiles(images, 3)
    assert grid.shape == (3, 88, 132)
    middles = grid[0, [22, 66]][:, [22, 66, 110]]
    assert middles.tolist() == [[0, 0.25, 0.5], [0.75, 1, 0.5]]
    assert grid[:, 0, 0].tolist() == [0.5] * 3
    assert tiles(torch.zeros(1, 3, 8, 8), 1).shape == (3, 50, 50)


def test_what_belongs_together_stands_one_above_the_other():
    above, below = torch.zeros(5, 1, 42, 42), torch.ones(5, 1, 42, 42)
    grid = pairs(above, below, 2)  # the fifth would make a row of its own
    assert grid.shape == (3, 176, 88)
    assert grid[0, [22, 66, 110, 154], 22].tolist() == [0, 1, 0, 1]
    assert pairs(above[:1], below[:1], 2).shape == (3, 88, 44)


def test_the_main_plane_keeps_the_distances_of_codes_that_lie_in_one():
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(30, 2, generator=generator) * torch.tensor([3.0, 1.0])
    turned = flat @ torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q[:2] + 4
    found, share = main_plane(turned)
    assert share == pytest.approx(1)
    torch.testing.assert_close(torch.pdist(found), torch.pdist(flat), rtol=0, atol=1e-4)
    assert found[:, 0].var() > found[:, 1].var()
    assert main_plane(torch.full((3, 4), torch.nan))[0].isfinite().all()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_codes_have_the_colour_of_their_class(size):
    codes = torch.arange(12 * size).float().view(12, size)
    figure = code_map(codes, torch.arange(12) % 3, names=["red", "a$b$"])
    sets = figure.axes[0].collections
    assert len(sets) == 3
    assert all(len(drawn.get_offsets()) == 4 for drawn in sets)
    assert len({matplotlib.colors.to_hex(drawn.get_facecolor()[0]) for drawn in sets}) == 3
    if size == 2:
        assert sets[1].get_offsets().tolist() == codes[1::3].tolist()
    figure.canvas.draw()


@pytest.mark.parametrize("labels", [None, torch.rand(12), torch.rand(12, 1), torch.ones(12, 4), torch.arange(12 * 3)])
def test_codes_without_classes_are_drawn_too(labels):
    labels = labels if labels is None or len(labels) == 12 else torch.arange(12) * 2
    figure = code_map(torch.rand(12, 2), labels)
    figure.canvas.draw()
    assert sum(len(drawn.get_offsets()) for drawn in figure.axes[0].collections) == 12


def test_columns_of_real_and_made_rows_are_drawn_on_one_scale():
    figure = table_columns(torch.rand(20, 9), 100 * torch.rand(30, 9), names=["a$1$"])
    drawn = [axis for axis in figure.axes if axis.get_legend_handles_labels()[0]]
    assert len(drawn) == 6
    assert drawn[0].get_title() == "a$1$"
    real, made = (step.get_data().values for step in drawn[0].get_legend_handles_labels()[0])
    assert real.sum() == pytest.approx(1)
    assert made.sum() < 0.2, "most of it lies beyond the axis, which is that of the real rows"
    figure.canvas.draw()
