"""scripts/predict.py: what it prints is what the model computes, and what it cannot read it names."""

import csv
import json
import re
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.analysis.explain import grad_cam
from zoo.checkpoint import load_model, read
from zoo.data.csv_file import read_csv
from zoo.data.images import ImagePreprocessing
from zoo.data.table_preprocessing import TablePreprocessing
from zoo.errors import UserError
from zoo.run import configure, run
from zoo.trained import reasons
from zoo.trained.inputs import CHUNK
from zoo.trained.predict import Answer, load
from zoo.trained.reasons import Reasons


@pytest.fixture(scope="session")
def digit_files(tmp_path_factory):
    """8 digits of scikit-learn as PNG files, two of them in a folder below."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    for i, image in enumerate(load_digits().images[:8]):
        pixels = (image * 255 / 16).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / ("more" if i > 5 else ".") / f"{7 - i}.png")
    return folder


def of_lines(text):
    return [json.loads(line) for line in text.splitlines()]


def by_hand(folder, path):
    """Softmax of the model on one image, without the zoo's predict."""
    prepare = ImagePreprocessing.from_dict(read(folder)["preprocessing"])
    with torch.no_grad():
        return load_model(folder)(prepare(prepare.open(path)[None])).softmax(1)[0]


def test_one_image_equals_the_model_called_by_hand(digits_run, digit_files, call_script):
    path = digit_files / "3.png"
    ran = call_script("predict", f"ckpt={digits_run}", f"input={path}", "format=json", "top=10")
    (answer,) = of_lines(ran.out)
    expected = by_hand(digits_run, path)
    assert answer["label"] == str(int(expected.argmax()))
    assert {pair["label"]: pair["probability"] for pair in answer["top"]} == {
        str(k): value for k, value in enumerate(expected.tolist())
    }
    assert "softmax over 10 classes" in ran.err


@pytest.mark.docs
def test_as_a_new_user_types_it(digits_run, digit_files, type_script):
    ran = type_script("predict", f"ckpt={digits_run}", "input=3.png", cwd=digit_files)
    assert ran.status == 0, ran.err
    best = by_hand(digits_run, digit_files / "3.png")
    assert ran.out.startswith(f"3.png: {int(best.argmax())} ({float(best.max()):.1%}), ")
    assert ran.out.count("%") == 3
    assert ran.err == "LeNet5: label and probability (softmax over 10 classes).\n"  # no bar: this is no terminal


def test_a_folder_comes_in_the_order_of_its_names(digits_run, digit_files, call_script):
    ran = call_script("predict", f"ckpt={digits_run}", f"input={digit_files}", "format=json")
    names = [answer["input"] for answer in of_lines(ran.out)]
    assert names == [str(digit_files / f"{i}.png") for i in range(2, 8)] + [
        str(digit_files / "more" / f"{i}.png") for i in (0, 1)
    ]
    for answer in of_lines(ran.out):
        assert answer["probability"] == pytest.approx(float(by_hand(digits_run, answer["input"]).max()), abs=1e-6)


def test_a_large_folder_is_read_a_chunk_at_a_time(digits_run, tmp_path, monkeypatch):
    for i in range(2 * CHUNK + 5):
        Image.new("L", (8, 8), i % 256).save(tmp_path / f"{i:04}.png")
    opened = []
    monkeypatch.setattr(ImagePreprocessing, "open", spy(ImagePreprocessing.open, opened))
    answers = load(digits_run).answers(tmp_path)
    next(answers)
    assert len(opened) == CHUNK
    assert len(list(answers)) == 2 * CHUNK + 4


def test_earlier_answers_stay_where_nothing_can_be_read(digits_run, digit_files, tmp_path, call_script):
    out = tmp_path / "answers.jsonl"
    words = (f"ckpt={digits_run}", "format=json", f"out={out}")
    assert call_script("predict", *words, f"input={digit_files}").status == 0
    before = out.read_text()
    (tmp_path / "torn").mkdir()
    for name in "ab":
        (tmp_path / "torn" / f"{name}.png").write_bytes(b"no image")
    ran = call_script("predict", *words, f"input={tmp_path / 'torn'}")
    assert ran.status == 2
    assert "None of the 2 inputs could be read." in ran.err
    assert out.read_text() == before


