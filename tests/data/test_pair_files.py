"""A user's own pairs: what is wrong with a file is one line, what is right becomes parts."""

import random

import pytest
import torch

from zoo.data.chat import Chat
from zoo.data.pair_files import PairFiles
from zoo.errors import UserError


def pairs(number=40, *, seed=0):
    generator = random.Random(seed)
    words = ("rot", "blau", "alt", "neu", "klein")
    return [(" ".join(generator.choices(words, k=1 + i % 5)) + f" {i}", f"target {i}") for i in range(number)]


def table(path, rows=None, *, separator="\t", encoding="utf-8"):
    rows = pairs() if rows is None else rows
    path.write_text("\n".join(separator.join(row) for row in rows) + "\n", encoding=encoding)
    return str(path)


def lines(path, side, rows=None):
    path.write_text("".join(row[side] + "\n" for row in (pairs() if rows is None else rows)))
    return str(path)


def everything(data):
    return sorted(pair for part in data.read().parts.values() for pair in part)


def test_a_table_is_cut_by_the_seed_into_parts_that_share_no_pair(tmp_path):
    path = table(tmp_path / "a.tsv")
    data = PairFiles(path=path)
    parts = data.read().parts
    assert {name: len(part) for name, part in parts.items()} == {"train": 32, "val": 4, "test": 4}
    assert everything(data) == sorted(pairs())
    assert parts == PairFiles(path=path).read().parts != PairFiles(path=path, seed=1).read().parts
    assert data.references("val") == [target for _, target in parts["val"]]


def test_two_files_belong_together_line_by_line(tmp_path):
    rows = [*pairs(), ("nichts", ""), ("", "nothing")]
    data = PairFiles(src_path=lines(tmp_path / "a.txt", 0, rows), tgt_path=lines(tmp_path / "b.txt", 1, rows))
    assert everything(data) == sorted(rows)
    lost = sum(not (src and tgt) for src, tgt in data.read().parts["train"])
    assert lost == sum("left out: a side is empty" in note for note in data.prepare().notes) == 1


def test_parts_with_files_of_their_own_are_not_cut(tmp_path):
    val, test = pairs(6, seed=1), pairs(7, seed=2)
    data = PairFiles(
        path=table(tmp_path / "a.tsv"),
        val_path=table(tmp_path / "v.tsv", val),
        test_src_path=lines(tmp_path / "t.src", 0, test),
        test_tgt_path=lines(tmp_path / "t.tgt", 1, test),
    )
    parts = data.read().parts
    assert (parts["val"], parts["test"]) == (val, test)
    assert sorted(parts["train"]) == sorted(pairs())
    only_test = PairFiles(path=table(tmp_path / "a.tsv"), test_path=table(tmp_path / "t.tsv", test)).read().parts
    assert {name: len(part) for name, part in only_test.items()} == {"train": 36, "val": 4, "test": 7}


def test_sources_that_training_knows_are_counted(tmp_path):
    data = PairFiles(path=table(tmp_path / "a.tsv"), test_path=table(tmp_path / "t.tsv", pairs(40)), shares=[1, 0, 0])
    assert "40 of 40 sources of the test part stand in training, too" in data.read().notes
    assert not [note for note in PairFiles(path=table(tmp_path / "a.tsv")).read().notes if "stand in training" in note]


def test_tabs_separate_whatever_stands_between_them_and_csv_has_its_quotes_and_a_header(tmp_path):
    rows = [('say "yes', "it's, well; ok"), ("b", 'x "y" z')]
    assert everything(PairFiles(path=table(tmp_path / "a.tsv", rows), shares=[1, 0, 0])) == sorted(rows)
    (tmp_path / "a.csv").write_text('id;frage;antwort\n1;"a; ""b""\nc";d\n\n2;e;f\n')
    by_name = PairFiles(path=str(tmp_path / "a.csv"), shares=[1, 0, 0], src_column="frage", tgt_column="antwort")
    assert everything(by_name) == [('a; "b"\nc', "d"), ("e", "f")]
    assert any("'id', 'frage', 'antwort'" in note for note in by_name.read().notes)
    by_number = PairFiles(path=str(tmp_path / "a.csv"), shares=[1, 0, 0], src_column=3, tgt_column=1, header=False)
    assert everything(by_number) == [("antwort", "id"), ("d", "1"), ("f", "2")]


def test_another_encoding_can_be_chosen_and_a_byte_order_mark_is_no_text(tmp_path):
    path = table(tmp_path / "a.tsv", [("größer", "bigger")], encoding="latin-1")
    with pytest.raises(UserError, match=r"a\.tsv is not UTF-8 text \(byte 0xf6 at offset 2\).*data\.encoding="):
        PairFiles(path=path).prepare()
    assert everything(PairFiles(path=path, encoding="latin-1", shares=[1, 0, 0])) == [("größer", "bigger")]
    path = table(tmp_path / "b.tsv", [("größer", "bigger")], encoding="utf-8-sig")
    assert everything(PairFiles(path=path, shares=[1, 0, 0])) == [("größer", "bigger")]


