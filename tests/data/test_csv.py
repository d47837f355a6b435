import codecs
import json
import random

import pytest
import torch

from zoo.data.csv import Csv
from zoo.data.csv_file import find_separator, read_csv
from zoo.data.sheet import Sheet, flag
from zoo.data.table_preprocessing import TablePreprocessing
from zoo.errors import UserError
from zoo.run import configure, run
from zoo.trained.predict import load as load_predictor


@pytest.fixture
def write(tmp_path):
    def write(content, name="t.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def houses(num_rows=40, *, header="area,town,price", change=None):
    """Lines of a table whose measurements have gaps, so that no column numbers the rows."""
    draw = random.Random(0)
    rows = [[f"{draw.uniform(50, 150):.1f}", draw.choice(["Ulm", "Bonn"]), f"{100 + 7.5 * i}"] for i in range(num_rows)]
    for (row, column), value in (change or {}).items():
        rows[row - 2][column] = value
    return "\n".join([header, *(",".join(row) for row in rows)]) + "\n"


def shapes(num_rows=40, *, labels=("round", "flat"), extra=None):
    """Like `houses` with classes, and a further column from `extra(i)` before the target."""
    draw = random.Random(1)
    lines = ["a,b" + (",c" if extra else "") + ",kind"]
    for i in range(num_rows):
        cells = [f"{draw.gauss(0, 1):.3f}", f"{draw.gauss(0, 1):.3f}"]
        lines.append(",".join([*cells, *([extra(i)] if extra else []), labels[i % len(labels)]]))
    return "\n".join(lines) + "\n"


def weather(num_rows=80, *, change=None):
    """Two columns of 0 and 1, one of yes and no, two quantities in very different units, one of three classes."""
    draw = random.Random(2)
    lines = ["heat,pressure,rain,wind,sunny,amount,speed,season"]
    for i in range(num_rows):
        heat, pressure = draw.gauss(15, 5), draw.gauss(1010, 8)
        cells = {
            "heat": f"{heat:.2f}",
            "pressure": f"{pressure:.2f}",
            "rain": str(int(pressure < 1012)),
            "wind": str(int(heat + draw.gauss(0, 3) > 17)),
            "sunny": "no" if pressure < 1005 else "Yes",
            "amount": f"{1e6 + 1000 * (1010 - pressure):.1f}",
            "speed": f"{0.1 * heat:.3f}",
            "season": str(i % 3),
        }
        lines.append(",".join((cells | (change or {}).get(i + 2, {})).values()))
    return "\n".join(lines) + "\n"


def load(path, target="kind", **options):
    return Csv(path=path, target=target, **options).prepare()


def refusal(make):
    with pytest.raises(UserError) as error:
        make()
    assert "\n" not in str(error.value)
    return str(error.value)


# Reading


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("a,b\n1,x\n", {"a": ["1"], "b": ["x"]}),
        ("a;b\n1;x\n", {"a": ["1"], "b": ["x"]}),
        ("a\tb\n1\tx\n", {"a": ["1"], "b": ["x"]}),
        ("a,b\r\n1,x\r\n", {"a": ["1"], "b": ["x"]}),
        ("a,b\r1,x\r", {"a": ["1"], "b": ["x"]}),
        ("a,b\n1,x", {"a": ["1"], "b": ["x"]}),
        (codecs.BOM_UTF8 + b"a,b\n1,x\n", {"a": ["1"], "b": ["x"]}),
        (" a , b \n 1 , x \n", {"a": ["1"], "b": ["x"]}),
        ("a,b\n\n1,x\n\n", {"a": ["1"], "b": ["x"]}),
        ('a,b\n1,"x, y"\n', {"a": ["1"], "b": ["x, y"]}),
        ('a,b\n1, "x, y"\n', {"a": ["1"], "b": ["x, y"]}),
        ('a,b\n1,"x\ny"\n', {"a": ["1"], "b": ["x\ny"]}),
        ('a,b\n1,"say ""x"""\n', {"a": ["1"], "b": ['say "x"']}),
        ('"a;b;c",d\n1,x\n', {"a;b;c": ["1"], "d": ["x"]}),
        ("größe,b\n1,ü\n", {"größe": ["1"], "b": ["ü"]}),
    ],
)
def test_every_dialect_reads_the_same(write, content, columns):
    assert read_csv(write(content)).columns == columns