@pytest.mark.parametrize("written", ["out=answers.jsonl", "features=seen.npz"])
def test_what_has_been_answered_is_written_and_let_go(digits_run, tmp_path, monkeypatch, call_script, written):
    """However many pictures there are, those of two chunks at most are in memory."""
    (tmp_path / "in").mkdir()
    for i in range(6 * CHUNK):
        Image.new("L", (8, 8), i % 256).save(tmp_path / "in" / f"{i:04}.png")
    alive, counts, prepare = weakref.WeakSet(), [], ImagePreprocessing.__call__

    def watched(self, images):
        prepared = prepare(self, images)
        alive.add(prepared)
        counts.append(len(alive))
        return prepared

    monkeypatch.setattr(ImagePreprocessing, "__call__", watched)
    monkeypatch.chdir(tmp_path)
    assert call_script("predict", f"ckpt={digits_run}", "input=in", written).status == 0
    assert len(counts) == 6
    assert max(counts) <= 2


def spy(function, calls):
    def called(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return called


def test_unreadable_files_are_named_skipped_and_counted(digits_run, tmp_path, call_script):
    Image.new("L", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "a cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    ran = call_script("predict", f"ckpt={digits_run}", f"input={tmp_path}")
    assert ran.status == 0
    assert len(ran.out.splitlines()) == 1
    said = ran.err.splitlines()[1:]
    assert [("a cut.png" in said[0]), ("broken.png" in said[1])] == [True, True]
    assert said[2] == "2 of 3 could not be read and were skipped."
    (tmp_path / "good.png").unlink()
    ran = call_script("predict", f"ckpt={digits_run}", f"input={tmp_path}")
    assert ran.status == 2
    assert "broken.png" in ran.err
    assert ran.err.splitlines()[-1] == "Error: None of the 2 inputs could be read."


def test_table_values_are_the_tasks_outputs_in_the_targets_own_units(csv_regression_run, call_script, tmp_path):
    from zoo.build import build_task
    from zoo.trained.evaluate import build_data

    path = csv_regression_run.parent / "houses.csv"
    ran = call_script("predict", f"ckpt={csv_regression_run}", f"input={path}", "format=json")
    checkpoint = read(csv_regression_run)
    model = load_model(csv_regression_run)
    task = build_task(checkpoint["config"], model, build_data(checkpoint, {}))
    x, _ = TablePreprocessing.from_dict(checkpoint["preprocessing"]).encode(read_csv(path))
    with torch.no_grad():
        expected = torch.cat([task.in_units(model(rows)) for rows in x.split(CHUNK)]).flatten().tolist()
    assert [answer["values"]["price"] for answer in of_lines(ran.out)] == expected
    assert [answer["row"] for answer in of_lines(ran.out)] == list(range(2, 92))
    true = np.loadtxt(path, delimiter=",", skiprows=1, usecols=4)
    assert abs(np.mean(expected) - true.mean()) < true.std()  # prices, not standardized values


def test_columns_are_found_by_name(csv_regression_run, tmp_path):
    path, other = csv_regression_run.parent / "houses.csv", tmp_path / "other order.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    with other.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["colour", "town", "rooms", "area"], delimiter=";", extrasaction="ignore")
        writer.writeheader()
        writer.writerows({"colour": "red", **row} for row in rows)
    predictor = load(csv_regression_run)
    assert [a.ranked for a in predictor.answers(other)] == [a.ranked for a in predictor.answers(path)]


def test_a_missing_column_and_a_strange_cell_are_one_line(csv_regression_run, tmp_path, call_script):
    (tmp_path / "a.csv").write_text("area,town\n70,Ulm\n")
    (tmp_path / "b.csv").write_text("area,rooms,town\n70,many,Ulm\n")
    for name, said in (("a.csv", "lacks what the model was trained on: 'rooms'"), ("b.csv", "row 2, column 'rooms'")):
        ran = call_script("predict", f"ckpt={csv_regression_run}", f"input={tmp_path / name}")
        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert said in ran.err


def test_an_unseen_value_is_a_note(csv_regression_run, tmp_path, call_script):
    (tmp_path / "a.csv").write_text("area,rooms,town\n70,3,Oslo\n")
    ran = call_script("predict", f"ckpt={csv_regression_run}", f"input={tmp_path / 'a.csv'}")
    assert ran.status == 0
    assert "unseen values, such as 'Oslo'" in ran.err
    assert ran.out.startswith("row 2: price ")


def test_classes_of_a_table_have_their_names(csv_classification_run, call_script):
    path = csv_classification_run.parent / "fruit.csv"
    ran = call_script("predict", f"ckpt={csv_classification_run}", f"input={path}", "format=json", "top=3")
    for answer in of_lines(ran.out):
        assert {pair["label"] for pair in answer["top"]} == {"apple", "cherry", "melon"}
        assert sum(pair["probability"] for pair in answer["top"]) == pytest.approx(1)


def write_corners(path):
    path.write_text("a,b\n0,0\n0,1\n1,0\n1,1\n")
    return path


def test_one_logit_names_both_classes(tmp_path):
    arguments = ("model=mlp", "data=xor", "task=binary", "optimizer.lr=0.02", "trainer.max_epochs=10", "logger=none")
    assert run(configure(*arguments, run_dir=tmp_path / "run")) == 0
    predictor = load(tmp_path / "run")
    answers = list(predictor.answers(write_corners(tmp_path / "x.csv")))
    assert [answer.ranked[0][0] for answer in answers] == ["0", "1", "1", "0"]
    for answer in answers:
        assert sum(value for _, value in answer.ranked) == pytest.approx(1)
        assert answer.ranked[0][1] > 0.5
    assert "sigmoid, two classes" in predictor.describe()


@pytest.mark.parametrize(
    ("loss", "output", "measure"),
    [
        ("binary_cross_entropy_of_probabilities", "Sigmoid", "probability"),
        ("mean_squared_error", "Sigmoid", "probability"),
        ("mean_squared_error", "null", "score"),
        ("hinge", "null", "score"),
    ],
)
def test_whatever_the_loss_was_the_answer_is_on_the_right_side_of_its_border(loss, output, measure, tmp_path):
    arguments = ("model=mlp", "data=xor", f"model.output_activation={output}", f"task.loss={loss}")
    settings = ("optimizer.lr=0.02", "trainer.max_epochs=20", "logger=none")
    assert run(configure(*arguments, *settings, run_dir=tmp_path / "run")) == 0
    predictor = load(tmp_path / "run")
    answers = list(predictor.answers(write_corners(tmp_path / "x.csv")))
    assert [answer.ranked[0][0] for answer in answers] == ["0", "1", "1", "0"]
    assert predictor.measure == measure
    x, _ = TablePreprocessing.from_dict(predictor.preprocessing).encode(read_csv(tmp_path / "x.csv"))
    outputs = load_model(tmp_path / "run")(x)[:, 0].tolist()
    assert [dict(answer.ranked)["1"] for answer in answers] == pytest.approx(outputs)  # no second sigmoid


def test_a_softmax_at_the_end_is_not_taken_twice(tmp_path, digit_files):
    arguments = ("model=mlp", "model.output_activation=Softmax", "task.loss=cross_entropy_of_probabilities")
    assert run(configure(*arguments, "trainer.max_epochs=2", "logger=none", run_dir=tmp_path / "run")) == 0
    predictor = load(tmp_path / "run")
    (answer,) = predictor.answers(digit_files / "3.png")
    prepare = ImagePreprocessing.from_dict(predictor.preprocessing)
    with torch.no_grad():
        row = load_model(tmp_path / "run")(prepare(prepare.open(digit_files / "3.png")[None]))[0]
    assert [dict(answer.ranked)[str(k)] for k in range(10)] == pytest.approx(row.tolist())
    assert sum(dict(answer.ranked).values()) == pytest.approx(1)
    assert "softmax over 10 classes" in predictor.describe()


def test_threshold_units_give_scores_and_no_probability(tmp_path, call_script):
    short = ("trainer.max_epochs=3", "logger=none")
    assert run(configure("model=perceptron", "data=iris", *short, run_dir=tmp_path / "run")) == 0
    from sklearn.datasets import load_iris

    iris = load_iris()
    rows = "\n".join(",".join(map(str, row)) for row in iris.data[::30])
    (tmp_path / "iris.csv").write_text(",".join(iris.feature_names) + "\n" + rows + "\n")
    ran = call_script("predict", f"ckpt={tmp_path / 'run'}", f"input={tmp_path / 'iris.csv'}", "format=json")
    model = load_model(tmp_path / "run")
    x, _ = TablePreprocessing.from_dict(read(tmp_path / "run")["preprocessing"]).encode(read_csv(tmp_path / "iris.csv"))
    scores = model.scores(x).detach()
    for answer, row in zip(of_lines(ran.out), scores, strict=True):
        assert "probability" not in answer
        assert answer["label"] == iris.target_names[int(row.argmax())]
        assert answer["score"] == float(row.max())
    assert "no probability" in ran.err


def test_several_labels_are_all_told_and_those_above_one_half_hold(digits_run):
    predictor = load(digits_run)
    predictor.kind = "multilabel"
    measures = torch.tensor([0.1, 0.6, 0.5, 0.9] + [0.0] * 6)
    answer = Answer("photo.png", None, predictor.rank(measures))
    assert answer.ranked == list(zip(map(str, range(10)), measures.tolist(), strict=True))
    assert predictor.text(answer).startswith("photo.png: 0 (10.0%), 1 (60.0%), 2 (50.0%), 3 (90.0%), ")
    assert json.loads(predictor.json(answer))["labels"] == ["1", "3"]
    x = torch.zeros(2, 1, 28, 28)
    assert torch.equal(predictor.measures(x), predictor.model(x).sigmoid())


def test_answers_go_into_a_file(digits_run, digit_files, call_script, tmp_path):
    out = tmp_path / "answers.jsonl"
    ran = call_script("predict", f"ckpt={digits_run}", f"input={digit_files}", "format=json", f"out={out}")
    assert (ran.status, ran.out) == (0, "")
    assert len(of_lines(out.read_text())) == 8
    assert f"Written: {out}, 8 lines" in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "ckpt= is missing"),
        (("ckpt={digits}",), "input= is missing"),
        (("ckpt={digits}", "input={tmp}/nothing.png"), "There is nothing at"),
        (("ckpt={digits}", "input={tmp}/empty"), "There is no image in"),
        (("ckpt={digits}", "input={houses}/../houses.csv"), "looks like a table"),
        (("ckpt={houses}", "input={tmp}/empty"), "is a folder, and this model was trained on a table"),
        (("ckpt={houses}", "input={tmp}/photo.png"), "is an image, and this model was trained on a table"),
        (("ckpt={digits}", "input={tmp}/photo.png", "format=xml"), "must be text or json"),
        (("ckpt={digits}", "input={tmp}/photo.png", "top=0"), "top=0 must be"),
        (("ckpt={digits}", "input={tmp}/photo.png", "out={tmp}/photo.png"), "would overwrite the input"),
        (("ckpt={digits}", "input={tmp}", "out={tmp}/photo.png"), "photo.png is there, and no file of answers"),
        (("ckpt={digits}", "input={tmp}/photo.png", "out={tmp}/no/x"), "Cannot use"),
        (("ckpt={digits}", "inptu={tmp}/photo.png"), "did you mean 'input'?"),
        (("ckpt={digits}", "input={tmp}/photo.png", "explain=grad_cam"), "did you mean 'gradcam'?"),
        (("ckpt={digits}", "input={tmp}/photo.png", "explain=true", "explain_class=cat"), "The model knows no 'cat'"),
        (("ckpt={digits}", "input={tmp}/photo.png", "explain_class=3"), "explain_class=3 needs explain=true"),
        (("ckpt={digits}", "input={tmp}/photo.png", "explain=true", "explain_out="), "explain_out= is empty"),
        (("ckpt={digits}", "input={tmp}", "explain=true", "explain_out={tmp}/why"), "choose another explain_out="),
        (("ckpt={digits}", "input={tmp}/photo.png", "explain=true", "explain_out={tmp}/photo.png"), "Cannot use"),
    ],
    ids=str,
)
def test_what_a_user_can_mend_is_one_line(digits_run, csv_regression_run, tmp_path, call_script, arguments, said):
    (tmp_path / "empty").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "photo.png")
    names = {"digits": digits_run, "houses": csv_regression_run, "tmp": tmp_path}
    ran = call_script("predict", *(argument.format(**names) for argument in arguments))
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
    assert ran.err.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize(
    "target", ["os.system", "pathlib.Path.write_text", "torch.load", "zoo.config.commandline.os.system"]
)
def test_a_hostile_model_is_refused(digits_run, digit_files, call_script, tmp_path, target):
    checkpoint = read(digits_run)
    checkpoint["config"]["model"]["channels"] = [6, {"_target_": target, "_args_": [f"touch {tmp_path / 'proof'}"]}]
    torch.save(checkpoint, tmp_path / "hostile.ckpt")
    ran = call_script("predict", f"ckpt={tmp_path / 'hostile.ckpt'}", f"input={digit_files}")
    assert ran.status == 2
    assert f"model.channels[1] would call '{target}'" in ran.err
    assert not (tmp_path / "proof").exists()


