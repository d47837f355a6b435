import pytest
import torch

from zoo.pictures.series import answers_by_step, forecasts


def draw(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("num_windows", "num_columns", "past", "horizon"), [(1, 1, 5, 1), (3, 2, 40, 12), (2, 9, 9, 4)]
)
def test_each_window_has_a_chart_a_column_with_past_future_and_forecast(
    num_windows, num_columns, past, horizon, is_no_blank
):
    known, future, forecast = (draw(num_windows, steps, num_columns) for steps in (past, horizon, horizon))
    names = [f"cost $ of {j}" for j in range(num_columns)]
    figure = forecasts(known, future, forecast, names)
    shown = min(4, num_columns)
    assert len(figure.axes) == num_windows * shown
    assert [axis.get_title() for axis in figure.axes[:shown]] == names[:shown]
    labels = [(axis.get_xlabel(), axis.get_ylabel()) for axis in figure.axes[-shown:]]
    assert labels == [("steps ahead", "value"), *[("steps ahead", "")] * (shown - 1)]
    lines = figure.axes[-1].lines
    drawn = min(past, 3 * horizon)
    assert lines[0].get_xdata()[-1] == 0
    assert lines[0].get_ydata().tolist() == known[-1, -drawn:, shown - 1].tolist()
    for line, values in zip(lines[1:3], (future, forecast), strict=True):
        assert list(line.get_xdata()) == list(range(1, horizon + 1))
        assert line.get_ydata().tolist() == values[-1, :, shown - 1].tolist()
    assert is_no_blank(figure)


@pytest.mark.parametrize(("num_steps", "most"), [(1, 200), (30, 200), (30, 10)])
def test_what_is_true_stands_above_what_is_probable_with_the_numbers_of_its_steps(num_steps, most, is_no_blank):
    probabilities, true = draw(num_steps, 6), (draw(num_steps, 6) > 0.5).long()
    figure = answers_by_step(probabilities, true, of="key", most_steps=most)
    assert [axis.get_ylabel() for axis in figure.axes[:2]] == ["key", "key"]
    first = max(0, num_steps - most)
    for axis, values in zip(figure.axes[:2], (true, probabilities), strict=True):
        image = axis.images[0]
        assert torch.equal(torch.tensor(image.get_array().tolist()).T, values[first:].float())
        assert image.get_extent() == [first - 0.5, num_steps - 0.5, -0.5, 5.5]
    assert is_no_blank(figure)
