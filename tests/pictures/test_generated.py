"""Pictures of generated samples have the right things in the right places."""

import pytest
import torch

from zoo.pictures.generated import extent_of, history_of_images, history_of_points, mosaic, plane, scores


def test_a_mosaic_goes_row_by_row_and_enlarges_small_images():
    images = torch.zeros(5, 1, 8, 8)
    images[1] = 1.0  # the second of the first row
    images[3, 0, 0, 0] = 1.0  # the top left corner of the first of the second row
    picture = mosaic(images, 3)
    cell = 6 * 8 + 2  # six times as large, with a line on each side
    assert picture.shape == (3, 2 * cell, 3 * cell)
    assert picture[:, 1 : cell - 1, cell + 1 : 2 * cell - 1].eq(1).all()
    assert picture[:, cell + 1 : cell + 7, 1:7].eq(1).all()
    assert picture[:, cell + 1 : cell + 7, 7].eq(0).all()
    assert picture[:, cell:, 2 * cell :].eq(0.5).all(), "no image, no black one either"
    assert mosaic(torch.rand(2, 3, 50, 50), 2).shape == (3, 52, 104)


def test_the_history_has_a_row_for_each_epoch():
    figure = history_of_images(torch.rand(3, 4, 1, 8, 8), [1, 2, 5])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["1", "2", "5"]
    real = torch.rand(50, 2)
    figure = history_of_points(torch.rand(3, 20, 2), [1, 2, 5], real)
    assert [axis.get_title() for axis in figure.axes] == ["epoch 1", "epoch 2", "epoch 5"]


def test_the_plane_is_that_of_the_real_points_and_says_how_many_are_not_in_sight():
    real, fake = torch.rand(30, 2), torch.tensor([[0.5, 0.5], [9.0, 0.5], [0.5, -9.0], [9.0, 9.0]])
    figure = plane(real, fake, torch.rand(10, 10), what="logit")
    axis = figure.axes[0]
    left, right, bottom, top = extent_of(real)
    assert (*axis.get_xlim(), *axis.get_ylim()) == pytest.approx((left, right, bottom, top))
    assert axis.get_title() == "4 generated, 3 of them not in sight"
    assert plane(real, real).axes[0].get_title() == "30 generated"


def test_scores_of_both_are_counted_in_the_same_bins():
    figure = scores(torch.tensor([1.0, 2.0]), torch.tensor([-3.0, float("nan"), 1.0]), xlabel="logit")
    heights = [patch.get_height() for patch in figure.axes[0].patches]
    assert (sum(heights[:40]), sum(heights[40:])) == (2, 2)
    scores(torch.zeros(3), torch.zeros(2), xlabel="logit")  # all alike


def test_a_field_of_logits_is_white_where_nothing_can_be_told_apart():
    field, real = torch.tensor([[-1.0, 0.5], [0.0, 3.0]]), torch.rand(30, 2)
    centred = plane(real, real, field, centred=True).axes[0]
    assert centred.images[0].get_clim() == (-3, 3)
    assert (centred.get_xlabel(), centred.get_ylabel()) == ("x1", "x2")
    assert plane(real, real, field).axes[0].images[0].get_clim() == (-1, 3)
