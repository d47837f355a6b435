"""A table of one's own texts: what is wrong with it is one line, what is right becomes batches."""

import csv
import random

import pytest
import torch

from zoo.data.text_csv import TextCsv
from zoo.data.texts import TextPreprocessing
from zoo.errors import UserError

GOOD, BAD = ("lovely", "great", "warm"), ("dull", "weak", "cold")


def reviews(number=60, *, seed=0):
    """(text, verdict, stars) of films; the words of a verdict are its own."""
    generator = random.Random(seed)
    rows = []
    for i in range(number):
        verdict = ("good", "bad")[i % 2]
        words = generator.choices(GOOD if i % 2 == 0 else BAD, k=generator.randint(1, 9))
        rows.append((f"A {' '.join(words)} film, number {i}.", verdict, 1 + i % 3))
    return rows


def write(path, rows=None, *, header=("review", "verdict", "stars"), encoding="utf-8", separator=","):
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(header)
        writer.writerows(reviews() if rows is None else rows)
    return path


def data_of(path, **options):
    return TextCsv(path=str(path), **{"text": "review", "target": "verdict"} | options)


def test_a_table_becomes_parts_of_texts_with_their_classes(tmp_path):
    data = data_of(write(tmp_path / "a.csv"))
    loaded = data.prepare()
    assert {name: len(part) for name, part in loaded.parts.items()} == {"train": 42, "val": 10, "test": 8}
    assert loaded.class_names == ["bad", "good"]
    assert loaded.facts["kind"] == "binary"
    assert loaded.facts["label_counts"] == [21, 21]
    tokenizer = TextPreprocessing.from_dict(loaded.preprocessing).tokenizer
    for name in loaded.parts:
        batch = data.part(name)[torch.arange(8)]
        for tokens, mask, label in zip(*batch, strict=True):
            words = set(tokenizer.decode(tokens[mask].tolist()).split())
            assert words & set((BAD, GOOD)[int(label)])
            assert not words & set((GOOD, BAD)[int(label)])


def test_classes_that_are_numbers_are_in_their_order(tmp_path):
    rows = [(text, 0, stars + 8) for text, _, stars in reviews()]
    loaded = data_of(write(tmp_path / "a.csv", rows), target="stars").prepare()
    assert loaded.class_names == ["9", "10", "11"]
    assert loaded.facts["kind"] == "multiclass"
    assert loaded.facts["num_classes"] == 3


def test_the_vocabulary_is_of_the_training_part_alone_and_unknown_words_are_said(tmp_path):
    data = data_of(write(tmp_path / "a.csv"))
    loaded, parts = data.prepare(), data.read().parts
    tokenizer = TextPreprocessing.from_dict(loaded.preprocessing).tokenizer
    assert set(tokenizer.tokens) == {"<pad>", "<unk>"} | {w for text in parts["train"][0] for w in tokenizer.cut(text)}
    unknown = [word for text in parts["test"][0] for word in tokenizer.unknown(text)]
    assert len(unknown) == 8  # the number of each film
    assert any(
        note.startswith("In the test part 8 of ") and f"<unk>: '{unknown[0]}', " in note for note in loaded.notes
    )


def test_a_second_file_is_the_test_part(tmp_path):
    first, second = write(tmp_path / "a.csv"), write(tmp_path / "b.csv", reviews(14, seed=1))
    loaded = data_of(first, test_path=str(second)).prepare()
    assert {name: len(part) for name, part in loaded.parts.items()} == {"train": 52, "val": 8, "test": 14}
    write(tmp_path / "c.csv", [*reviews(4), ("What?", "unsure", 1)])
    with pytest.raises(UserError, match=r"c\.csv, row 6, column 'verdict': 'unsure' is no class of the training file"):
        data_of(first, test_path=str(tmp_path / "c.csv")).prepare()


def test_another_encoding_is_named_and_can_be_chosen(tmp_path):
    rows = [(f"{text} Très bien, Zoë!", verdict, stars) for text, verdict, stars in reviews()]
    path = write(tmp_path / "a.csv", rows, encoding="latin-1", separator=";")
    with pytest.raises(UserError, match=r"is not UTF-8 text \(byte 0xe8 at offset \d+\).*data\.encoding=latin-1"):
        data_of(path).prepare()
    assert "zoë" in data_of(path, encoding="latin-1").prepare().preprocessing["tokenizer"]["tokens"]