@pytest.mark.parametrize(
    ("cells", "separator", "read"),
    [
        (["3,5", "-1,25", "4"], ";", ["3.5", "-1.25", "4"]),
        (["1.234,5", "2", ""], ";", ["1234.5", "2", ""]),
        (["3.5", "4.25"], ";", ["3.5", "4.25"]),  # a point stays a point
        (["a,b", "3,5"], ";", ["a,b", "3,5"]),  # text stays text
        (["3,5", "4,5", "5,5", "abc"], ";", ["3.5", "4.5", "5.5", "abc"]),
        (["1.5", "2.5", "3.5", "12,5"], ";", ["1.5", "2.5", "3.5", "12,5"]),  # never two styles in one column
        (["3,5", "4,5"], "\t", ["3.5", "4.5"]),
        (['"1,234.5"', '"12"'], ",", ["1234.5", "12"]),
        (['"3,5"', '"4,5"'], ",", ["3,5", "4,5"]),
    ],
)
def test_decimal_commas_are_read_where_the_whole_column_has_them(write, cells, separator, read):
    lines = [f"a{separator}b", *(f"{cell}{separator}x" for cell in cells)]
    assert read_csv(write("\n".join(lines))).columns["a"] == read


@pytest.mark.parametrize(
    ("columns", "commas", "read"),
    [
        ({"people": ["1.234", "999"]}, (), ["1.234", "999"]),  # nothing says that the point is none
        ({"people": ["1.234", "999"], "euro": ["3,5", "4,5"]}, (), ["1234", "999"]),
        ({"people": ["1.234", "99.5"], "euro": ["3,5", "4,5"]}, (), ["1.234", "99.5"]),
        ({"people": ["0.234", "1.234"], "euro": ["3,5", "4,5"]}, (), ["0.234", "1.234"]),
        ({"people": ["1.234", "12.345"]}, ("people",), ["1234", "12345"]),
        ({"people": ["1.234", "12.345"]}, ("euro",), ["1.234", "12.345"]),
        ({"people": ["1.5", "12.345"]}, ("people",), ["1.5", "12.345"]),
    ],
)
def test_a_point_stands_between_thousands_where_something_says_so(write, columns, commas, read):
    lines = [";".join([*columns, "text"]), *(";".join([*cells, "x"]) for cells in zip(*columns.values(), strict=True))]
    sheet = read_csv(write("\n".join(lines)), commas=commas)
    assert sheet.columns["people"] == read
    assert ("people" in sheet.commas) == any("column 'people': 1.234 is 1234" in note for note in sheet.notes)
    assert ("people" in sheet.commas) == (read[0] == "1234")


def test_numbers_are_read_as_in_the_file_of_training(write):
    """Two files of one bank: in the second no price has a decimal comma, and 1.234 is 1234 all the same."""
    first = write("price;kind\n" + "".join(f"1.{200 + i},{i % 10};{'ab'[i % 2]}\n" for i in range(60)), "first.csv")
    trained = load(first)
    assert TablePreprocessing.from_dict(trained.preprocessing).columns[0].mean > 1000
    second = write("price;kind\n" + "".join(f"1.{200 + i};{'ab'[i % 2]}\n" for i in range(60)), "second.csv")
    data = Csv(path=second, target="kind")
    data.prepare_as(trained.preprocessing, trained.class_names)
    loaded = data.prepare()
    assert loaded.parts["train"].tensors[0].abs().max() < 5
    assert any(
        "second.csv column 'price': 1.2" in note and "as in the file of training" in note for note in loaded.notes
    )
    tested = Csv(path=first, test_path=second, target="kind").prepare()
    assert tested.parts["test"].tensors[0].abs().max() < 5


@pytest.mark.parametrize(
    ("header", "separator"),
    [("a,b", ","), ("a;b;c,d", ";"), ("a\tb", "\t"), ('"a,b,c";d', ";"), ('"a\n,,,";b;c', ";"), ("a", ",")],
)
def test_the_separator_is_the_most_frequent_outside_quotes(header, separator):
    assert find_separator(header + "\n,,,,,\t\t\t\t;;;;") == separator


