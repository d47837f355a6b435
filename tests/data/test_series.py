import os
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.data.series import Etth1, Series, SeriesCsv, Waves, part_sizes
from zoo.data.series_preprocessing import SeriesPreprocessing
from zoo.errors import UserError
from zoo.models.dlinear import DLinear
from zoo.tasks.forecasting import Forecasting

real_files = pytest.mark.skipif(not os.environ.get("ZOO_DATA"), reason="ZOO_DATA does not say where data lies")
PARTS = ("train", "val", "test")


class Given(Series):
    """A series that a test hands over."""

    def __init__(self, values: np.ndarray, **settings) -> None:
        super().__init__(**settings)
        self.values = values

    def read(self, notes):
        return self.values, [f"c{j}" for j in range(self.values.shape[1])]


def counting(num_steps: int) -> np.ndarray:
    """(N, 2): the number of each step, and its square."""
    steps = np.arange(num_steps, dtype=np.float64)
    return np.stack([steps, steps**2], 1)


def steps_of(data: Series, part: str) -> tuple[Tensor, Tensor]:
    """Which steps (W, L) and (W, H) the windows of a part of a counting series have."""
    loaded = data.prepare()
    mean, std = loaded.preprocessing["mean"][0], loaded.preprocessing["std"][0]
    dataset = loaded.parts[part]
    batch = dataset[torch.arange(len(dataset))]
    return tuple((tensor[..., 0].double() * std + mean).round().long() for tensor in batch)


SHAPES = [(8, 3, (0.7, 0.1, 0.2)), (1, 1, (0.5, 0.25, 0.25)), (20, 10, (60, 10, 20)), (5, 4, (0.8, 0.2, 0))]


@pytest.mark.parametrize(("past", "future", "shares"), SHAPES)
def test_a_window_is_a_stretch_without_gap_and_there_is_one_for_every_place(past, future, shares):
    data = Given(counting(100), past=past, future=future, shares=shares)
    sizes = part_sizes(100, shares)
    for part, size in zip(PARTS, sizes, strict=True):
        if size == 0:
            assert part not in data.prepare().parts
            continue
        before, after = steps_of(data, part)
        assert before.shape[1] == past
        assert after.shape[1] == future
        stretch = torch.cat([before, after], 1)
        assert (stretch.diff(dim=1) == 1).all()
        assert (stretch[:, 0].diff() == 1).all()
        assert len(stretch) == size - future + 1 - (past if part == "train" else 0)


@pytest.mark.parametrize(("past", "future", "shares"), SHAPES)
def test_what_is_to_be_predicted_lies_in_its_own_part_and_training_sees_nothing_later(past, future, shares):
    data, begin = Given(counting(100), past=past, future=future, shares=shares), 0
    for part, size in zip(PARTS, part_sizes(100, shares), strict=True):
        if size:
            before, after = steps_of(data, part)
            assert after.min() == (begin if part != "train" else past)
            assert after.max() == begin + size - 1  # the last step is used, and none after it
            assert before.min() >= 0
        begin += size


def test_both_columns_belong_to_the_same_step():
    loaded = Given(counting(100), past=8, future=3).prepare()
    state = loaded.preprocessing
    past, future = loaded.parts["test"][torch.tensor([0, 5])]
    values = torch.cat([past, future], 1).double() * torch.tensor(state["std"]) + torch.tensor(state["mean"])
    torch.testing.assert_close(values[..., 1], values[..., 0] ** 2, rtol=1e-4, atol=0.1)


def test_scaling_is_that_of_the_training_part_alone():
    values = np.random.default_rng(0).normal(5, 3, (100, 2))
    loaded = Given(values, past=8, future=3).prepare()
    mean, std = values[:70].mean(0), values[:70].std(0)
    assert loaded.preprocessing["mean"] == pytest.approx(mean.tolist())
    assert loaded.preprocessing["std"] == pytest.approx(std.tolist())
    later = values.copy()
    later[70:] = 1000.0
    changed = Given(later, past=8, future=3).prepare()
    assert changed.preprocessing == loaded.preprocessing
    everywhere = torch.arange(len(loaded.parts["train"]))
    for a, b in zip(loaded.parts["train"][everywhere], changed.parts["train"][everywhere], strict=True):
        assert torch.equal(a, b)
    past, future = loaded.parts["test"][torch.tensor([0])]  # the past reaches back into the validation part
    expected = (values[72:83] - mean) / std
    assert torch.cat([past, future], 1)[0].numpy() == pytest.approx(expected.astype(np.float32), abs=1e-6)