def test_words_that_tables_take_for_nothing_are_words_in_a_text(tmp_path):
    rows = [*reviews(), ("NA", "bad", 1), ("null", "bad", 1)]
    assert len(data_of(write(tmp_path / "a.csv", rows), shares=[1, 0, 0]).prepare().parts["train"]) == 62


def test_the_classes_of_an_earlier_run_keep_their_labels(tmp_path):
    first = data_of(write(tmp_path / "a.csv")).prepare()
    alone = data_of(write(tmp_path / "b.csv", [("A great new film.", "good", 1)]), shares=[1, 0, 0])
    alone.prepare_as(first.preprocessing, first.class_names)
    assert alone.part("train")[torch.arange(1)].label.tolist() == [1]
    assert alone.prepare().preprocessing == first.preprocessing
    other = data_of(write(tmp_path / "c.csv", [("A film.", "fine", 1)]))
    other.prepare_as(first.preprocessing, first.class_names)
    with pytest.raises(UserError, match="'fine' is no class of the training file; it has 'bad', 'good'"):
        other.prepare()


def test_none_and_na_are_names_of_classes(tmp_path):
    names = ("None", "NA", "null")
    rows = [(f"A film, number {i}.", names[i % 3], 1) for i in range(30)]
    assert data_of(write(tmp_path / "a.csv", rows)).prepare().class_names == sorted(names)


BROKEN = {
    "an empty text": ([*reviews(4), ("  ", "bad", 1)], {}, r"row 6, column 'review': the text is empty \(1 empty"),
    "a missing class": ([*reviews(4), ("Hm.", "", 1)], {}, r"row 6, column 'verdict': the value is missing"),
    "one class": ([(text, "bad", 1) for text, _, _ in reviews()], {}, r"all rows are of one class, 'bad' in 'verdict'"),
    "a class for each": (
        [(t, f"v{i}", 1) for i, (t, _, _) in enumerate(reviews())],
        {},
        r"every row has another class",
    ),
    "a quantity": (
        [(text, "", i % 30 / 7) for i, (text, _, _) in enumerate(reviews())],
        {"target": "stars"},
        r"'stars' is a quantity \(30 different numbers\)",
    ),
    "no such column": (None, {"target": "verdikt"}, r"no column 'verdikt' \(data\.target\); did you mean 'verdict'\?"),
    "no such text": (None, {"text": "reviews"}, r"no column 'reviews' \(data\.text\); did you mean 'review'\?"),
    "text is target": (None, {"text": "verdict"}, r"data\.text and data\.target are both 'verdict'"),
    "shares": (None, {"shares": [0.5, 0.1, 0.1]}, r"data\.shares=\[0\.5, 0\.1, 0\.1\] must be"),
    "no rows": ([], {}, r"has a header but no rows"),
    "no file": (None, {"path": "/nowhere/b.csv"}, r"There is no file /nowhere/b\.csv"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_a_user_can_mend_is_one_line(name, tmp_path):
    rows, options, said = BROKEN[name]
    path = write(tmp_path / "a.csv", rows)
    with pytest.raises(UserError, match=said) as error:
        TextCsv(**{"path": str(path), "text": "review", "target": "verdict"} | options).prepare()
    assert "\n" not in str(error.value)


def test_a_table_trains_from_the_command_line_and_is_judged_alike(tmp_path, call_script):
    import json

    from zoo.run import configure, run

    path = write(tmp_path / "a.csv", reviews(120))
    arguments = ("model=textcnn", "data=text_csv", f"data.path={path}", "data.text=review", "data.target=verdict")
    sizes = ("model.embedding_dim=8", "model.channels=4", "trainer.max_epochs=6", "optimizer.lr=0.02", "logger=none")
    assert run(configure(*arguments, *sizes, "trainer.num_threads=1", run_dir=tmp_path / "run")) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test/accuracy"] > 0.9
    ran = call_script("evaluate", f"ckpt={tmp_path / 'run'}", f"out={tmp_path / 'again.json'}")
    assert ran.status == 0, ran.err
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["test/loss"] == metrics["test/loss"]
    write(tmp_path / "new.csv", reviews(20, seed=3))
    ran = call_script("evaluate", f"ckpt={tmp_path / 'run'}", f"data.path={tmp_path / 'new.csv'}")
    assert "20 samples" in ran.out