def test_rows_are_numbered_as_in_the_file(write):
    assert read_csv(write('a,b\n"1\n1",x\n\n2,y\n')).rows == [2, 4]


def test_a_separator_can_be_named(write):
    assert read_csv(write("a|b\n1|x\n"), separator="|").columns == {"a": ["1"], "b": ["x"]}
    assert read_csv(write("a\tb\n1\tx\n"), separator="tab").columns == {"a": ["1"], "b": ["x"]}


def test_latin_1_is_read_when_it_is_named(write):
    assert read_csv(write("a,b\n1,ü\n".encode("latin-1")), encoding="latin-1").columns["b"] == ["ü"]


def test_the_home_folder_is_expanded(write, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    write("a,b\n1,x\n", "my houses (2).csv")
    assert len(read_csv("~/my houses (2).csv")) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        (codecs.BOM_UTF8, "is empty"),
        ("a,b\n", "has a header but no rows"),
        ("a,b\n\n\n", "has a header but no rows"),
        ("a\n1\n", "has a single column when split at ','; set data.separator"),
        ("a,b\n1,2\n1\n", "row 3: 2 fields expected, as in the header, 1 found"),
        ("a,b\n1,2\n1,2,3\n", "row 3: 2 fields expected, as in the header, 3 found"),
        ('a,b\n"1\n2",2\n1\n', "row 3: 2 fields expected"),
        ("a,b,a\n1,2,3\n", "the header has 'a' more than once"),
        ("a,,b\n1,2,3\n", "column 2 has no name in the header"),
        (",a,b\n0,2,3\n", "column 1 has no name in the header"),
        ('a,b\n1,2\n3,"4\n5,6\n', "row 3: not readable as CSV"),
        (b"a,b\n1,\xfc\n", "is not UTF-8 text (byte 0xfc at offset 6); save it as UTF-8, or say data.encoding=latin-1"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not text (zero byte at offset 8)"),
        ("a,b\n1,2\n".encode("utf-16"), "is UTF-16 text; say data.encoding=utf-16"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(write, content, message):
    path = write(content)
    said = refusal(lambda: read_csv(path))
    assert message in said
    assert path in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "/nowhere/x.csv"}, "There is no file /nowhere/x.csv"),
        ({"path": "/"}, "/ is a folder"),
        ({"encoding": "utf-9"}, "There is no encoding 'utf-9'"),
        ({"separator": "ab"}, "data.separator='ab' must be one character"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(write, options, message):
    path = write("a,b\n1,2\n")
    assert message in refusal(lambda: read_csv(**{"path": path, **options}))


# Deciding


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (lambda i: ["a", "b", "c"][i % 3], "multiclass"),
        (lambda i: ["no", "yes"][i % 2], "binary"),
        (lambda i: i % 2, "binary"),
        (lambda i: i % 20, "multiclass"),
        (lambda i: i % 21, "regression"),
        (lambda i: i % 2 + 0.5, "regression"),
        (lambda i: f"{i % 2}.0", "binary"),
    ],
)
def test_the_kind_of_target_is_found(write, value, kind):
    lines = ["x,y", *(f"{i % 7 + 0.5},{value(i)}" for i in range(84))]
    assert load(write("\n".join(lines)), "y").facts["kind"] == kind


def test_the_kind_of_target_can_be_said(write):
    path = write("x,y\n" + "".join(f"{i % 7 + 0.5},{i % 30}\n" for i in range(120)))
    assert load(path, "y", kind="classification").facts["num_classes"] == 30
    path = write("x,y\n" + "".join(f"{i % 7 + 0.5},{i % 2}\n" for i in range(40)))
    loaded = load(path, "y", kind="regression")
    assert {"kind": "regression", "num_features": 1, "num_targets": 1}.items() <= loaded.facts.items()
    assert loaded.train_labels is None