def test_a_column_that_never_changes_is_0():
    values = np.concatenate([counting(60), np.full((60, 1), 7.0)], 1)
    past, future = Given(values, past=8, future=3).prepare().parts["train"][torch.arange(4)]
    assert not past[..., 2].any()
    assert not future[..., 2].any()


def test_an_earlier_runs_scaling_is_used_again():
    first = Given(counting(100), past=8, future=3)
    state = first.prepare().preprocessing
    second = Given(counting(100) + 50, past=8, future=3)
    second.prepare_as(state)
    scaled = SeriesPreprocessing.from_dict(state)(counting(100) + 50)
    assert torch.equal(second.prepare().parts["train"][torch.tensor([0])].past[0], scaled[:8])
    assert second.prepare().preprocessing == state
    with pytest.raises(UserError, match="kind 'image'"):
        SeriesPreprocessing.from_dict({"kind": "image"})


@pytest.mark.parametrize(("num_steps", "shares", "sizes"), [
    (100, (0.7, 0.1, 0.2), [70, 10, 20]),
    (17, (0.7, 0.1, 0.2), [11, 3, 3]),
    (10, (1.0, 0.0, 0.0), [10, 0, 0]),
    (10, (0.8, 0.0, 0.2), [8, 0, 2]),
    (10, (1, 0, 0), [10, 0, 0]),
    (10, (5, 2, 2), [5, 2, 2]),
    (1000, (0.29, 0.13, 0.58), [290, 130, 580]),  # 0.29 * 1000 is 289.99...
])  # fmt: skip
def test_parts_are_shares_or_numbers_of_steps(num_steps, shares, sizes):
    assert part_sizes(num_steps, shares) == sizes


@pytest.mark.parametrize(("shares", "message"), [
    ((0.5, 0.1), "must be shares of train, val and test"), ((0.5, 0.1, 0.1), "must be shares"),
    ((-1, 1, 1), "must be shares"), ((0, 5, 5), "must be shares"), ((8, 2, 2), "12 steps, and the series has 10"),
])  # fmt: skip
def test_shares_that_cannot_be_are_refused(shares, message):
    with pytest.raises(UserError, match=message):
        part_sizes(10, shares)


@pytest.mark.parametrize(("num_steps", "shares", "message"), [
    (100, (0.7, 0.1, 0.2), "100 steps, 70 of them in the train part, which needs 76"),
    (130, (0.8, 0.1, 0.1), "130 steps, 13 of them in the val part, which needs 16"),
    (200, (0.8, 0.15, 0.05), "200 steps, 10 of them in the test part, which needs 16"),
])  # fmt: skip
def test_a_part_too_short_for_one_window_is_said_with_what_it_needs(num_steps, shares, message):
    with pytest.raises(UserError, match=message) as caught:
        Given(counting(num_steps), past=60, future=16, shares=shares).prepare()
    assert "\n" not in str(caught.value)
    assert "data.past=60" in str(caught.value)


def test_a_part_with_room_for_just_one_window_has_it():
    parts = Given(counting(108), past=60, future=16, shares=(76, 16, 16)).prepare().parts
    assert [len(parts[name]) for name in PARTS] == [1, 1, 1]


def test_a_share_of_the_training_part_keeps_whole_windows():
    data = Given(counting(100), past=8, future=3, fraction=0.25)
    stretch = torch.cat(steps_of(data, "train"), 1)
    assert len(stretch) == 15  # of 60
    assert (stretch.diff(dim=1) == 1).all()


# The user's own file.


def write(path, *, rows: int = 60, header: str = "date,load,price", cells=lambda i: f"2024-01-{i},{i},{i / 2}"):
    path.write_text("\n".join([header, *(cells(i) for i in range(rows))]) + "\n")
    return str(path)


def small(path: str, **settings) -> SeriesCsv:
    return SeriesCsv(path=path, past=8, future=3, **settings)