def test_a_model_gone_wrong_says_so(digits_run, digit_files, tmp_path):
    checkpoint = read(digits_run)
    checkpoint["state_dict"]["model.output.bias"][0] = float("nan")
    torch.save(checkpoint, tmp_path / "nan.ckpt")
    with pytest.raises(UserError, match="no finite number"):
        list(load(tmp_path / "nan.ckpt").answers(digit_files))


def test_a_column_alone_is_a_table(tmp_path):
    (tmp_path / "line.csv").write_text("x,y\n" + "".join(f"{i / 7:.3f},{2 * i / 7 + 0.5:.3f}\n" for i in range(60)))
    arguments = ("data=csv", f"data.path={tmp_path / 'line.csv'}", "data.target=y", "trainer.max_epochs=1")
    assert run(configure(*arguments, "logger=none", run_dir=tmp_path / "run")) == 0
    (tmp_path / "new.csv").write_text("x\n1.5\n2.5\n")
    assert len(list(load(tmp_path / "run").answers(tmp_path / "new.csv"))) == 2


def check_picture(path):
    """Reads a picture whole: it is a PNG, and of more than one colour."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_explain_draws_what_an_answer_comes_from(digits_run, digit_files, call_script, tmp_path, monkeypatch):
    shutil.copy(digit_files / "3.png", tmp_path)
    monkeypatch.chdir(tmp_path)
    ran = call_script("predict", f"ckpt={digits_run}", "input=3.png", "explain=true")
    assert ran.status == 0, ran.err
    best = by_hand(digits_run, tmp_path / "3.png")
    assert ran.out.startswith(f"3.png: {int(best.argmax())} ({float(best.max()):.1%}), ")
    assert ran.out.endswith("; explained in explained/3.png.gradcam.png\n")
    assert ran.err.splitlines()[-1] == "Explained by Grad-CAM: 1 picture in explained"
    check_picture(tmp_path / "explained" / "3.png.gradcam.png")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["3.png", "3.png.gradcam.png", "explained"]


@pytest.mark.parametrize("method", ["gradcam", "saliency", "integrated_gradients"])
def test_pictures_of_a_folder_lie_as_its_files_do_and_answers_stay_the_same(
    digits_run, digit_files, call_script, tmp_path, method
):
    few = tmp_path / "photos"
    (few / "more").mkdir(parents=True)
    for name in ("3.png", "more/1.png"):
        shutil.copy(digit_files / name, few / name)
    arguments = (f"ckpt={digits_run}", f"input={few}", "format=json")
    plain = call_script("predict", *arguments)
    ran = call_script("predict", *arguments, f"explain={method}", f"explain_out={tmp_path / 'why'}")
    assert ran.err.splitlines()[-1].endswith(f": 2 pictures in {tmp_path / 'why'}")
    for answer, bare in zip(of_lines(ran.out), of_lines(plain.out), strict=True):
        explanation = answer.pop("explanation")
        assert answer == bare
        assert (explanation["explained"], explanation["method"]) == (answer["label"], method)
        below = Path(answer["input"]).relative_to(few)
        assert explanation["picture"] == str(tmp_path / "why" / f"{below}.{method}.png")
        check_picture(explanation["picture"])


def test_the_picture_is_the_models_own_heat_map_beside_what_it_sees(digits_run, digit_files, tmp_path, monkeypatch):
    drawn = {}
    draw = reasons.explained_image

    def spied(image, heat, title, *, caption):
        drawn.update(image=image, heat=heat, title=title, caption=caption)
        return draw(image, heat, title, caption=caption)

    monkeypatch.setattr(reasons, "explained_image", spied)
    predictor, path = load(digits_run), digit_files / "4.png"
    (answer,) = predictor.answers(path, Reasons(predictor, path, tmp_path, subject="7"))
    prepare = ImagePreprocessing.from_dict(read(digits_run)["preprocessing"])
    pixels = prepare.open(path)
    heat = grad_cam(load_model(digits_run), prepare(pixels[None]), torch.tensor([7]))[0]
    torch.testing.assert_close(drawn["heat"], heat)
    torch.testing.assert_close(drawn["image"], pixels / 255, atol=1e-5, rtol=0)
    assert drawn["title"] == f"7 ({dict(answer.ranked)['7']:.1%})"
    assert drawn["caption"] == "Grad-CAM: what speaks for it"


def test_a_network_without_feature_maps_is_explained_by_saliency(tmp_path, digit_files, call_script):
    short = ("trainer.max_epochs=1", "logger=none")
    assert run(configure("model=mlp", "data=digits", *short, run_dir=tmp_path / "run")) == 0
    arguments = (f"ckpt={tmp_path / 'run'}", f"input={digit_files / '2.png'}", f"explain_out={tmp_path / 'why'}")
    ran = call_script("predict", *arguments, "explain=true")
    assert "Explained by saliency" in ran.err
    check_picture(tmp_path / "why" / "2.png.saliency.png")
    ran = call_script("predict", *arguments, "explain=gradcam")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.splitlines()[-1] == (
        "Error: Grad-CAM needs feature maps, and MLP has no 2-d convolution; take saliency instead."
    )


def test_shares_of_a_regressions_features_add_up_in_the_targets_own_units(csv_regression_run, call_script, tmp_path):
    path = csv_regression_run.parent / "houses.csv"
    arguments = (f"ckpt={csv_regression_run}", f"input={path}", "explain=true", f"explain_out={tmp_path}")
    ran = call_script("predict", *arguments, "format=json")
    features = TablePreprocessing.from_dict(read(csv_regression_run)["preprocessing"]).features
    nothing = load(csv_regression_run).measures(torch.zeros(1, len(features))).item()
    for answer in of_lines(ran.out):
        shares = answer["explanation"]["attributions"]
        sizes = list(map(abs, shares.values()))
        assert set(shares) == set(features)
        assert sizes == sorted(sizes, reverse=True)
        difference = answer["values"]["price"] - nothing
        assert abs(sum(shares.values()) - difference) <= 0.051 * abs(difference) + 0.002 * sum(sizes)
    picture = tmp_path / "houses.csv.integrated_gradients.png"
    assert ran.err.splitlines()[-1] == f"Explained by integrated gradients: the features over all rows in {picture}"
    check_picture(picture)
    ran = call_script("predict", *arguments)
    assert re.search(r"^row 2: price -?\d+(\.\d+)?; for price: [\w=]+ [+-][\d,]+", ran.out)


def test_rows_say_which_features_a_class_is_sensitive_to(csv_classification_run, call_script, tmp_path):
    path = csv_classification_run.parent / "fruit.csv"
    arguments = (f"ckpt={csv_classification_run}", f"input={path}", f"explain_out={tmp_path}")
    ran = call_script("predict", *arguments, "explain=saliency", "explain_class=melon")
    assert all("; melon is most sensitive to " in line for line in ran.out.splitlines())
    check_picture(tmp_path / "fruit.csv.saliency.png")
    ran = call_script("predict", *arguments, "explain=gradcam")
    assert ran.status == 2
    assert "for rows of a table take saliency or integrated_gradients" in ran.err


def test_one_logit_is_explained_for_the_class_that_was_answered(tmp_path):
    arguments = ("model=mlp", "data=xor", "task=binary", "optimizer.lr=0.02", "trainer.max_epochs=10", "logger=none")
    assert run(configure(*arguments, run_dir=tmp_path / "run")) == 0
    predictor, path = load(tmp_path / "run"), write_corners(tmp_path / "x.csv")
    answers = list(predictor.answers(path, Reasons(predictor, path, tmp_path)))
    x, _ = TablePreprocessing.from_dict(predictor.preprocessing).encode(read_csv(path))
    with torch.no_grad():
        towards_1 = (predictor.model(x) - predictor.model(torch.zeros_like(x)))[:, 0].tolist()
    for answer, change in zip(answers, towards_1, strict=True):
        total = sum(answer.explanation["attributions"].values())
        assert total == pytest.approx(change if answer.ranked[0][0] == "1" else -change, rel=0.06, abs=0.05)


def test_of_several_labels_the_likeliest_is_explained(digits_run, tmp_path):
    predictor = load(digits_run)
    predictor.kind = "multilabel"
    answer = Answer("photo.png", None, predictor.rank(torch.tensor([0.1, 0.6, 0.5, 0.9] + [0.0] * 6)))
    reasons = Reasons(predictor, tmp_path / "photo.png", tmp_path)
    assert reasons.explained(answer) == ("3", pytest.approx(0.9))
    assert reasons.classes([answer]).tolist() == [3]


def test_what_cannot_be_read_is_not_explained(digits_run, tmp_path, call_script):
    (tmp_path / "in").mkdir()
    Image.new("L", (8, 8), 9).save(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    arguments = (f"ckpt={digits_run}", f"input={tmp_path / 'in'}", "explain=true", f"explain_out={tmp_path / 'why'}")
    ran = call_script("predict", *arguments)
    assert ran.status == 0
    assert [path.name for path in (tmp_path / "why").iterdir()] == ["good.png.gradcam.png"]


@pytest.fixture(scope="session")
def topics_run(tmp_path_factory):
    """The folder of a small TextCNN that learned from which topic of Python's reference a paragraph is."""
    folder = tmp_path_factory.mktemp("topics") / "run"
    sizes = ("model.embedding_dim=16", "model.channels=8", "trainer.max_epochs=2", "trainer.num_threads=1")
    assert run(configure("model=textcnn", *sizes, "optimizer.lr=0.02", "logger=none", run_dir=folder)) == 0
    return folder