def test_a_target_may_be_named_by_a_number(write):
    path = write("0,1\n" + "".join(f"{i % 7 + 0.5},{'ab'[i % 2]}\n" for i in range(20)))
    assert load(path, 1).class_names == ["a", "b"]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (lambda i: "same", "constant"),
        (lambda i: "3", "constant"),
        (lambda i: str(i + 1), "numbers the rows"),
        (lambda i: str(1000 + 17 * i % 40), "numbers the rows"),  # in any order, from any start
        (lambda i: f"{i:04d}", "numbers the rows"),
        (lambda i: f"house {i}", "different texts"),
        (lambda i: f"house {i % 30}", "different texts"),
    ],
)
def test_a_column_that_cannot_help_is_left_out_and_named(write, extra, reason):
    loaded = load(write(shapes(extra=extra)))
    assert loaded.facts["num_features"] == 2
    assert any(note.startswith("Column 'c' is left out") and reason in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("extra", "num_features"),
    [
        (lambda i: f"{i / 7:.4f}", 3),  # a measurement, all different
        (lambda i: str(1000 * i * i), 3),  # whole, all different, but no numbering
        (lambda i: str(i % 5), 3),
        (lambda i: "no" if i % 2 else "yes", 4),
    ],
)
def test_a_column_that_may_help_is_kept(write, extra, num_features):
    assert load(write(shapes(extra=extra))).facts["num_features"] == num_features


def test_over_a_hundred_texts_are_names_even_when_they_repeat(write):
    loaded = load(write(shapes(600, extra=lambda i: f"street {i % 120}")))
    assert "Column 'c' is left out" in loaded.notes[-1]


def test_the_only_column_is_kept_even_if_it_counts(write):
    path = write("x,y\n" + "".join(f"{i},{2.5 * i}\n" for i in range(20)))
    assert load(path, "y").facts["num_features"] == 1


def test_ignored_columns_are_not_seen(write):
    path = write(shapes(extra=lambda i: "" if i == 3 else str(i % 5)))
    assert load(path, ignore=["c"]).preprocessing == load(path, ignore="c").preprocessing
    assert [column["name"] for column in load(path, ignore=["c"]).preprocessing["columns"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (shapes(), {"target": "kidn"}, "has no column 'kidn' (data.target); did you mean 'kind'?"),
        (shapes(), {"ignore": ["bb"]}, "has no column 'bb' (data.ignore)"),
        (shapes(), {"ignore": ["kind"]}, "'kind' is both data.target and in data.ignore"),
        (shapes(), {"ignore": ["a", "b"]}, "has no column to learn from"),
        (shapes(labels=["one"]), {}, "has one class, 'one'"),
        (shapes(labels=[f"name {i}" for i in range(40)]), {}, "every row has another class in 'kind'"),
        (shapes(), {"kind": "regression"}, "row 2, column 'kind': 'round' is not a number"),
        (shapes(), {"kind": "classify"}, "Unknown data.kind 'classify'; did you mean 'classification'?"),
        (shapes(), {"shares": [0.5, 0.5]}, "data.shares=[0.5, 0.5] must be"),
        (shapes(), {"shares": [0.9, 0.3, -0.2]}, "must be shares of train, val and test that sum to 1"),
        (shapes(extra=lambda i: "abc" if i == 7 else f"{i / 7}"), {}, "row 9, column 'c': 'abc' is not a number"),
        (shapes(extra=lambda i: '"12,5"' if i == 7 else f"{i / 7}"), {}, "row 9, column 'c': '12,5' is not a number"),
        (shapes(10, extra=lambda i: "abc" if i == 7 else f"{i / 7}"), {}, "row 9, column 'c': 'abc' is not a number"),
        (shapes(extra=lambda i: "inf" if i == 7 else f"{i / 7}"), {}, "row 9, column 'c': 'inf' is infinite"),
        (shapes(extra=lambda i: "1e999" if i == 7 else f"{i / 7}"), {}, "row 9, column 'c': '1e999' is infinite"),
        (shapes(extra=lambda i: '"x\ny"' if i == 7 else f"{i / 7}"), {}, r"row 9, column 'c': 'x\ny' is not a number"),
        (houses(change={(5, 2): "inf"}), {"target": "price"}, "row 5, column 'price': 'inf' is infinite"),
        (houses(change={(5, 2): "about 9"}), {"target": "price"}, "row 5, column 'price': 'about 9' is not a number"),
    ],
)
def test_a_table_that_cannot_be_learned_is_refused_in_one_line(write, content, options, message):
    path = write(content)
    assert message in refusal(lambda: load(path, **options))