def test_characters_that_end_a_line_elsewhere_do_not_end_one_here(tmp_path):
    (tmp_path / "a.txt").write_bytes("a\u2028b\r\nc\x85d\r\n".encode())
    (tmp_path / "b.txt").write_bytes(b"1\n2")
    data = PairFiles(src_path=str(tmp_path / "a.txt"), tgt_path=str(tmp_path / "b.txt"), shares=[1, 0, 0])
    assert everything(data) == [("a\u2028b", "1"), ("c\x85d", "2")]


TABLES = {
    "one column": ("a\nb\n", {}, r"a\.tsv has a single column when split at '\\t'.*data\.separator.*data\.src_path"),
    "a row short": ("a\tb\nc\n", {}, r"a\.tsv, line 2: 2 columns expected.*1 found"),
    "a row long": ("a\tb\n\nc\td\te\n", {}, r"a\.tsv, line 3: 2 columns expected.*3 found"),
    "empty": ("", {}, r"a\.tsv is empty"),
    "header alone": ("a\tb\n", {"header": True}, "has a header but no pairs"),
    "no such column": (
        "a\tb\nc\td\n",
        {"header": True, "src_column": "aa"},
        r"no column 'aa' \(data\.src_column\); did",
    ),
    "no such number": ("a\tb\n", {"tgt_column": 3}, r"has 2 columns, and data\.tgt_column=3 is none of them"),
    "a name without header": ("a\tb\n", {"tgt_column": "b"}, r"read without a header, so data\.tgt_column=b"),
    "one for both": ("a\tb\n", {"tgt_column": 1}, r"data\.src_column and data\.tgt_column are the same"),
    "separator": ("a\tb\n", {"separator": "ab"}, r"data\.separator='ab' must be one character"),
    "quote": ('a,b\nc,"d\n', {"separator": ","}, r"a\.tsv, line 2: not readable as CSV"),
    "a row of two lines": ('a,b\n"c\nd",e,f\n', {"separator": ","}, r"a\.tsv, line 2: 2 columns expected.*3 found"),
    "encoding": ("a\tb\n", {"encoding": "utf9"}, "There is no encoding 'utf9'"),
    "shares": ("a\tb\n", {"shares": [0.5, 0.1, 0.1]}, r"data\.shares=\[0\.5, 0\.1, 0\.1\] must be"),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("kind", [PairFiles, Chat])
def test_what_is_wrong_with_a_table_is_one_line(name, kind, tmp_path):
    text, options, said = TABLES[name]
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(UserError, match=said) as error:
        kind(path=str(tmp_path / "a.tsv"), **options).prepare()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ({}, r"data=pairs needs data\.path=pairs\.tsv.*or data\.src_path and data\.tgt_path"),
        ({"src_path": "a.txt"}, r"data\.src_path needs data\.tgt_path"),
        ({"path": "a.tsv", "test_tgt_path": "b"}, r"data\.test_tgt_path needs data\.test_src_path"),
        ({"path": "a.tsv", "tgt_path": "b"}, r"data\.path and data\.tgt_path are two answers"),
        ({"src_path": "nowhere.de", "tgt_path": "b"}, r"no file nowhere\.de; give an existing one with data\.src_path"),
        ({"path": "nowhere.tsv"}, r"no file nowhere\.tsv; give an existing one with data\.path"),
    ],
    ids=str,
)
def test_files_that_are_missing_or_one_too_many_are_one_line(paths, said):
    with pytest.raises(UserError, match=said):
        PairFiles(**paths).prepare()


@pytest.mark.parametrize("longer", [0, 1])
def test_the_line_without_a_partner_is_named(longer, tmp_path):
    sides = [pairs(5), pairs(5)]
    sides[longer] = [*pairs(5), ("odd", "odd"), ("odder", "odder")]
    paths = [lines(tmp_path / name, i, sides[i]) for i, name in enumerate(("a.txt", "b.txt"))]
    with pytest.raises(UserError, match=rf"line 6 of .*{'ab'[longer]}\.txt, 'odd', has no partner"):
        PairFiles(src_path=paths[0], tgt_path=paths[1]).prepare()


def test_ones_own_talk_is_read_in_place_of_small_talk(tmp_path):
    data = Chat(path=table(tmp_path / "talk.tsv"), num_train=1)
    assert everything(data) == sorted(pairs())
    assert data.part("train")[torch.arange(2)].src.shape[0] == 2
