import copy
import importlib
import inspect
import io
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from zoo.data.sheet import Sheet
from zoo.data.table import BreastCancer, Diabetes, Iris, Xor
from zoo.data.table_preprocessing import TablePreprocessing
from zoo.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs" / "data"
FACTS = ("num_features", "num_classes", "num_targets")
HOUSES = Sheet(
    {
        "rooms": ["2", "4", "6", "8"],
        "town": ["Ulm", "Bonn", "Ulm", "Kiel"],
        "sold": ["no", "yes", "no", "yes"],
    }
)


def fitted(sheet: Sheet = HOUSES, target: str = "sold", **options) -> TablePreprocessing:
    return TablePreprocessing.fit(sheet, target=target, **{"regression": False, **options})


@pytest.mark.parametrize(
    ("data", "rows", "facts"),
    [
        (Iris(), [105, 21, 24], {"kind": "multiclass", "num_features": 4, "num_classes": 3}),
        (BreastCancer(), [398, 85, 86], {"kind": "binary", "num_features": 30, "num_classes": 2}),
        (Diabetes(), [309, 67, 66], {"kind": "regression", "num_features": 10, "num_targets": 1}),
        (Xor(), [280, 60, 60], {"kind": "binary", "num_features": 2, "num_classes": 2}),
    ],
    ids=["iris", "breast_cancer", "diabetes", "xor"],
)
def test_shipped_tables_have_their_sizes_and_clean_batches(data, rows, facts):
    loaded = data.prepare()
    counts = loaded.facts.pop("label_counts", None)
    assert {key: value for key, value in loaded.facts.items() if not key.startswith("target_")} == facts
    assert [len(loaded.parts[name]) for name in ("train", "val", "test")] == rows
    batch = next(iter(data.train_dataloader()))
    assert batch.x.dtype == torch.float32
    assert batch.x.shape == (64, facts["num_features"])
    assert batch.x.isfinite().all()
    if counts is None:
        assert batch.target.dtype == torch.float32
        assert batch.target.shape == (64, 1)
    else:
        assert batch.target.dtype == torch.int64
        assert counts == torch.bincount(loaded.train_labels).tolist()


@pytest.mark.parametrize("name", ["iris", "breast_cancer", "diabetes", "xor", "csv"])
def test_a_config_says_what_the_data_set_takes_and_is(name):
    config = OmegaConf.load(CONFIGS / f"{name}.yaml").data
    module, _, kind = config.pop("_target_").rpartition(".")
    facts = {key: value for key, value in OmegaConf.to_container(config).items() if key in FACTS}
    data = getattr(importlib.import_module(module), kind)
    assert set(config) - set(facts) <= set(inspect.signature(data).parameters)
    if name != "csv":
        assert facts == {key: value for key, value in data().prepare().facts.items() if key in FACTS}


def test_training_features_have_mean_zero_and_deviation_one():
    x = Diabetes().prepare().parts["train"].tensors[0]
    assert torch.allclose(x.mean(0), torch.zeros(10), atol=1e-5)
    assert torch.allclose(x.std(0, unbiased=False), torch.ones(10), atol=1e-4)


def test_diabetes_can_be_told_in_its_original_units():
    loaded = Diabetes().prepare()
    y = torch.cat([part.tensors[1] for part in loaded.parts.values()])
    y = y * loaded.facts["target_std"][0] + loaded.facts["target_mean"][0]
    assert (y.min().item(), y.max().item()) == (pytest.approx(25), pytest.approx(346))


def test_every_part_has_every_class_in_the_same_shares():
    for part in Iris().prepare().parts.values():
        assert torch.bincount(part.tensors[1]).unique().numel() == 1


def test_same_seed_gives_the_same_table_and_another_seed_another():
    same, again, other = (Iris(seed=seed).prepare().fingerprint for seed in (3, 3, 4))
    assert same == again != other
    assert len(same) == 16


def test_xor_labels_are_the_exclusive_or_of_the_nearest_corner():
    data = Xor(noise=0.05)
    x = torch.cat([part.tensors[0] for part in data.prepare().parts.values()])
    y = torch.cat([part.tensors[1] for part in data.prepare().parts.values()])
    bits = (x > 0).long()  # standardized: the middle between two corners is 0
    assert torch.equal(bits[:, 0] ^ bits[:, 1], y)
    assert torch.bincount(y).tolist() == [200, 200]


@pytest.mark.parametrize("options", [{"num_samples": 7}, {"noise": -1.0}])
def test_xor_refuses_sizes_that_cannot_be(options):
    with pytest.raises(UserError, match="num_samples"):
        Xor(**options)


def test_numbers_are_standardized_and_texts_one_hot():
    x, notes = fitted().encode(HOUSES)
    assert fitted().features == ["rooms", "town=Bonn", "town=Kiel", "town=Ulm"]
    expected = [[-3, 0, 0, 1], [-1, 1, 0, 0], [1, 0, 0, 1], [3, 0, 1, 0]]
    assert torch.allclose(x, torch.tensor(expected) / torch.tensor([5**0.5, 1, 1, 1]))
    assert notes == []