TEXTS = ["The del statement removes a binding.", "blorp", "strings are immutable sequences " * 9, "Type continue, pdb!"]


def of_texts(folder):
    """Softmax of the model on each of TEXTS by itself, without padding and without the zoo's predict."""
    tokens = read(folder)["preprocessing"]["tokenizer"]["tokens"]
    model, answers = load_model(folder), []
    for text in TEXTS:
        pieces = re.findall(r"\w+|[^\w\s]", text.lower())
        numbers = [tokens.index(piece) if piece in tokens else tokens.index("<unk>") for piece in pieces]
        with torch.no_grad():
            answers.append(model(torch.tensor([numbers])).softmax(1)[0].tolist())
    return answers


def test_answers_to_texts_are_the_models_own_whatever_file_they_come_from(topics_run, tmp_path, call_script):
    (tmp_path / "a.txt").write_text("\n".join(TEXTS) + "\n")
    with (tmp_path / "b.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("n", "review"), *enumerate(TEXTS)])
    with (tmp_path / "c.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "n"), *((text, i) for i, text in enumerate(TEXTS))])
    names = [str(name) for name in read(topics_run)["classes"]]
    expected = of_texts(topics_run)
    for file, first, more in (("a.txt", 1, ()), ("b.csv", 2, ("data.text=review",)), ("c.csv", 2, ())):
        ran = call_script("predict", f"ckpt={topics_run}", f"input={tmp_path / file}", "format=json", "top=8", *more)
        assert ran.status == 0, ran.err
        answers = of_lines(ran.out)
        assert [answer["row"] for answer in answers] == list(range(first, first + len(TEXTS)))
        for answer, row in zip(answers, expected, strict=True):
            found = {pair["label"]: pair["probability"] for pair in answer["top"]}
            assert [found[name] for name in names] == pytest.approx(row, abs=1e-6)
    for text, row in zip(TEXTS, expected, strict=True):
        (answer,) = of_lines(call_script("predict", f"ckpt={topics_run}", f"text={text}", "format=json").out)
        assert (answer["input"], answer["label"]) == (text, names[row.index(max(row))])
        assert answer["probability"] == pytest.approx(max(row), abs=1e-6)


def test_several_words_are_a_text_and_a_missing_file_is_none(topics_run, call_script):
    text = "raise an exception and/or catch it " * 40  # longer than a path may be
    ours, theirs = (call_script("predict", f"ckpt={topics_run}", f"{key}={text}") for key in ("input", "text"))
    assert ours.status == 0
    assert ours.out == theirs.out
    for missing in ("nobody", "two words.csv", "two words.txt"):
        ran = call_script("predict", f"ckpt={topics_run}", f"input={missing}")
        assert (ran.status, ran.out) == (2, "")
        assert f"There is nothing at {missing}" in ran.err


def test_unknown_words_are_said(topics_run, tmp_path, call_script):
    ran = call_script("predict", f"ckpt={topics_run}", "text=The blorp statement, the xyzzy statement")
    assert "In the text 2 of 7 words are not in the vocabulary and are read as <unk>: 'blorp', 'xyzzy'" in ran.err
    assert ran.out.startswith("The blorp statement, the xyzzy statement: ")
    assert "<unk>" not in call_script("predict", f"ckpt={topics_run}", "text=The del statement").err
    (tmp_path / "a.txt").write_text("the blorp\nthe statement\n")
    assert (
        f"In {tmp_path / 'a.txt'} 1 of 4 words"
        in call_script("predict", f"ckpt={topics_run}", f"input={tmp_path / 'a.txt'}").err
    )


def test_empty_lines_are_named_skipped_and_counted(topics_run, tmp_path, call_script):
    (tmp_path / "a.txt").write_text("the statement\n\n  \nstrings\n")
    ran = call_script("predict", f"ckpt={topics_run}", f"input={tmp_path / 'a.txt'}")
    assert [line.split(":")[0] for line in ran.out.splitlines()] == ["row 1", "row 4"]
    assert "a.txt, row 2: the text is empty." in ran.err
    assert ran.err.splitlines()[-1] == "2 of 4 could not be read and were skipped."


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("text=",), "text= is empty"),
        (("text=hello", "input={tmp}/a.csv"), "input= and text= are both given"),
        (("text=hello", "explain=true"), "explain= is for images and tables"),
        (("input={tmp}",), "is a folder, and this model was trained on texts"),
        (("input={tmp}/photo.png",), "is an image, and this model was trained on texts"),
        (("input={tmp}/a.csv",), "has no column 'text'; choose one with data.text=. There is: n, review."),
        (("input={tmp}/a.csv", "data.text=reviw"), "has no column 'reviw'"),
        (("input={tmp}/latin.txt",), "is not UTF-8 text (byte 0xe8 at offset 2); likely encodings: cp1252"),
        (("input={tmp}/blank.txt",), "blank.txt is empty"),
    ],
    ids=str,
)
def test_what_a_user_of_texts_can_mend_is_one_line(topics_run, tmp_path, call_script, arguments, said):
    (tmp_path / "a.csv").write_text("n,review\n1,fine\n2,dull\n")
    (tmp_path / "latin.txt").write_bytes("très bien".encode("latin-1"))
    (tmp_path / "blank.txt").write_text("\n \n")
    Image.new("L", (8, 8)).save(tmp_path / "photo.png")
    ran = call_script("predict", f"ckpt={topics_run}", *(argument.format(tmp=tmp_path) for argument in arguments))
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
    assert ran.err.splitlines()[-1].startswith("Error: ")


