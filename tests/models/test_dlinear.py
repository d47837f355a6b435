import pytest
import torch
from torch import Tensor

from zoo.errors import UserError
from zoo.models.dlinear import DLinear

L, H, C = 9, 4, 3


def past(num_windows: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(num_windows, L, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(variant: str, kernel_size: int = 5) -> DLinear:
    """A network whose weights are no longer those it starts with."""
    model = DLinear(seq_len=L, horizon=H, variant=variant, kernel_size=kernel_size).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def average(series: list[float], kernel_size: int) -> list[float]:
    """Mean over the steps around each, with the ends repeated."""
    half, last = kernel_size // 2, len(series) - 1
    near = [[series[min(max(j, 0), last)] for j in range(i - half, i + half + 1)] for i in range(len(series))]
    return [sum(values) / kernel_size for values in near]


def mapped(layer: torch.nn.Linear, series: list[float]) -> list[float]:
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [b + sum(w * x for w, x in zip(row, series, strict=True)) for row, b in zip(weight, bias, strict=True)]


def by_hand(model: DLinear, series: list[float], kernel_size: int) -> list[float]:
    if model.variant == "nlinear":
        return [y + series[-1] for y in mapped(model.rest, [x - series[-1] for x in series])]
    if model.variant == "linear":
        return mapped(model.rest, series)
    trend = average(series, kernel_size)
    rest = [x - t for x, t in zip(series, trend, strict=True)]
    return [a + b for a, b in zip(mapped(model.rest, rest), mapped(model.trend, trend), strict=True)]


@pytest.mark.parametrize(("variant", "kernel_size"), [
    ("dlinear", 1), ("dlinear", 5), ("dlinear", 25), ("nlinear", 5), ("linear", 5)
])  # fmt: skip
def test_each_column_is_forecast_by_the_papers_formula(variant, kernel_size):
    model, x = drawn(variant, kernel_size), past()
    outputs = model(x)
    assert outputs.shape == (2, H, C)
    for b in range(2):
        for c in range(C):
            expected = by_hand(model, x[b, :, c].tolist(), kernel_size)
            assert outputs[b, :, c].tolist() == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("variant", ["dlinear", "nlinear", "linear"])
def test_a_column_does_not_see_the_others_and_shares_their_weights(variant):
    model, x = drawn(variant), past()
    other = x.clone()
    other[:, :, 1:] = 100.0
    torch.testing.assert_close(model(other)[..., 0], model(x)[..., 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(model(x.flip(2)), model(x).flip(2), rtol=0, atol=1e-12)


def test_nlinear_follows_the_level_of_a_series_and_linear_does_not():
    x = past()
    for variant, follows in [("nlinear", True), ("linear", False), ("dlinear", False)]:
        model = drawn(variant)
        assert torch.allclose(model(x + 10.0), model(x) + 10.0) is follows


@pytest.mark.parametrize("variant", ["dlinear", "linear"])
def test_the_first_forecast_is_the_mean_of_the_past(variant):
    outputs = DLinear(seq_len=L, horizon=H, variant=variant).double()(past())
    torch.testing.assert_close(outputs, past().mean(1, keepdim=True).expand(-1, H, -1), rtol=0, atol=1e-6)


def test_the_first_forecast_of_nlinear_is_the_last_value():
    outputs = DLinear(seq_len=L, horizon=H, variant="nlinear").double()(past())
    assert torch.equal(outputs, past()[:, -1:].expand(-1, H, -1))


def test_the_size_does_not_depend_on_the_number_of_columns():
    count = sum(p.numel() for p in DLinear(seq_len=96, horizon=720).parameters())
    assert count == 2 * (96 * 720 + 720)  # two maps and their biases


@pytest.mark.parametrize(("settings", "message"), [
    ({"variant": "nliner"}, "did you mean 'nlinear'"), ({"kernel_size": 24}, "model.kernel_size=24 must be odd"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        DLinear(seq_len=L, horizon=H, **settings)
    assert "\n" not in str(caught.value)