def test_all_columns_of_numbers_are_read_and_the_others_named(tmp_path):
    loaded = small(write(tmp_path / "a.csv")).prepare()
    assert loaded.class_names == ["load", "price"]
    assert loaded.facts | {"input_size": 2, "num_targets": 2, "seq_len": 8, "horizon": 3} == loaded.facts
    assert loaded.notes == ["Left out, since no numbers: 'date'.", "Read and predicted: 'load', 'price'."]
    past = loaded.parts["train"][torch.tensor([0])].past[0].double()
    state = loaded.preprocessing
    values = past * torch.tensor(state["std"]) + torch.tensor(state["mean"])
    assert values.flatten().tolist() == pytest.approx([x for i in range(8) for x in (i, i / 2)], abs=1e-4)


def test_a_date_of_numbers_is_left_out_where_it_is_named(tmp_path):
    path = write(tmp_path / "a.csv", header="step,load", cells=lambda i: f"{i},{i % 7}")
    assert small(path).prepare().class_names == ["step", "load"]
    assert small(path, date="step").prepare().class_names == ["load"]


def test_columns_are_those_that_were_asked_for_in_that_order(tmp_path):
    path = write(tmp_path / "a.csv")
    assert small(path, columns=["price", "load"]).prepare().class_names == ["price", "load"]
    assert small(path, columns="price").prepare().facts["input_size"] == 1


def test_an_earlier_runs_columns_are_read_again_in_their_order(tmp_path):
    state = small(write(tmp_path / "a.csv"), columns=["price", "load"]).prepare().preprocessing
    other = write(tmp_path / "b.csv", header="extra,load,price", cells=lambda i: f"9{i},{i},{i / 2}")
    again = small(other)
    again.prepare_as(state)
    assert again.prepare().class_names == ["price", "load"]
    lacking = small(write(tmp_path / "c.csv", header="load", cells=str))
    lacking.prepare_as(state)
    with pytest.raises(UserError, match="has no column 'price'"):
        lacking.prepare()


def test_a_series_is_read_as_the_file_of_training(tmp_path):
    """No cell of the second file has a comma, and the points stand between thousands as in the first."""
    first = write(tmp_path / "a.csv", header="day;load", cells=lambda i: f"d{i};1.{200 + i},5")
    trained = small(first).prepare()
    assert trained.preprocessing["commas"] == ["load"]
    other = small(write(tmp_path / "b.csv", header="day;load", cells=lambda i: f"d{i};1.{200 + i}"))
    other.prepare_as(trained.preprocessing)
    loaded = other.prepare()
    assert loaded.parts["train"].values.abs().max() < 5
    assert any("as in the file of training" in note for note in loaded.notes)


def test_a_single_column_and_decimal_commas_are_read(tmp_path):
    assert small(write(tmp_path / "a.csv", header="load", cells=str)).prepare().facts["input_size"] == 1
    path = write(tmp_path / "b.csv", header="day;load", cells=lambda i: f"d{i};{i},5")
    assert small(path).prepare().preprocessing["mean"] == [pytest.approx(np.arange(42).mean() + 0.5)]


@pytest.mark.parametrize(("cells", "settings", "message"), [
    (lambda i: f"d,{i},{'' if i == 5 else i}", {}, r"row 7, column 'price': the value is missing"),
    (lambda i: f"d,{i},{'NaN' if i == 5 else i}", {}, r"row 7, column 'price': the value is missing"),
    (lambda i: f"d,{i},{'x' if i == 5 else i}", {}, r"row 7, column 'price': 'x' is not a number"),
    (lambda i: f"d,{i},{'inf' if i == 5 else i}", {}, r"row 7, column 'price': 'inf' is infinite"),
    (lambda i: f"d,{i},{i}", {"columns": ["date"]}, r"row 2, column 'date': 'd' is not a number"),
    (lambda i: f"d,{i},{i}", {"columns": ["lod"]}, r"has no column 'lod'; did you mean 'load'"),
    (lambda i: f"d,{i},{i}", {"date": "dat"}, r"has no column 'dat'; did you mean 'date'"),
    (lambda i: f"d,{i},{i}", {"columns": []}, r"data.columns=\[\] must name"),
    (lambda i: f"d,{i},{i}", {"columns": ["load", "load"]}, r"must name each column once"),
    (lambda i: f"d,{i},{i}", {"columns": ["load"], "date": "load"}, r"and not the date"),
    (lambda i: "d,a,b", {}, r"has no column of numbers"),
    (lambda i: f"d,{i}", {}, r"row 2: 3 fields expected"),
])  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path, cells, settings, message):
    path = write(tmp_path / "a.csv", cells=cells)
    with pytest.raises(UserError, match=message) as caught:
        small(path, **settings).prepare()
    assert "\n" not in str(caught.value)