# Missing values


@pytest.mark.parametrize("gap", ["", "NA", "N/A", "nan", "NaN", "null", "None", "?", "  "])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_missing_values_are_refused_by_row_column_and_count(write, gap, column):
    path = write(houses(change={(9, column): gap, (30, 0): gap}))
    name = ("area", "town", "price")[column]
    message = refusal(lambda: load(path, "price"))
    assert f"row 9, column '{name}': the value is missing (2 missing" in message
    word = gap.strip()  # somebody may have meant a class or a name
    assert (f"{word!r} counts as such" in message) == bool(word)
    assert ("call it otherwise" in message) == bool(word)


def test_imputing_fills_features_and_drops_rows_without_a_target(write):
    path = write(houses(change={(9, 0): "", (10, 1): "NA", (11, 2): "?", (12, 2): ""}))
    loaded = load(path, "price", impute=True)
    assert sum(len(part) for part in loaded.parts.values()) == 38
    assert any("2 rows without a target were dropped" in note for note in loaded.notes)
    assert all(part.tensors[0].isfinite().all() for part in loaded.parts.values())


def test_a_file_without_any_target_is_refused(write):
    path = write("x,y\n1,\n2,\n")
    assert "no row has a value in the target 'y'" in refusal(lambda: load(path, "y", impute=True))


def test_a_column_without_any_value_is_left_out(write):
    loaded = load(write(shapes(extra=lambda i: "")), impute=True)
    assert loaded.facts["num_features"] == 2


# Parts


def test_the_parts_never_mix(write):
    path = write(houses(100))
    parts = load(path, "price").parts
    prices = [set(part.tensors[1].flatten().tolist()) for part in parts.values()]  # all prices are different
    assert sum(map(len, prices)) == len(set.union(*prices)) == 100


@pytest.mark.parametrize(("column", "value"), [(0, "1e6"), (1, "Atlantis")])
def test_the_test_part_changes_nothing_about_training(write, column, value):
    before = load(write(houses(100)), "price")
    (mean,), (std,) = before.facts["target_mean"], before.facts["target_std"]
    price = before.parts["test"].tensors[1][0].item() * std + mean
    row = round((price - 100) / 7.5) + 2
    after = load(write(houses(100, change={(row, column): value})), "price")
    assert after.preprocessing == before.preprocessing
    for part in ("train", "val"):
        assert torch.equal(after.parts[part].tensors[0], before.parts[part].tensors[0])
    assert not torch.equal(after.parts["test"].tensors[0], before.parts["test"].tensors[0])
    assert after.fingerprint != before.fingerprint


def test_a_column_that_only_the_test_part_varies_is_left_out(write):
    path = write("x,c,y\n" + "".join(f"{i / 7},3,{i + 0.5}\n" for i in range(40)))
    before = load(path, "y")
    answer = before.parts["test"].tensors[1][0].item() * before.facts["target_std"][0] + before.facts["target_mean"][0]
    row = round(answer - 0.5)  # the target tells its row
    path = write("x,c,y\n" + "".join(f"{i / 7},{4 if i == row else 3},{i + 0.5}\n" for i in range(40)))
    assert "Column 'c' is left out: it is constant in the training part." in load(path, "y").notes


def test_a_class_is_cut_by_the_same_shares_in_every_part(write):
    parts = load(write(shapes(100, labels=["x", "x", "x", "y"])), shares=[0.6, 0.2, 0.2]).parts
    assert {name: torch.bincount(part.tensors[1]).tolist() for name, part in parts.items()} == {
        "train": [45, 15],
        "val": [15, 5],
        "test": [15, 5],
    }


def test_a_part_without_rows_is_named_where_it_was_asked_for(write):
    loaded = load(write(shapes()), shares=[0.79, 0.2, 0.01])
    assert list(loaded.parts) == ["train", "val"]
    assert "There are too few rows for a test part." in loaded.notes
    loaded = load(write(shapes()), shares=[0.8, 0.2, 0])
    assert list(loaded.parts) == ["train", "val"]
    assert not any("too few" in note for note in loaded.notes)


