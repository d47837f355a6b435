from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from zoo import pictures


def drawn(figure) -> np.ndarray:
    """(H, W, 4) pixels; raises, or warns, which is an error here, where something does not fit."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def is_no_blank(figure) -> bool:
    pixels = np.ascontiguousarray(drawn(figure)).view(np.uint32)  # one number a pixel
    return len(np.unique(pixels)) > 10


def counts(size: int) -> torch.Tensor:
    return torch.randint(30, (size, size), generator=torch.Generator().manual_seed(0)) + 200 * torch.eye(size).long()


def written(axis) -> list[str]:
    return [text.get_text() for text in axis.texts]


@pytest.mark.parametrize("size", [2, 10, 20])
def test_a_confusion_matrix_has_every_count_and_names_both_axes(size):
    matrix = counts(size)
    figure = pictures.confusion_matrix(matrix, [f"class {k}" for k in range(size)])
    axis = figure.axes[0]
    assert is_no_blank(figure)
    assert written(axis) == [str(n) for n in matrix.flatten().tolist() if n > 0]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted", "true")  # a row is a true class
    assert [label.get_text() for label in axis.get_yticklabels()] == [f"class {k}" for k in range(size)]
    accuracy = matrix.diagonal().sum() / matrix.sum()
    assert axis.get_title() == f"{matrix.sum()} samples, accuracy {accuracy:.3f}"


def test_shades_of_a_confusion_matrix_are_shares_of_the_true_class():
    figure = pictures.confusion_matrix(torch.tensor([[1, 3], [0, 0]]), ["no", "yes"])
    assert figure.axes[0].images[0].get_array().tolist() == [[0.25, 0.75], [0.0, 0.0]]  # an absent class is blank


def test_a_hundred_classes_are_drawn_without_numbers_and_with_fewer_names():
    figure = pictures.confusion_matrix(counts(100), [f"name of class {k}" for k in range(100)])
    assert is_no_blank(figure)
    assert written(figure.axes[0]) == []
    assert 20 <= len(figure.axes[0].get_xticks()) <= 30


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("num_images", [1, 6, 7, 40])
def test_images_are_drawn_with_their_captions_in_green_or_red(num_images, channels):
    right = torch.arange(num_images) % 2 == 0
    captions = [f"number {i}" for i in range(num_images)]
    images = torch.randn(num_images, channels, 5, 4, generator=torch.Generator().manual_seed(0))
    figure = pictures.captioned_images(images, captions, right)
    assert is_no_blank(figure)
    assert written(figure.axes[0]) == captions[:24]
    colours = [pictures.RIGHT if ok else pictures.WRONG for ok in right.tolist()]
    assert [to_hex(text.get_color()) for text in figure.axes[0].texts] == colours[:24]
    assert all(not axis.axison for axis in figure.axes)


@pytest.mark.parametrize(("low", "high"), [(-3.0, 5.0), (0.0, 1e-3), (0.0, 255.0), (2.0, 2.0)])
def test_an_image_of_any_range_fills_the_range_of_grey(low, high):
    image = torch.linspace(low, high, 30)[torch.randperm(30, generator=torch.Generator().manual_seed(0))].reshape(6, 5)
    figure = pictures.captioned_images(image[None, None], ["a"], torch.tensor([True]))
    drawn(figure)
    shown = figure.axes[0].images[0].get_array()[-6:, :5]  # the gaps are above and to the right
    expected = (image - low) / max(high - low, 1e-8)
    assert np.allclose(shown, expected[..., None].expand(-1, -1, 3), atol=1e-5)


def test_images_stand_in_rows_of_six_in_their_order():
    images = torch.ones(8, 1, 5, 5)
    images[:, 0, 0, 0] = 0  # a black corner marks where an image begins
    axis = pictures.captioned_images(images, list("abcdefgh"), torch.ones(8).bool()).axes[0]
    tops, lefts = np.nonzero(axis.images[0].get_array()[..., 0] == 0)
    assert (len(set(tops)), len(set(lefts))) == (2, 6)
    for text, top, left in zip(axis.texts, tops, lefts, strict=True):
        x, y = text.get_position()
        assert x == left + 2  # the middle of five pixels
        assert top - 2 < y < top
    assert written(axis) == list("abcdefgh")


@pytest.mark.parametrize("name", ["$^ a", "a_b^c", "100% {", "\\frac", "größe"])
def test_names_of_classes_are_drawn_letter_by_letter(name):
    drawn(pictures.confusion_matrix(counts(2), [f"{name}$", f"${name}"]))
    figure = pictures.captioned_images(torch.rand(2, 1, 4, 4), [f"${name} (is {name}$)", name], torch.zeros(2) > 0)
    drawn(figure)
    assert written(figure.axes[0])[1] == name


def test_long_captions_stay_above_their_own_image_and_say_both_classes():
    long = ["golden_retriever_of_the_north (is labrador_retriever_of_the_south)"] * 12
    figure = pictures.captioned_images(torch.rand(12, 3, 8, 8), long, torch.zeros(12, dtype=torch.bool))
    drawn(figure)
    axis = figure.axes[0]
    boxes = [text.get_window_extent() for text in axis.texts]
    for left, right in pairwise(boxes[:6]):
        assert left.x1 <= right.x0
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height for box in boxes)
    above = axis.transData.transform((0, axis.texts[6].get_position()[1] - 2))[1]  # inside the gap over the second row
    assert boxes[6].y0 < above < boxes[0].y0
    for caption in written(axis):
        assert caption.startswith("golden_retriever")
        assert "\n(is labrador_retr" in caption


@pytest.mark.parametrize("num_samples", [1, 200])
def test_predictions_are_drawn_against_the_truth(num_samples):
    true = torch.randn(num_samples, generator=torch.Generator().manual_seed(0))
    figure = pictures.predicted_and_true(true + 1, true)
    axis = figure.axes[0]
    assert is_no_blank(figure)
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_title()) == ("true", "predicted", f"{num_samples} samples")
    points = axis.collections[0].get_offsets()
    assert np.allclose(points, torch.stack([true, true + 1], 1))
    diagonal = axis.lines[0]
    assert np.array_equal(diagonal.get_xdata(), diagonal.get_ydata())


@pytest.mark.parametrize("logarithmic", [False, True])
def test_curves_are_named_in_a_legend(logarithmic):
    series = {"train": ([1, 2, 3], [3.0, 2.0, 1.0]), "val": ([1, 2, 3], [3.0, 2.5, 2.0])}
    figure = pictures.curves(series, xlabel="epoch", ylabel="loss", title="a title", logarithmic=logarithmic)
    axis = figure.axes[0]
    assert is_no_blank(figure)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["train", "val"]
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_title()) == ("epoch", "loss", "a title")
    assert axis.get_yscale() == ("log" if logarithmic else "linear")


def test_a_curve_of_few_points_shows_each_and_needs_no_legend_alone():
    axis = pictures.curves({"train": ([1], [3.0])}, xlabel="epoch", ylabel="loss").axes[0]
    assert axis.lines[0].get_marker() == "o"
    assert axis.get_legend() is None


@pytest.mark.parametrize(("low", "high", "shown"), [(0.06, 1.4, "0.2"), (1e-4, 10.0, "0.001")])
def test_a_logarithmic_axis_has_plain_numbers(low, high, shown):
    figure = pictures.curves({"a": ([0, 1], [low, high])}, xlabel="x", ylabel="y", logarithmic=True)
    drawn(figure)
    numbers = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert shown in numbers
    assert len(numbers) <= 12


def test_whole_numbers_have_no_ticks_between_them():
    whole, parts = (pictures.curves({"a": (x, x)}, xlabel="x", ylabel="y") for x in ([1, 2, 3], [0.5, 1.0, 2.0]))
    assert all(tick.is_integer() for tick in whole.axes[0].get_xticks())
    assert not all(tick.is_integer() for tick in parts.axes[0].get_xticks())


def test_noisy_curves_stand_side_by_side_on_common_axes():
    smooth = {"a": ([0, 1], [1.0, 1.0]), "b": ([0, 2], [2.0, 2.0])}
    noisy = {"a": ([0, 1], [0.0, 3.0]), "b": (range(50), range(50))}
    figure = pictures.noisy_curves(smooth, noisy, labels=("mean", "each"), xlabel="x", ylabel="y", title="a title")
    assert is_no_blank(figure)
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("a", "b")
    assert first.get_ylim() == second.get_ylim()
    assert first.get_xlim() == second.get_xlim()
    for axis, name in ((first, "a"), (second, "b")):
        each, mean = axis.lines  # the smooth one is drawn last, on top
        assert list(each.get_ydata()) == list(noisy[name][1])
        assert list(mean.get_ydata()) == list(smooth[name][1])
        assert mean.get_linewidth() > each.get_linewidth()
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["each", "mean"]


def test_grid_points_are_the_middles_of_the_cells_of_their_picture():
    points = pictures.grid((0.0, 4.0, -1.0, 1.0), size=2)
    assert points.tolist() == [[1.0, -0.5], [3.0, -0.5], [1.0, 0.5], [3.0, 0.5]]  # from the left, then from the bottom
    assert pictures.grid((-0.5, 1.5, -0.5, 1.5), size=2).tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]


@pytest.mark.parametrize("titles", [["one"], ["one", "two", "three"]])
def test_decision_regions_have_the_samples_on_them(titles):
    extent = (0.0, 3.0, 0.0, 1.0)
    classes = (pictures.grid(extent, 20)[:, 0] > 1.5).long().reshape(20, 20)
    x = torch.tensor([[0.5, 0.5], [2.5, 0.5], [2.0, 0.1]])
    figure = pictures.decision_regions(dict.fromkeys(titles, classes), x, torch.tensor([0, 1, 1]), extent)
    assert is_no_blank(figure)
    assert [axis.get_title() for axis in figure.axes] == titles
    for axis in figure.axes:
        assert [len(points.get_offsets()) for points in axis.collections] == [1, 2]
        assert np.allclose(np.concatenate([points.get_offsets() for points in axis.collections]), x)
        image = axis.images[0]
        assert image.origin == "lower"
        assert image.get_extent() == list(extent)


def test_each_panel_may_have_labels_of_its_own():
    x, half = torch.tensor([[0.2, 0.2], [0.8, 0.8]]), torch.zeros(2, 2)
    labels = {"a": torch.tensor([0, 1]), "b": torch.tensor([1, 1])}
    figure = pictures.decision_regions({"a": half, "b": half}, x, labels, (0.0, 1.0, 0.0, 1.0))
    assert [[len(points.get_offsets()) for points in axis.collections] for axis in figure.axes] == [[1, 1], [0, 2]]
    assert is_no_blank(figure)


@pytest.mark.parametrize("k", [0, 1])
def test_a_class_keeps_its_colour_where_it_fills_the_whole_picture(k):
    x, labels, extent = torch.tensor([[0.2, 0.2], [0.8, 0.8]]), torch.tensor([0, 1]), (0.0, 1.0, 0.0, 1.0)
    axis = pictures.decision_regions({"all": torch.full((5, 5), k)}, x, labels, extent).axes[0]
    shade = axis.images[0].to_rgba(np.array([k]), norm=True)[0, :3]
    assert np.allclose(shade, axis.collections[k].get_facecolor()[0, :3], atol=0.01)


def test_heat_is_transparent_at_zero_and_yellow_at_its_largest():
    images, heat = (
        torch.tensor([0.0, 0.5, 1.0, 1.0]).expand(2, 3, 1, 4),
        torch.tensor([[[0.0, 0, 0, 2]], [[9, 0, 0, 0]]]),
    )
    shown = pictures.heat_over(images, heat)
    assert torch.allclose(shown[0, :, 0, :3], torch.tensor([0, 0.4, 0.8]).expand(3, 3))  # the image, in grey
    for red, green, blue in (shown[0, :, 0, 3], shown[1, :, 0, 0]):  # whatever the size of the largest
        assert min(red, green) > 0.85
        assert blue < 0.1
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_heat_of_both_signs_is_red_above_and_blue_below_zero():
    shown = pictures.heat_over(torch.zeros(1, 1, 1, 3), torch.tensor([[[-3.0, 0, 3]]]))[
        0, :, 0
    ]  # (3, 3): colour, place
    assert shown.argmax(0)[[0, 2]].tolist() == [2, 0]
    assert shown[:, 1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("num_outliers", "cover"), [(1, 0.9), (400, 0.18)])
def test_one_pixel_does_not_set_the_scale_of_the_others(num_outliers, cover):
    heat = torch.ones(1, 900)
    heat[:, :num_outliers] = 5.0
    red = pictures.heat_over(torch.zeros(1, 1, 30, 30), heat.view(1, 30, 30))[0, 0, -1, -1]
    assert red == pytest.approx(cover)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (120, 150), (300, 20)])
def test_an_image_is_drawn_beside_its_heat(channels, height, width):
    image, heat = torch.rand(channels, height, width), torch.rand(height, width)
    figure = pictures.explained_image(image, heat, "cat $5 (90%)", caption="Grad-CAM")
    assert is_no_blank(figure)
    left, right = figure.axes
    assert np.allclose(left.images[0].get_array(), image.expand(3, -1, -1).permute(1, 2, 0))
    assert np.allclose(right.images[0].get_array(), pictures.heat_over(image[None], heat[None])[0].permute(1, 2, 0))
    assert (figure.get_suptitle(), right.get_title()) == ("cat $5 (90%)", "Grad-CAM")


def test_no_heat_at_all_is_the_image_alone():
    shown = pictures.heat_over(torch.rand(1, 1, 5, 5), torch.zeros(1, 5, 5))
    assert torch.equal(shown[:, 0], shown[:, 2])


def test_bars_are_sorted_by_size_and_no_more_than_can_be_read():
    values = {f"feature ${i}": (-1.0) ** i * i for i in range(50)}
    figure = pictures.bars(values, xlabel="share", title="fifty", most=20)
    assert is_no_blank(figure)
    axis = figure.axes[0]
    assert [bar.get_width() for bar in axis.patches] == [(-1.0) ** i * i for i in range(30, 50)]  # from the bottom up
    assert axis.get_yticklabels()[-1].get_text() == "feature $49"
    assert axis.get_title() == "fifty (20 of 50)"
    assert pictures.bars({"a": 0.0}, xlabel="", title="one").axes[0].get_title() == "one"


@pytest.mark.parametrize("losses", [[3.0, 2.0, 1.0, 50.0], [1.0, 1.0, 1.0, 1.0], [-1.0, -3.0, -2.0, 1e9]])
def test_a_rate_test_shows_the_fall_and_lets_the_divergence_leave_the_picture(losses):
    rates = [1e-4, 1e-3, 1e-2, 1e-1]
    figure = pictures.rate_test(rates, losses, losses, {"steepest fall": 1e-3, "another": 2e-3})
    axis = figure.axes[0]
    assert is_no_blank(figure)
    assert axis.get_xscale() == "log"
    low, high = axis.get_ylim()
    assert low < min(losses[:3]) <= max(losses[:2]) < high < 49
    assert [text.get_text() for text in axis.get_legend().get_texts()][2:] == ["steepest fall: 0.001", "another: 0.002"]


def test_drawing_leaves_nothing_in_the_global_registry():
    from matplotlib import pyplot

    pictures.confusion_matrix(counts(3), "abc")
    assert pyplot.get_fignums() == []


def test_a_value_over_depth_has_a_line_for_each_time_on_a_logarithmic_axis():
    figure = pictures.over_depth(["a", "b", "c"], {"first": [1e-4, 0.01, 1.0], "last": [1e-3, 0.1, 10]}, ylabel="norm")
    axis = figure.axes[0]
    assert is_no_blank(figure)
    first, last = (line for line in axis.lines if len(line.get_xdata()) == 3)
    assert np.allclose(first.get_ydata(), [-4, -2, 0])  # powers of ten
    assert np.allclose(last.get_ydata(), [-3, -1, 1])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c"]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["first", "last"]
    shown = dict(zip([label.get_text() for label in axis.get_yticklabels()], axis.get_yticks(), strict=True))
    assert all(float(text) == 10.0**power for text, power in shown.items())


def test_zeros_over_depth_are_marked_and_what_is_no_number_is_left_out():
    figure = pictures.over_depth(list("abcd"), {"now": [0.0, 0.5, float("inf"), float("nan")]}, ylabel="norm")
    drawn(figure)
    curve, zeros = figure.axes[0].lines[:2]
    assert np.isfinite(curve.get_ydata()).tolist() == [False, True, False, False]
    assert zeros.get_xdata().tolist() == [1]
    assert figure.axes[0].get_ylim()[0] < zeros.get_ydata()[0] < curve.get_ydata()[1]
    assert "exactly 0" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


@pytest.mark.parametrize("num_layers", [1, 30, 200])
def test_names_of_layers_fit_below_the_chart_whatever_their_number(num_layers):
    names = [f"stages.{i}.blocks.{i}.a_very_long_name_${i}" for i in range(num_layers)]
    figure = pictures.over_depth(names, {"now": [0.0] * num_layers}, ylabel="norm")
    drawn(figure)
    labels = figure.axes[0].get_xticklabels()
    assert 1 <= len(labels) <= 30
    boxes = [label.get_window_extent() for label in labels]
    assert all(box.y0 > 0 for box in boxes)
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))


def test_kernels_of_one_channel_are_red_and_blue_about_white():
    weights = torch.tensor([[[[1.0, 0.0], [-1.0, 0.5]]]])
    image = pictures.kernels(weights, side=2)  # a pixel for a weight, within a frame of two
    assert image.shape == (3, 6, 6)
    red, white, blue, pink = image[:, 2, 2], image[:, 2, 3], image[:, 3, 2], image[:, 3, 3]
    assert (red.tolist(), white.tolist(), blue.tolist()) == ([1, 0, 0], [1, 1, 1], [0, 0, 1])
    assert pink.tolist() == [1, 0.5, 0.5]


def test_kernels_of_three_channels_keep_their_colours_and_grey_is_0():
    weights = torch.zeros(1, 3, 1, 2)
    weights[0, :, 0, 0] = torch.tensor([1.0, 0.0, -1.0])
    image = pictures.kernels(weights, side=2)
    assert image[:, 2, 2].tolist() == [1, 0.5, 0]
    assert image[:, 2, 3].tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("shape", [(6, 1, 5, 5), (300, 3, 7, 7), (16, 2, 1, 9), (64, 1, 28, 28), (1, 1, 1, 1)])
def test_kernels_of_any_shape_make_an_image_of_about_one_size(shape):
    image = pictures.kernels(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert 0 <= image.min() < image.max() <= 1
    assert image.shape[0] == 3
    assert 300 < max(image.shape) < 900
    pictures.kernels(torch.zeros(shape))
    pictures.kernels(torch.full(shape, float("nan")))


def test_feature_maps_stand_beside_the_name_of_their_layer():
    generator = torch.Generator().manual_seed(0)
    maps = {"first": torch.rand(3, 4, 4, generator=generator), "a_very_long_name_of_a_layer": torch.rand(40, 2, 2)}
    figure = pictures.feature_maps(torch.rand(1, 8, 8, generator=generator), maps)
    assert is_no_blank(figure)
    axis = figure.axes[0]
    assert written(axis)[:2] == ["input", "first"]
    assert axis.images[0].get_array().shape == (3 * 52, 12 * 52, 3)  # no more than twelve maps
    assert all(box.x0 >= 0 for box in (text.get_window_extent() for text in axis.texts))


def test_of_many_layers_eight_are_shown_with_the_first_and_the_last():
    maps = {f"layer {i}": torch.rand(2, 3, 3) for i in range(50)}
    names = written(pictures.feature_maps(torch.rand(3, 8, 8), maps).axes[0])
    assert len(names) == 9
    assert (names[1], names[-1]) == ("layer 0", "layer 49")


def test_a_map_without_contrast_is_red():
    axis = pictures.feature_maps(torch.rand(3, 8, 8), {"dead": torch.zeros(1, 3, 3)}).axes[0]
    pixel = axis.images[0].get_array()[60, 10]
    assert pixel[0] > 0.7 > 0.3 > pixel[1]