def test_a_file_shorter_than_its_window_is_refused_by_its_name(tmp_path):
    path = write(tmp_path / "short.csv", rows=12)
    with pytest.raises(UserError, match=r"short.csv has 12 steps, 8 of them in the train part, which needs 11"):
        small(path).prepare()


# The series that come with the zoo.


def test_waves_are_made_from_the_seed():
    first, again, other = (Waves(seed=seed).prepare() for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.facts["input_size"] == 3


def test_waves_without_noise_repeat_each_week_up_to_their_trend():
    values, names = Waves(noise=0.0, num_steps=700).read([])
    assert values.shape == (700, len(names))
    week = values[168:] - values[:-168]
    assert np.ptp(week, axis=0) == pytest.approx([0, 0, 0], abs=1e-9)
    assert week[0] == pytest.approx([0.2 * 0.168, -0.2 * 0.168, 0])
    noisy, _ = Waves(noise=0.5, num_steps=700).read([])
    assert (noisy - values).std(0) == pytest.approx([0.5] * 3, rel=0.15)


def test_a_linear_map_learns_waves_far_better_than_repeating():
    loaded = Waves(noise=0.1).prepare()
    torch.manual_seed(0)
    task = Forecasting(DLinear(seq_len=96, horizon=24), partial(torch.optim.Adam, lr=0.005), horizon=24)
    train, val = (loaded.parts[name][torch.arange(len(loaded.parts[name]))] for name in ("train", "val"))
    optimizer = task.build_optimizer(task.model.parameters())
    for _ in range(60):
        optimizer.zero_grad()
        task.losses(train)["loss"].backward()
        optimizer.step()
    task.evaluate("val", val)
    found = task.means["val"].so_far()
    assert found["mse"] < 0.2 * found["repeat_mse"]


@real_files
def test_etth1_is_cut_into_12_4_and_4_months_and_scaled_as_the_paper_does():
    data = Etth1(data_dir=os.environ["ZOO_DATA"])
    loaded = data.prepare()
    assert [len(loaded.parts[name]) for name in PARTS] == [8209, 2785, 2785]
    assert loaded.class_names == ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    values, _ = data.read([])
    assert values.shape == (17420, 7)
    assert values[0].tolist() == pytest.approx([5.827, 2.009, 1.599, 0.462, 4.203, 1.340, 30.531], abs=1e-3)
    scaled = (values - values[:8640].mean(0)) / values[:8640].std(0)
    for part, first, last in [("train", 336, 8640), ("val", 8640, 11520), ("test", 11520, 14400)]:
        windows = loaded.parts[part]
        ends = windows[torch.tensor([0, len(windows) - 1])].future.numpy()
        assert ends[0] == pytest.approx(scaled[first : first + 96].astype(np.float32), abs=1e-5)
        assert ends[1] == pytest.approx(scaled[last - 96 : last].astype(np.float32), abs=1e-5)


@real_files
def test_repeating_the_last_value_of_etth1_has_the_papers_errors():
    windows = Etth1(data_dir=os.environ["ZOO_DATA"]).prepare().parts["test"]
    task = Forecasting(DLinear(seq_len=336, horizon=96), partial(torch.optim.Adam, lr=0.005), horizon=96)
    for indices in torch.arange(len(windows)).split(512):
        with torch.no_grad():
            task.evaluate("test", windows[indices])
    found = task.means["test"].so_far()
    assert found["repeat_mse"] == pytest.approx(1.295, abs=0.001)  # Zeng et al. 2022, table 2: Repeat
    assert found["repeat_mae"] == pytest.approx(0.713, abs=0.001)


def test_another_file_than_etth1_is_refused(tmp_path):
    folder = tmp_path / "ETT-small"
    folder.mkdir()
    write(folder / "ETTh1.csv")
    with pytest.raises(UserError, match="is not the published file"):
        Etth1(data_dir=str(tmp_path)).prepare()


def test_sizes_that_cannot_be_are_refused():
    for settings, message in [
        ({"past": 0}, "data.past=0"), ({"future": 0}, "data.horizon=0"), ({"noise": -1.0}, "data.noise=-1.0"),
        ({"num_steps": 0}, "data.num_steps=0"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=message):
            Waves(**settings)
