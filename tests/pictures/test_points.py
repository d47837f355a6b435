import numpy as np
import pytest
import torch

from zoo.pictures.points import decision_regions, grid, predicted_and_true


@pytest.mark.parametrize("num_samples", [1, 200])
def test_predictions_are_drawn_against_the_truth(num_samples, is_no_blank):
    true = torch.randn(num_samples, generator=torch.Generator().manual_seed(0))
    figure = predicted_and_true(true + 1, true)
    axis = figure.axes[0]
    assert is_no_blank(figure)
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_title()) == ("true", "predicted", f"{num_samples} samples")
    points = axis.collections[0].get_offsets()
    assert np.allclose(points, torch.stack([true, true + 1], 1))
    diagonal = axis.lines[0]
    assert np.array_equal(diagonal.get_xdata(), diagonal.get_ydata())


def test_grid_points_are_the_middles_of_the_cells_of_their_picture():
    points = grid((0.0, 4.0, -1.0, 1.0), size=2)
    assert points.tolist() == [[1.0, -0.5], [3.0, -0.5], [1.0, 0.5], [3.0, 0.5]]  # from the left, then from the bottom
    assert grid((-0.5, 1.5, -0.5, 1.5), size=2).tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]


@pytest.mark.parametrize("titles", [["one"], ["one", "two", "three"]])
def test_decision_regions_have_the_samples_on_them(titles, is_no_blank):
    extent = (0.0, 3.0, 0.0, 1.0)
    classes = (grid(extent, 20)[:, 0] > 1.5).long().reshape(20, 20)
    x = torch.tensor([[0.5, 0.5], [2.5, 0.5], [2.0, 0.1]])
    figure = decision_regions(dict.fromkeys(titles, classes), x, torch.tensor([0, 1, 1]), extent)
    assert is_no_blank(figure)
    assert [axis.get_title() for axis in figure.axes] == titles
    for axis in figure.axes:
        assert [len(points.get_offsets()) for points in axis.collections] == [1, 2]
        assert np.allclose(np.concatenate([points.get_offsets() for points in axis.collections]), x)
        image = axis.images[0]
        assert image.origin == "lower"
        assert image.get_extent() == list(extent)


def test_each_panel_may_have_labels_of_its_own(is_no_blank):
    x, half = torch.tensor([[0.2, 0.2], [0.8, 0.8]]), torch.zeros(2, 2)
    labels = {"a": torch.tensor([0, 1]), "b": torch.tensor([1, 1])}
    figure = decision_regions({"a": half, "b": half}, x, labels, (0.0, 1.0, 0.0, 1.0))
    assert [[len(points.get_offsets()) for points in axis.collections] for axis in figure.axes] == [[1, 1], [0, 2]]
    assert is_no_blank(figure)


@pytest.mark.parametrize("k", [0, 1])
def test_a_class_keeps_its_colour_where_it_fills_the_whole_picture(k):
    x, labels, extent = torch.tensor([[0.2, 0.2], [0.8, 0.8]]), torch.tensor([0, 1]), (0.0, 1.0, 0.0, 1.0)
    axis = decision_regions({"all": torch.full((5, 5), k)}, x, labels, extent).axes[0]
    shade = axis.images[0].to_rgba(np.array([k]), norm=True)[0, :3]
    assert np.allclose(shade, axis.collections[k].get_facecolor()[0, :3], atol=0.01)