def test_a_second_file_is_the_test_part(write):
    path, test_path = write(houses(40)), write(houses(7).replace(",", ";"), "test.csv")
    parts = load(path, "price", test_path=test_path).parts
    assert [len(parts[name]) for name in ("train", "val", "test")] == [34, 6, 7]


def test_columns_of_a_second_file_may_stand_in_another_order(write):
    rows = [line.split(",") for line in houses(10).splitlines()]
    turned = "\n".join(",".join(row[::-1]) for row in rows)
    path = write(houses(40))
    straight = load(path, "price", test_path=write(houses(10), "a.csv"))
    assert straight.fingerprint == load(path, "price", test_path=write(turned, "b.csv")).fingerprint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,kind\n1.5,flat\n", "test.csv lacks 'b' of"),
        ("a,b,c,kind\n1.5,2.5,3.5,flat\n", "t.csv lacks 'c' of"),
        ("a,b\n1.5,2.5\n", "test.csv has no column 'kind'"),
        ("a,b,kind\n1.5,2.5,flat\n1.5,2.5,square\n", "test.csv, row 3, column 'kind': the training part has no class"),
        ("a,b,kind\n1.5,x,flat\n", "test.csv, row 2, column 'b': 'x' is not a number"),
        ("a,b,kind\n1.5,,flat\n", "test.csv, row 2, column 'b': the value is missing"),
    ],
)
def test_a_second_file_that_does_not_fit_is_refused_in_one_line(write, content, message):
    path, test_path = write(shapes()), write(content, "test.csv")
    assert message in refusal(lambda: load(path, test_path=test_path))


# Predicting


def test_a_new_file_is_encoded_from_the_preprocessing_alone(write):
    path = write(houses(40))
    loaded = load(path, "price", shares=[1.0, 0.0, 0.0])
    prepared = TablePreprocessing.from_dict(loaded.preprocessing)
    new = read_csv(write("town;extra;area\nUlm;x;70,5\nRom;x;80,5\n", "new.csv"))
    x, notes = prepared.encode(new)
    same, _ = prepared.encode(Sheet({"area": [70.5, 80.5], "town": ["Ulm", "Rom"]}))
    assert torch.equal(x, same)
    assert len(notes) == 1
    assert torch.equal(prepared.encode(read_csv(path))[0], loaded.parts["train"].tensors[0])


def test_preprocessing_holds_what_decodes_an_answer(write):
    state = load(write(shapes())).preprocessing
    assert (state["target"], state["task"], state["class_names"]) == ("kind", "binary", ["flat", "round"])


# Several targets

LABELS = ["rain", "wind", "sunny"]
QUANTITIES = ["amount", "speed"]


def columns_of(path, names):
    sheet = read_csv(path)
    return [sheet.columns[name] for name in names]


def test_several_columns_of_zero_and_one_are_labels(write):
    path = write(weather(100))
    data = Csv(path=path, target=LABELS, ignore=[*QUANTITIES, "season"])
    loaded = data.prepare()
    assert (loaded.facts["kind"], loaded.facts["num_classes"], loaded.facts["num_features"]) == ("multilabel", 3, 2)
    assert loaded.class_names == LABELS
    assert loaded.train_labels is None
    batch = next(iter(data.train_dataloader()))
    assert (batch.target.shape, batch.target.dtype) == ((64, 3), torch.float32)
    labels = torch.cat([part.tensors[1] for part in loaded.parts.values()])  # (N, 3)
    assert labels.unique().tolist() == [0, 1]
    expected = [sum(cell in ("1", "Yes") for cell in cells) for cells in columns_of(path, LABELS)]
    assert labels.sum(0).tolist() == expected
    assert loaded.facts["label_counts"] == loaded.parts["train"].tensors[1].sum(0).tolist()
    assert "The targets 'rain', 'wind', 'sunny' are of 0 and 1: labels, any of which may hold." in loaded.notes


def test_each_row_keeps_its_own_labels(write):
    """Features and labels are cut together: the pressure of a row decides its rain."""
    loaded = load(write(weather()), ["rain", "wind"], ignore=[*QUANTITIES, "season", "sunny"])
    pressure = loaded.preprocessing["columns"][1]
    for part in loaded.parts.values():
        x, y = part.tensors
        assert torch.equal((x[:, 1] * pressure["std"] + pressure["mean"] < 1012).float(), y[:, 0])