def test_a_text_is_no_input_of_a_model_of_images(digits_run, call_script):
    ran = call_script("predict", f"ckpt={digits_run}", "text=seven")
    assert (ran.status, ran.out) == (2, "")
    assert "text= is for models of texts, and this one knows images; use input=." in ran.err


@pytest.fixture(scope="session")
def series_run(tmp_path_factory):
    """A forecaster of two columns, 3 steps from the last 8, which lies beside its file."""
    folder = tmp_path_factory.mktemp("series")
    steps = [f"day {i},{50 + 10 * np.sin(i / 3):.3f},{i / 10:.3f}" for i in range(90)]
    (folder / "series.csv").write_text("\n".join(["date,load,heat", *steps]) + "\n")
    data = ("data=series_csv", f"data.path={folder / 'series.csv'}", "data.past=8", "data.horizon=3")
    short = ("trainer.max_epochs=2", "trainer.num_threads=1", "logger=none", "model.kernel_size=5")
    assert run(configure("model=dlinear", *data, *short, run_dir=folder / "run")) == 0
    return folder / "run"


def test_the_steps_after_the_last_of_a_series_are_told_in_their_own_units(series_run, tmp_path, call_script):
    lines = (series_run.parent / "series.csv").read_text().splitlines()
    recent = [",".join(reversed(line.split(","))) for line in [lines[0], *lines[60:]]]  # columns are found by name
    (tmp_path / "recent.csv").write_text("\n".join(recent))
    ran = call_script("predict", f"ckpt={series_run}", f"input={tmp_path / 'recent.csv'}", "format=json")
    answers = of_lines(ran.out)
    assert [answer["row"] for answer in answers] == [33, 34, 35], "the header is row 1, and 31 rows are below it"
    saved = read(series_run)["preprocessing"]
    mean, std = (torch.tensor(saved[key]) for key in ("mean", "std"))
    last = torch.tensor([[float(cell) for cell in line.split(",")[1:]] for line in lines[-8:]])
    with torch.no_grad():
        expected = load_model(series_run)(((last - mean) / std)[None])[0] * std + mean  # (H, C)
    told = torch.tensor([[answer["values"][name] for name in ("load", "heat")] for answer in answers])
    torch.testing.assert_close(told, expected, rtol=1e-4, atol=1e-4)
    assert "load, heat of the 3 steps after the last, from 8" in ran.err


@pytest.mark.parametrize(
    ("text", "more", "line"),
    [
        ("load,heat\n1,2\n", (), "has 1 steps, and this model forecasts from 8"),
        ("load,heet\n" + "1,2\n" * 9, (), "has no column 'heat'; did you mean 'heet'?"),
        ("load,heat\n" + "1,2\n" * 9 + "1,\n", (), "row 11, column 'heat': the value is missing"),
        ("load,heat\n" + "1,2\n" * 9, ("features=seen.npz",), "features= is for samples"),
    ],
)
def test_a_series_that_cannot_be_forecast_is_one_line(series_run, tmp_path, call_script, text, more, line):
    (tmp_path / "new.csv").write_text(text)
    ran = call_script("predict", f"ckpt={series_run}", f"input={tmp_path / 'new.csv'}", *more)
    assert ran.status == 2
    assert line in ran.err.splitlines()[-1]


def test_a_model_for_another_script_is_told_that_one(dates, call_script):
    ran = call_script("predict", f"ckpt={dates}", "text=1 May 1979")
    assert ran.status == 2
    assert "answers with neither labels nor values. It turns a text into another" in ran.err
    assert "python scripts/translate.py" in ran.err
