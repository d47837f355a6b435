import codecs
import random

import pytest
import torch

from zoo.data.csv import Csv, find_separator, read_csv
from zoo.data.table import Sheet, TablePreprocessing
from zoo.errors import UserError


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
    assert loaded.facts == {"kind": "regression", "num_features": 1, "num_targets": 1}
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
    assert f"row 9, column '{name}': the value is missing (2 missing" in refusal(lambda: load(path, "price"))


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
    price = before.parts["test"].tensors[1][0].item()
    row = round((price - 100) / 7.5) + 2
    after = load(write(houses(100, change={(row, column): value})), "price")
    assert after.preprocessing == before.preprocessing
    for part in ("train", "val"):
        assert torch.equal(after.parts[part].tensors[0], before.parts[part].tensors[0])
    assert not torch.equal(after.parts["test"].tensors[0], before.parts["test"].tensors[0])
    assert after.fingerprint != before.fingerprint


def test_a_column_that_only_the_test_part_varies_is_left_out(write):
    path = write("x,c,y\n" + "".join(f"{i / 7},3,{i + 0.5}\n" for i in range(40)))
    row = int(load(path, "y").parts["test"].tensors[1][0].item())  # the target tells its row
    path = write("x,c,y\n" + "".join(f"{i / 7},{4 if i == row else 3},{i + 0.5}\n" for i in range(40)))
    assert "Column 'c' is left out: it is constant in the training part." in load(path, "y").notes


def test_a_class_is_cut_by_the_same_shares_in_every_part(write):
    parts = load(write(shapes(100, labels=["x", "x", "x", "y"])), shares=[0.6, 0.2, 0.2]).parts
    assert {name: torch.bincount(part.tensors[1]).tolist() for name, part in parts.items()} == {
        "train": [45, 15],
        "val": [15, 5],
        "test": [15, 5],
    }


def test_a_part_without_rows_is_named(write):
    loaded = load(write(shapes()), shares=[0.8, 0.2, 0])
    assert list(loaded.parts) == ["train", "val"]
    assert "There are too few rows for a test part." in loaded.notes


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
