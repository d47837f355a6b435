from functools import partial

import pytest
import torch
from torch import Tensor, nn

from zoo.batches import SeriesBatch
from zoo.errors import UserError
from zoo.tasks.forecasting import Forecasting

SGD = partial(torch.optim.SGD, lr=0.1)
N, L, H, C = 11, 6, 4, 3


class Always(nn.Module):
    """One value everywhere."""

    def __init__(self, value: float = 0.25) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, past: Tensor) -> Tensor:
        return self.value.expand(len(past), H, past.shape[2])


def windows(num_windows: int = N) -> SeriesBatch:
    values = torch.randn(num_windows, L + H, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return SeriesBatch(values[:, :L], values[:, L:])


def logged(task: Forecasting, sizes: list[int], monkeypatch) -> dict[str, float]:
    """What a validation over the windows, cut into batches of these sizes, logs."""
    found: dict[str, float] = {}
    monkeypatch.setattr(task, "log_dict", lambda values, **options: found.update(values))
    task.start("val")
    for past, future in zip(*(tensor.split(sizes) for tensor in windows()), strict=True):
        task.evaluate("val", SeriesBatch(past, future))
    task.finish("val")
    return {name.removeprefix("val/"): float(value) for name, value in found.items()}


@pytest.mark.parametrize("sizes", [[11], [1, 10], [4, 4, 3]], ids=str)
def test_errors_are_means_over_all_windows_steps_and_columns(sizes, monkeypatch):
    found = logged(Forecasting(Always(), SGD, horizon=H), sizes, monkeypatch)
    differences = [y - 0.25 for y in windows().future.flatten().tolist()]
    count = N * H * C
    assert found["mse"] == pytest.approx(sum(d * d for d in differences) / count, rel=1e-12)
    assert found["mae"] == pytest.approx(sum(map(abs, differences)) / count, rel=1e-12)


@pytest.mark.parametrize("sizes", [[11], [1, 10], [4, 4, 3]], ids=str)
def test_naive_repeat_says_the_last_known_value_of_each_column(sizes, monkeypatch):
    found = logged(Forecasting(Always(), SGD, horizon=H), sizes, monkeypatch)
    past, future = windows()
    differences = [
        float(future[b, h, c] - past[b, L - 1, c]) for b in range(N) for h in range(H) for c in range(C)
    ]  # fmt: skip
    assert found["repeat_mse"] == pytest.approx(sum(d * d for d in differences) / len(differences), rel=1e-12)
    assert found["repeat_mae"] == pytest.approx(sum(map(abs, differences)) / len(differences), rel=1e-12)


def test_the_repeat_is_not_reckoned_in_training():
    assert set(Forecasting(Always(), SGD, horizon=H).losses(windows())) == {"loss", "mse", "mae"}


@pytest.mark.parametrize(("loss", "metric"), [("mean_squared_error", "mse"), ("mean_absolute_error", "mae")])
def test_what_is_minimized_is_the_error_that_was_asked_for(loss, metric):
    task = Forecasting(Always(), SGD, horizon=H, loss=loss)
    found = task.losses(windows())
    assert found["loss"] == found[metric]
    assert found["mse"] != found["mae"]
    found["loss"].backward()
    residual = 0.25 - windows().future
    expected = (2 * residual).mean() if metric == "mse" else residual.sign().mean()
    assert task.model.value.grad.item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("number", [1, 2, 11])
def test_pictures_show_some_windows_far_apart(number):
    figure = Forecasting(Always(), SGD, horizon=H, target_names=["a", "b", "c"]).show(windows(number))["forecasts"]
    assert len(figure.axes) == min(3, number) * C
    future = figure.axes[-1].lines[1].get_ydata()  # of the last window shown, its last column
    assert future.tolist() == pytest.approx(windows(number).future[-1, :, -1].tolist(), abs=1e-6)


def test_an_unknown_loss_is_refused_with_those_there_are():
    with pytest.raises(UserError, match="did you mean 'mean_squared_error'"):
        Forecasting(Always(), SGD, horizon=H, loss="mean_square_error")