@pytest.mark.parametrize(
    ("spelled", "value"),
    [("0", 0), ("1", 1), ("1.0", 1), ("no", 0), ("YES", 1), ("true", 1), ("False", 0), ("2", None), ("maybe", None)],
)
def test_zero_and_one_have_a_few_spellings(spelled, value):
    assert flag(spelled) == value


def test_several_quantities_are_a_regression_with_a_scale_for_each(write):
    loaded = load(write(weather()), QUANTITIES, ignore=[*LABELS, "season"])
    assert (loaded.facts["kind"], loaded.facts["num_targets"]) == ("regression", 2)
    assert loaded.class_names == QUANTITIES
    values = loaded.parts["train"].tensors[1]  # (N, 2)
    assert torch.allclose(values.mean(0), torch.zeros(2), atol=1e-4)
    assert torch.allclose(values.std(0, correction=0), torch.ones(2), atol=1e-4)
    assert loaded.facts["target_mean"] == pytest.approx([1e6, 1.5], rel=0.1)
    assert loaded.preprocessing["target_std"] == loaded.facts["target_std"]
    assert "The targets 'amount', 'speed' are quantities: regression." in loaded.notes


def test_numbers_of_several_kinds_can_be_said_to_be_quantities(write):
    loaded = load(write(weather()), ["rain", "amount", "season"], kind="regression")
    assert (loaded.facts["kind"], loaded.facts["num_targets"]) == ("regression", 3)


def test_a_list_of_one_is_that_column(write):
    path = write(weather())
    one, alone = load(path, ["rain"]), load(path, "rain")
    assert one.fingerprint == alone.fingerprint
    assert (one.facts, one.preprocessing, one.notes) == (alone.facts, alone.preprocessing, alone.notes)
    assert one.preprocessing["target"] == "rain"


def test_counts_of_labels_follow_a_smaller_training_part(write):
    loaded = load(write(weather()), LABELS, fraction=0.5)
    assert loaded.facts["label_counts"] == loaded.parts["train"].tensors[1].sum(0).tolist()


def test_several_targets_survive_a_weights_only_checkpoint(write, tmp_path):
    loaded = load(write(weather()), LABELS)
    torch.save(loaded.preprocessing, tmp_path / "p.pt")
    state = torch.load(tmp_path / "p.pt", weights_only=True)
    assert TablePreprocessing.from_dict(state).targets == LABELS
    assert TablePreprocessing.from_dict({**state, "target": "rain", "task": "binary"}).targets == ["rain"]  # as before


def test_an_earlier_run_decides_scale_and_order_of_several_targets(write):
    path = write(weather())
    earlier = load(path, QUANTITIES, ignore=LABELS)
    again = Csv(path=write(weather(60), "new.csv"), target=QUANTITIES[::-1])
    again.prepare_as(earlier.preprocessing, earlier.class_names)
    assert again.prepare().facts["target_mean"] == earlier.facts["target_mean"]
    assert again.prepare().class_names == QUANTITIES
    other = Csv(path=path, target="speed")
    other.prepare_as(earlier.preprocessing, earlier.class_names)
    assert "was trained on data.target=amount,speed, not on speed" in refusal(other.prepare)


