"""What a network is fine-tuned on is prepared as what it was trained on: its vocabulary, its mean and deviation."""

import math
import random
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from zoo.build import build
from zoo.checkpoint import load_model, read
from zoo.config.instantiate import make
from zoo.config.prepare import adopt
from zoo.data.known import far_off
from zoo.run import configure, run
from zoo.trained.predict import load as load_predictor

QUIET = ("logger=none", "trainer.num_threads=1", "trainer.max_epochs=1")
SMALL = ("model=lstm", "data=text_file", "model.hidden_size=12", "model.embedding_dim=6", "data.window=16")


def trained(folder, *overrides):
    assert run(configure(*QUIET, *overrides, run_dir=folder)) == 0
    return folder


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A language model that has seen the letters a to h."""
    folder = tmp_path_factory.mktemp("writer")
    (folder / "first.txt").write_text("abcdefgh" * 200)
    return trained(folder / "run", *SMALL, f"data.path={folder / 'first.txt'}")


@pytest.fixture
def other(tmp_path):
    """A text with letters of its own, as many as the first, and some of the first."""
    (tmp_path / "second.txt").write_text("hgfexyzw" * 200)
    return tmp_path / "second.txt"


def test_a_letter_keeps_its_vector_in_another_text(writer, other, tmp_path):
    words = (*SMALL, f"data.path={other}", f"pretrained={writer}")
    folder = trained(tmp_path / "run", *words, "optimizer.lr=0")
    notes = build(configure(*QUIET, *words, run_dir=tmp_path / "again")).notes
    assert [note for note in notes if note.startswith("Inputs are prepared as for") and "its vocabulary" in note]
    was, now = read(writer), read(folder)
    assert now["preprocessing"] == was["preprocessing"]
    start, end = (load_model(place).state_dict() for place in (writer, folder))
    assert all(torch.equal(start[name], end[name]) for name in start), "a rate of 0 changes nothing"
    own = trained(tmp_path / "own", *words, "own_inputs=true")
    assert read(own)["preprocessing"] != was["preprocessing"]


def test_a_run_goes_on_where_its_source_is_gone(writer, other, tmp_path):
    source = shutil.copytree(writer, tmp_path / "source")
    folder = trained(tmp_path / "run", *SMALL, f"data.path={other}", f"pretrained={source}")
    shutil.rmtree(source)
    before = read(folder)["preprocessing"]
    longer = configure(f"resume={folder}", "trainer.max_epochs=2")
    assert run(longer) == 0
    assert read(folder)["preprocessing"] == before


def test_photos_are_normalized_as_the_network_has_seen_them(tmp_path):
    first = trained(tmp_path / "first", "model=lenet5", "data=digits")
    for kind, grey in (("dark", 20), ("light", 200)):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(12):
            Image.new("L", (8, 8), grey + i).save(tmp_path / "photos" / kind / f"{i}.png")
    data = ("data=image_folder", f"data.root={tmp_path / 'photos'}", "data.image_size=28", "data.channels=1")
    second = trained(tmp_path / "second", "model=lenet5", *data, f"pretrained={first}")
    then, now = read(first)["preprocessing"], read(second)["preprocessing"]
    assert (now["mean"], now["std"]) == (then["mean"], then["std"])
    assert (now["height"], then["height"]) == (
        28,
        yaml.safe_load((first / "config.yaml").read_text())["data"]["image_size"],
    )


def test_what_has_nothing_in_common_is_prepared_by_itself(writer, tmp_path):
    data = configure("model=mlp", "data=iris", f"pretrained={writer}")
    assert adopt(data, make({"_target_": data.data["_target_"]}, "data")) == []


def table(path, columns, num_rows=40, *, scale=1.0):
    """Measurements of two kinds of things, which differ in `a` and `town`; the columns in any order."""
    draw = random.Random(len(columns))
    lines = [",".join(columns)]
    for i in range(num_rows):
        cells = {name: f"{scale * draw.gauss(3, 1):.3f}" for name in "abcd"}
        cells |= {"town": ("Ulm", "Bonn", "Kiel")[i % 3], "kind": ("flat", "round")[i % 2]}
        lines.append(",".join(cells[name] for name in columns))
    path.write_text("\n".join(lines) + "\n")
    return path


def notes_of(*overrides, run_dir):
    return build(configure(*QUIET, *overrides, run_dir=run_dir)).notes


def first_weight(run_dir):
    return next(iter(load_model(run_dir).state_dict().values()))


def test_columns_of_a_table_are_found_by_their_names(tmp_path):
    """The same columns in another order, and one more: each goes to the weights that have learnt it, in its scale."""
    first = table(tmp_path / "first.csv", ["a", "b", "town", "kind"])
    known = trained(tmp_path / "known", "model=mlp", "data=csv", f"data.path={first}", "data.target=kind")
    second = table(tmp_path / "second.csv", ["kind", "town", "c", "b", "a"], scale=1.1)
    words = ("model=mlp", "data=csv", f"data.path={second}", "data.target=kind", f"pretrained={known}")
    folder = trained(tmp_path / "run", *words, "optimizer.lr=0")
    then, now = read(known)["preprocessing"], read(folder)["preprocessing"]
    assert [column["name"] for column in now["columns"]] == ["a", "b", "town"]
    assert now == then
    assert torch.equal(first_weight(known), first_weight(folder))
    notes = notes_of(*words, run_dir=tmp_path / "again")
    assert [note for note in notes if "the order and the scale that the pretrained network has seen" in note]
    assert "Left out, since the pretrained network has not seen them: 'c'." in notes
    own = read(trained(tmp_path / "own", *words, "own_inputs=true"))["preprocessing"]
    assert [column["name"] for column in own["columns"]] == ["town", "c", "b", "a"]
    gaps = second.read_text().replace("\n", ",note\n", 1).replace("\n", ",\n").replace(",note,", ",note", 1)
    second.write_text(gaps)  # nobody looks at an empty column that nobody has seen
    assert read(trained(tmp_path / "gaps", *words))["preprocessing"] == then


def test_columns_that_a_network_has_never_seen_are_prepared_by_themselves_aloud(tmp_path):
    """As many columns of another meaning would go into the weights of the first ones."""
    first = table(tmp_path / "first.csv", ["a", "b", "kind"])
    known = trained(tmp_path / "known", "model=mlp", "data=csv", f"data.path={first}", "data.target=kind")
    for columns in (["a", "d", "kind"], ["a", "kind", "b"]):
        second = table(tmp_path / "second.csv", columns)
        words = ("model=mlp", "data=csv", f"data.path={second}", f"data.target={columns[-1]}", f"pretrained={known}")
        notes = notes_of(*words, run_dir=tmp_path / "run")
        assert [note for note in notes if "other columns ('a', 'b')" in note and "knows nothing of them" in note]


def test_a_column_in_another_unit_is_named(tmp_path):
    first = table(tmp_path / "first.csv", ["a", "b", "kind"])
    known = trained(tmp_path / "known", "model=mlp", "data=csv", f"data.path={first}", "data.target=kind")
    second = table(tmp_path / "second.csv", ["a", "b", "kind"], scale=1000)
    words = ("model=mlp", "data=csv", f"data.path={second}", "data.target=kind", f"pretrained={known}")
    (note,) = [note for note in notes_of(*words, run_dir=tmp_path / "run") if note.startswith("Far from")]
    assert "'a' (mean 3" in note
    assert "'b'" in note


def test_a_column_that_spreads_far_wider_is_named_and_one_that_does_not_is_not():
    near, wide = np.array([-1.0, 1.0]), np.array([-100.0, 100.0])
    (line,) = far_off([("near", near, 0.5, 1.0), ("wide", wide, 0.0, 1.0)])
    assert "'wide'" in line
    assert "'near'" not in line
    assert far_off([("near", near, 0.5, 1.0)]) == []


def test_words_of_a_column_that_nobody_knows_make_it_another_column(tmp_path):
    first = table(tmp_path / "first.csv", ["a", "town", "kind"])
    known = trained(tmp_path / "known", "model=mlp", "data=csv", f"data.path={first}", "data.target=kind")
    second = tmp_path / "second.csv"
    second.write_text(first.read_text().replace("Ulm", "Rom").replace("Bonn", "Oslo").replace("Kiel", "Linz"))
    words = ("model=mlp", "data=csv", f"data.path={second}", "data.target=kind", f"pretrained={known}")
    assert [note for note in notes_of(*words, run_dir=tmp_path / "run") if "knows nothing of them" in note]


def test_new_rows_are_read_as_the_file_of_training(tmp_path):
    """A price of 1.234,0 and of 1.234 is one price, in a table and in a series."""
    rows = [f"1.{200 + i},0;{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "first.csv").write_text("\n".join(["price;kind", *rows]) + "\n")
    known = trained(
        tmp_path / "known", "model=mlp", "data=csv", f"data.path={tmp_path / 'first.csv'}", "data.target=kind"
    )
    (tmp_path / "series.csv").write_text("\n".join(["price", *(f"1.{200 + i},0" for i in range(200))]) + "\n")
    sizes = ("model=dlinear", "data=series_csv", "data.past=12", "data.horizon=4", "data.separator=;")
    ahead = trained(tmp_path / "ahead", *sizes, f"data.path={tmp_path / 'series.csv'}")
    for folder, name, lines in ((known, "kind", rows[:20]), (ahead, "price", [f"1.{300 + i},0" for i in range(20)])):
        told = []
        for ending in (",0", ""):
            path = tmp_path / f"new{ending}.csv"
            cells = [line.partition(";")[0].removesuffix(",0") + ending for line in lines]
            path.write_text("\n".join(["price", *cells]) + "\n")
            predictor = load_predictor(folder)
            inputs = predictor.open(path, {"separator": ";"})
            told.append([answer.ranked for answer in predictor.answers(inputs)])
            assert any("as in the file of training" in note for note in inputs.notes) == (ending == "")
        assert told[0] == told[1], name


def test_a_network_for_quantities_goes_on_in_its_scale(tmp_path):
    """What it answered before the first iteration, it answers for the other table, too: in the units of the target."""
    first = table(tmp_path / "first.csv", ["a", "b", "c"])
    known = trained(tmp_path / "known", "model=mlp", "data=csv", f"data.path={first}", "data.target=c")
    second = table(tmp_path / "second.csv", ["c", "b", "a"], scale=2)
    words = ("model=mlp", "data=csv", f"data.path={second}", "data.target=c", f"pretrained={known}", "optimizer.lr=0")
    folder = trained(tmp_path / "run", *words)
    told = [[answer.ranked for answer in load_predictor(place).answers(second)] for place in (known, folder)]
    assert told[0] == told[1]
    other = (*words[:3], "data.target=a", *words[4:])
    assert read(trained(tmp_path / "other", *other))["preprocessing"]["target"] == "a"


def test_a_value_that_may_be_missing_is_filled_from_the_own_table(tmp_path):
    first = table(tmp_path / "first.csv", ["a", "b", "kind"])
    known = trained(tmp_path / "known", "model=mlp", "data=csv", f"data.path={first}", "data.target=kind")
    second = table(tmp_path / "second.csv", ["b", "a", "kind"])
    lines = second.read_text().splitlines()
    second.write_text("\n".join([*lines, ",3.5,flat", ",2.5,round"]) + "\n")
    words = ("data=csv", f"data.path={second}", "data.target=kind", "data.impute=true", f"pretrained={known}")
    then, now = (read(place)["preprocessing"]["columns"] for place in (known, trained(tmp_path / "run", *words)))
    assert [column | {"fill": None} for column in now] == then
    assert all(2 < column["fill"] < 4 for column in now)


def series(path, columns, *, num_rows=200, factor=1.0):
    rows = [{name: factor * math.sin(i / (3 + j)) + j for j, name in enumerate("abc")} for i in range(num_rows)]
    path.write_text(
        "\n".join([",".join(columns), *(",".join(f"{row[n]:.4f}" for n in columns) for row in rows)]) + "\n"
    )
    return path


def test_columns_of_a_series_are_found_by_their_names(tmp_path):
    sizes = ("model=dlinear", "data=series_csv", "data.past=12", "data.horizon=4")
    known = trained(tmp_path / "known", *sizes, f"data.path={series(tmp_path / 'first.csv', ['a', 'b'])}")
    second = series(tmp_path / "second.csv", ["c", "b", "a"], factor=2)
    words = (*sizes, f"data.path={second}", f"pretrained={known}")
    now, then = (read(place)["preprocessing"] for place in (trained(tmp_path / "run", *words), known))
    assert now == then
    notes = notes_of(*words, run_dir=tmp_path / "again")
    assert [note for note in notes if "the scale that the pretrained network has seen" in note]
    own = read(trained(tmp_path / "own", *words, "own_inputs=true"))["preprocessing"]
    assert own["columns"] == ["c", "b", "a"]
    asked = read(trained(tmp_path / "asked", *words, "data.columns=[b,a]"))["preprocessing"]
    assert asked == then  # in whatever order they are asked for
    third = series(tmp_path / "third.csv", ["c", "b"])
    notes = notes_of(*sizes, f"data.path={third}", f"pretrained={known}", run_dir=tmp_path / "third")
    assert [note for note in notes if "a series of other columns ('a', 'b')" in note]
    far = series(tmp_path / "far.csv", ["a", "b"], factor=100)
    notes = notes_of(*sizes, f"data.path={far}", f"pretrained={known}", run_dir=tmp_path / "far")
    assert [note for note in notes if note.startswith("Far from")]


def test_features_keep_the_scale_that_a_network_has_seen(tmp_path):
    for name, factor in (("first", 1.0), ("second", 3.0)):
        draw = np.random.default_rng(0)
        label = np.arange(60) % 2
        features = (factor * (draw.standard_normal((60, 5)) + label[:, None])).astype(np.float32)
        arrays = {"features": features, "names": np.arange(60).astype(str), "label": label, "kind": np.array("binary")}
        np.savez(tmp_path / f"{name}.npz", **arrays, classes=np.array(["no", "yes"]))
    words = ("model=mlp", "data=features")
    known = trained(tmp_path / "known", *words, f"data.path={tmp_path / 'first.npz'}")
    words = (*words, f"data.path={tmp_path / 'second.npz'}", f"pretrained={known}")
    then, now = (read(place)["preprocessing"] for place in (known, trained(tmp_path / "run", *words)))
    assert now == then
    assert read(trained(tmp_path / "own", *words, "own_inputs=true"))["preprocessing"] != then


def test_what_is_fine_tuned_without_weights_is_said(tmp_path):
    notes = notes_of("model=mlp", "data=iris", "finetune=head", run_dir=tmp_path)
    assert "finetune=head without pretrained=: the network begins with random weights." in notes
    assert not [note for note in notes_of("model=mlp", "data=iris", run_dir=tmp_path) if "random weights" in note]
