import pytest

from zoo.pictures.curves import curves, noisy_curves, rate_test


@pytest.mark.parametrize("logarithmic", [False, True])
def test_curves_are_named_in_a_legend(logarithmic, is_no_blank):
    series = {"train": ([1, 2, 3], [3.0, 2.0, 1.0]), "val": ([1, 2, 3], [3.0, 2.5, 2.0])}
    figure = curves(series, xlabel="epoch", ylabel="loss", title="a title", logarithmic=logarithmic)
    axis = figure.axes[0]
    assert is_no_blank(figure)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["train", "val"]
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_title()) == ("epoch", "loss", "a title")
    assert axis.get_yscale() == ("log" if logarithmic else "linear")


def test_a_curve_of_few_points_shows_each_and_needs_no_legend_alone():
    axis = curves({"train": ([1], [3.0])}, xlabel="epoch", ylabel="loss").axes[0]
    assert axis.lines[0].get_marker() == "o"
    assert axis.get_legend() is None


@pytest.mark.parametrize(("low", "high", "shown"), [(0.06, 1.4, "0.2"), (1e-4, 10.0, "0.001")])
def test_a_logarithmic_axis_has_plain_numbers(low, high, shown, drawn):
    figure = curves({"a": ([0, 1], [low, high])}, xlabel="x", ylabel="y", logarithmic=True)
    drawn(figure)
    numbers = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert shown in numbers
    assert len(numbers) <= 12


def test_whole_numbers_have_no_ticks_between_them():
    whole, parts = (curves({"a": (x, x)}, xlabel="x", ylabel="y") for x in ([1, 2, 3], [0.5, 1.0, 2.0]))
    assert all(tick.is_integer() for tick in whole.axes[0].get_xticks())
    assert not all(tick.is_integer() for tick in parts.axes[0].get_xticks())


def test_noisy_curves_stand_side_by_side_on_common_axes(is_no_blank):
    smooth = {"a": ([0, 1], [1.0, 1.0]), "b": ([0, 2], [2.0, 2.0])}
    noisy = {"a": ([0, 1], [0.0, 3.0]), "b": (range(50), range(50))}
    figure = noisy_curves(smooth, noisy, labels=("mean", "each"), xlabel="x", ylabel="y", title="a title")
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


@pytest.mark.parametrize("losses", [[3.0, 2.0, 1.0, 50.0], [1.0, 1.0, 1.0, 1.0], [-1.0, -3.0, -2.0, 1e9]])
def test_a_rate_test_shows_the_fall_and_lets_the_divergence_leave_the_picture(losses, is_no_blank):
    rates = [1e-4, 1e-3, 1e-2, 1e-1]
    figure = rate_test(rates, losses, losses, {"steepest fall": 1e-3, "another": 2e-3})
    axis = figure.axes[0]
    assert is_no_blank(figure)
    assert axis.get_xscale() == "log"
    low, high = axis.get_ylim()
    assert low < min(losses[:3]) <= max(losses[:2]) < high < 49
    assert [text.get_text() for text in axis.get_legend().get_texts()][2:] == ["steepest fall: 0.001", "another: 0.002"]