def test_columns_are_found_by_name_and_others_left_alone():
    shuffled = Sheet({"extra": ["x"] * 4, "town": HOUSES.columns["town"], "rooms": HOUSES.columns["rooms"]})
    assert torch.equal(fitted().encode(shuffled)[0], fitted().encode(HOUSES)[0])


def test_unseen_values_become_zeros_and_are_counted():
    x, notes = fitted().encode(Sheet({"rooms": ["5", "5", "5"], "town": ["Rom", "Ulm", "Wien"]}))
    assert x.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert notes == ["column 'town' has 2 unseen values, such as 'Rom': zeros."]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"town": ["Ulm"]}, "new.csv lacks what the model was trained on: 'rooms'. It has: town."),
        ({"rooms": ["abc"], "town": ["Ulm"]}, "new.csv, row 9, column 'rooms': 'abc' is not a number"),
        ({"rooms": [""], "town": ["Ulm"]}, "new.csv, row 9, column 'rooms': the value is missing"),
        ({"rooms": ["2"], "town": ["NA"]}, "new.csv, row 9, column 'town': the value is missing"),
        ({"rooms": ["-inf"], "town": ["Ulm"]}, "new.csv, row 9, column 'rooms': '-inf' is infinite"),
        ({"rooms": ["1e300"], "town": ["Ulm"]}, "new.csv, row 9, column 'rooms': '1e300' is infinite or too large"),
    ],
)
def test_new_rows_that_do_not_fit_are_refused_by_row_and_column(columns, message):
    with pytest.raises(UserError) as error:
        fitted().encode(Sheet(columns, [9], "new.csv"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_numbers_become_the_training_median_and_texts_a_category():
    train = Sheet({"n": ["1", "", "2", "9"], "t": ["a", "b", "?", "b"], "y": ["0", "1", "0", "1"]})
    prepared = fitted(train, "y", impute=True)
    assert prepared.features == ["n", "t=(missing)", "t=a", "t=b"]
    assert torch.equal(
        prepared.encode(Sheet({"n": ["NA"], "t": [None]}))[0],
        prepared.encode(Sheet({"n": ["2"], "t": ["(missing)"]}))[0],
    )


def test_a_text_that_training_never_missed_is_filled_with_the_most_frequent():
    train = Sheet({"t": ["b", "a", "b"], "y": ["0", "1", "0"]})
    assert fitted(train, "y", impute=True).encode(Sheet({"t": [""]}))[0].tolist() == [[0, 1]]


def test_preprocessing_survives_a_weights_only_checkpoint():
    prepared = fitted(impute=True)
    file = io.BytesIO()
    torch.save(prepared.to_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert state["kind"] == "table"
    assert TablePreprocessing.from_dict(state) == prepared


def test_shipped_preprocessing_survives_a_weights_only_checkpoint():
    file = io.BytesIO()
    torch.save(Iris().prepare().preprocessing, file)
    file.seek(0)
    assert TablePreprocessing.from_dict(torch.load(file, weights_only=True)).class_names[0] == "setosa"


def test_preprocessing_of_another_kind_of_data_is_refused():
    with pytest.raises(UserError, match="'images'"):
        TablePreprocessing.from_dict({"kind": "images"})


@pytest.mark.parametrize(
    ("labels", "names", "encoded"),
    [
        (["10", "9", "9"], ["9", "10"], [1, 0, 0]),  # by number, not by letter
        (["1.0", "1", "2"], ["1", "2"], [0, 0, 1]),  # one class, two spellings
        (["b", "a", "10"], ["10", "a", "b"], [2, 1, 0]),
        (["-1", "1", "0.5"], ["-1", "0.5", "1"], [0, 2, 1]),
    ],
)
def test_labels_count_from_zero_in_the_order_of_the_classes(labels, names, encoded):
    sheet = Sheet({"x": [1.0, 2.0, 3.0], "y": labels})
    prepared = fitted(sheet, "y")
    assert prepared.class_names == names
    assert prepared.encode_target(sheet).tolist() == encoded


def test_a_class_that_training_lacks_is_refused_by_row():
    with pytest.raises(UserError, match=r"row 2, column 'sold': the training part has no class 'maybe'"):
        fitted().encode_target(Sheet({"sold": ["no", "maybe"]}))


def test_a_single_class_is_refused():
    with pytest.raises(UserError, match="one class, 'a'"):
        fitted(Sheet({"x": [1.0, 2.0], "y": ["a", "a"]}), "y")


def test_encoding_does_not_change_what_was_fitted():
    prepared = fitted()
    before = copy.deepcopy(prepared)
    prepared.encode(Sheet({"rooms": ["999"], "town": ["Rom"]}))
    assert prepared == before


def test_full_batch_is_the_whole_training_part():
    data = Iris(batch_size="full")
    assert [len(batch.x) for batch in data.train_dataloader()] == [105]
