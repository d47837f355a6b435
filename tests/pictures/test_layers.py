from itertools import pairwise

import numpy as np
import pytest
import torch

from zoo.pictures.layers import feature_maps, kernels, over_depth, rates


def test_a_value_over_depth_has_a_line_for_each_time_on_a_logarithmic_axis(is_no_blank):
    figure = over_depth(["a", "b", "c"], {"first": [1e-4, 0.01, 1.0], "last": [1e-3, 0.1, 10]}, ylabel="norm")
    axis = figure.axes[0]
    assert is_no_blank(figure)
    first, last = (line for line in axis.lines if len(line.get_xdata()) == 3)
    assert np.allclose(first.get_ydata(), [-4, -2, 0])  # powers of ten
    assert np.allclose(last.get_ydata(), [-3, -1, 1])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c"]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["first", "last"]
    shown = dict(zip([label.get_text() for label in axis.get_yticklabels()], axis.get_yticks(), strict=True))
    assert all(float(text) == 10.0**power for text, power in shown.items())


def test_zeros_over_depth_are_marked_and_what_is_no_number_is_left_out(drawn):
    figure = over_depth(list("abcd"), {"now": [0.0, 0.5, float("inf"), float("nan")]}, ylabel="norm")
    drawn(figure)
    curve, zeros = figure.axes[0].lines[:2]
    assert np.isfinite(curve.get_ydata()).tolist() == [False, True, False, False]
    assert zeros.get_xdata().tolist() == [1]
    assert figure.axes[0].get_ylim()[0] < zeros.get_ydata()[0] < curve.get_ydata()[1]
    assert "exactly 0" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


@pytest.mark.parametrize("num_layers", [1, 30, 200])
def test_names_of_layers_fit_below_the_chart_whatever_their_number(num_layers, drawn):
    names = [f"stages.{i}.blocks.{i}.a_very_long_name_${i}" for i in range(num_layers)]
    figure = over_depth(names, {"now": [0.0] * num_layers}, ylabel="norm")
    drawn(figure)
    labels = figure.axes[0].get_xticklabels()
    assert 1 <= len(labels) <= 30
    boxes = [label.get_window_extent() for label in labels]
    assert all(box.y0 > 0 for box in boxes)
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))


def test_rates_are_on_one_scale_with_the_output_on_top_and_nothing_where_nothing_learns(is_no_blank):
    plans = {
        "slow": {"first": [0.0, 1e-4], "output": [1e-3, 1e-3]},
        "fast": {"first": [0.1, 0.1], "output": [0.1, 0.0]},
    }
    figure = rates(plans, title="plans")
    assert is_no_blank(figure)
    slow, fast = (axis.images[0] for axis in figure.axes[:2])
    assert slow.get_array().mask.tolist() == [[True, False], [False, False]]
    assert fast.get_array().mask.tolist() == [[False, False], [False, True]]
    assert slow.norm is fast.norm
    assert (slow.norm.vmin, slow.norm.vmax) == (1e-4, 0.1)
    first, output = (label.get_text() for label in figure.axes[0].get_yticklabels())
    assert (first, output, slow.origin) == ("first", "output", "lower")


@pytest.mark.parametrize("rate", [0.0, 0.01])
def test_one_rate_for_all_and_none_at_all_can_be_drawn(rate, drawn):
    figure = rates({"all": {f"blocks.{i}": [rate] * 3 for i in range(200)}})
    drawn(figure)
    found = figure.axes[0].images[0].get_array()
    assert found.mask.all() == (rate == 0)
    assert len(figure.axes[0].get_yticklabels()) < 31


def test_kernels_of_one_channel_are_red_and_blue_about_white():
    weights = torch.tensor([[[[1.0, 0.0], [-1.0, 0.5]]]])
    image = kernels(weights, side=2)  # a pixel for a weight, within a frame of three
    assert image.shape == (3, 8, 8)
    red, white, blue, pink = image[:, 3, 3], image[:, 3, 4], image[:, 4, 3], image[:, 4, 4]
    assert (red.tolist(), white.tolist(), blue.tolist()) == ([1, 0, 0], [1, 1, 1], [0, 0, 1])
    assert pink.tolist() == [1, 0.5, 0.5]


def test_kernels_of_three_channels_keep_their_colours_and_grey_is_0():
    weights = torch.zeros(1, 3, 1, 2)
    weights[0, :, 0, 0] = torch.tensor([1.0, 0.0, -1.0])
    image = kernels(weights, side=2)
    assert image[:, 3, 3].tolist() == [1, 0.5, 0]
    assert image[:, 3, 4].tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("shape", [(6, 1, 5, 5), (300, 3, 7, 7), (16, 2, 1, 9), (64, 1, 28, 28), (1, 1, 1, 1)])
def test_kernels_of_any_shape_make_an_image_of_about_one_size(shape):
    image = kernels(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert 0 <= image.min() < image.max() <= 1
    assert image.shape[0] == 3
    assert 300 < max(image.shape) < 900
    kernels(torch.zeros(shape))
    kernels(torch.full(shape, float("nan")))


def test_feature_maps_stand_beside_the_name_of_their_layer(is_no_blank, written):
    generator = torch.Generator().manual_seed(0)
    maps = {"first": torch.rand(3, 4, 4, generator=generator), "a_very_long_name_of_a_layer": torch.rand(40, 2, 2)}
    figure = feature_maps(torch.rand(1, 8, 8, generator=generator), maps)
    assert is_no_blank(figure)
    axis = figure.axes[0]
    assert written(axis)[:2] == ["input", "first"]
    assert axis.images[0].get_array().shape == (3 * 52, 12 * 52, 3)  # no more than twelve maps
    assert all(box.x0 >= 0 for box in (text.get_window_extent() for text in axis.texts))


def test_of_many_layers_eight_are_shown_with_the_first_and_the_last(written):
    maps = {f"layer {i}": torch.rand(2, 3, 3) for i in range(50)}
    names = written(feature_maps(torch.rand(3, 8, 8), maps).axes[0])
    assert len(names) == 9
    assert (names[1], names[-1]) == ("layer 0", "layer 49")


def test_a_map_without_contrast_is_red():
    axis = feature_maps(torch.rand(3, 8, 8), {"dead": torch.zeros(1, 3, 3)}).axes[0]
    pixel = axis.images[0].get_array()[60, 10]
    assert pixel[0] > 0.7 > 0.3 > pixel[1]


def test_no_line_leads_from_one_network_to_the_next():
    lines = {"first": [1.0, 2, 3, 4, 5], "last": [5.0, 4, 3, 2, 1]}
    axis = over_depth(list("abcde"), lines, ylabel="norm", starts=[2]).axes[0]
    drawn = [line.get_xdata().tolist() for line in axis.lines if len(line.get_xdata()) and line.get_linestyle() == "-"]
    assert drawn == [[1, 2], [3, 4, 5], [1, 2], [3, 4, 5]]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["first", "last"]