def test_a_row_that_lacks_one_of_several_targets_is_dropped(write):
    path = write(weather(change={4: {"rain": ""}, 9: {"wind": "NA"}, 12: {"heat": ""}}))
    loaded = load(path, ["rain", "wind"], impute=True)
    assert sum(len(part) for part in loaded.parts.values()) == 78
    assert any("2 rows without a target were dropped" in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (["rain", "wnd"], {}, "has no column 'wnd' (data.target); did you mean 'wind'?"),
        (["rain", "rain"], {}, "data.target has 'rain' more than once"),
        ([], {}, "data.target is empty"),
        (["rain", ["wind"]], {}, "data.target holds ['wind']"),
        (["rain", True], {}, "data.target holds True"),
        (
            ["rain", "amount"],
            {},
            "here is 'rain' 0 and 1, 'amount' a quantity. Learn them apart, or say data.kind=regr",
        ),
        (["rain", "season"], {}, "here is 'rain' 0 and 1, 'season' one of 3 classes"),
        (["sunny", "speed"], {}, "here is 'sunny' 0 and 1, 'speed' a quantity. Learn them apart."),
        (["rain", "season"], {"kind": "classification"}, "row 4, column 'season': '2' is neither 0 nor 1"),
        (["rain", "sunny"], {"kind": "regression"}, "row 2, column 'sunny': 'no' is not a number"),
        (["rain", "wind"], {"ignore": ["wind"]}, "'wind' is both data.target and in data.ignore"),
        (["rain", "wind", "sunny", *QUANTITIES, "season", "heat", "pressure"], {"kind": "auto"}, "several targets"),
    ],
)
def test_several_targets_that_cannot_be_learned_are_refused_in_one_line(write, target, options, message):
    path = write(weather())
    assert message in refusal(lambda: load(path, target, **options))


def test_a_label_that_never_changes_is_refused(write):
    path = write(weather(change={row: {"wind": "0"} for row in range(2, 82)}))
    assert "the target 'wind' is 0 in every row of the training part" in refusal(lambda: load(path, ["rain", "wind"]))


def test_a_table_of_nothing_but_targets_is_refused(write):
    path = write("a,b\n" + "".join(f"{i % 2},{i // 2 % 2}\n" for i in range(40)))
    assert "has no column to learn from. All are in data.target." in refusal(lambda: load(path, ["a", "b"]))


SMALL = ("data=csv", "trainer.max_epochs=2", "trainer.num_threads=1")


def trained(tmp_path, write, *overrides):
    path = write(weather())
    assert run(configure(*SMALL, f"data.path={path}", *overrides, run_dir=tmp_path / "run")) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    return metrics, load_predictor(tmp_path / "run"), path


def test_labels_from_training_to_prediction(tmp_path, write):
    metrics, predictor, path = trained(tmp_path, write, "data.target=[rain,wind]", "data.ignore=[sunny,amount,speed]")
    assert 0 <= metrics["test/f1"] <= 1
    assert 0 <= metrics["test/accuracy"] <= 1
    assert predictor.kind == "multilabel"
    answer = next(iter(predictor.answers(path)))
    assert [name for name, _ in answer.ranked] == ["rain", "wind"]
    (_, rain), (_, wind) = answer.ranked
    assert predictor.text(answer) == f"row 2: rain ({rain:.1%}), wind ({wind:.1%})"
    assert json.loads(predictor.json(answer))["probabilities"] == {"rain": rain, "wind": wind}


def test_quantities_from_training_to_prediction(tmp_path, write):
    metrics, predictor, path = trained(
        tmp_path, write, "data.target=[amount,speed]", "data.ignore=[sunny]", "baselines=true"
    )
    assert metrics["test/r2"] <= 1
    assert metrics["baseline/linear_regression_r2"] > 0.9
    answers = [dict(answer.ranked) for answer in predictor.answers(path)]
    assert all(list(answer) == ["amount", "speed"] for answer in answers)
    assert all(9e5 < answer["amount"] < 1.1e6 and -5 < answer["speed"] < 8 for answer in answers)  # each in its units
    assert predictor.text(next(iter(predictor.answers(path)))).startswith("row 2: amount ")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data.target=[rain,wind]", "task.class_weights=balanced"), "balanced is not for several labels"),
        (("data.target=[rain,wind]", "task.class_weights=[1,2]"), "[1, 2] is not for several labels"),
        (("data.target=[rain,wind]", "task=classification"), "has 2 labels a sample; use task=multilabel."),
        (("data.target=[rain,wind]", "task=regression"), "use task=multilabel, or data.kind=regression"),
        (("data.target=rain", "task=multilabel"), "use task=binary or classification"),
        (("data.target=[rain,wnd]",), "did you mean 'wind'?"),
    ],
)
def test_a_task_that_does_not_fit_several_targets_is_refused_in_one_line(tmp_path, write, overrides, message):
    path = write(weather())
    cfg = configure(*SMALL, f"data.path={path}", *overrides, run_dir=tmp_path / "run")
    assert message in refusal(lambda: run(cfg))
