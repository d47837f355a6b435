"""What is named as wrong is wrong, the worst first, by the name that the sample has in its file or folder."""

import csv

import pytest
import torch
from PIL import Image

from zoo.checkpoint import load_model, read
from zoo.run import configure, run
from zoo.trained.evaluate import build_data, evaluate
from zoo.trained.mistakes import badness, confusion_lines, look

QUICK = ("trainer.max_epochs=2", "trainer.num_threads=1", "logger=none")


def test_counts_and_the_worst_answers_are_the_models_own(digits_run):
    found = look(str(digits_run), "test", worst=7)
    test = build_data(read(digits_run), {}).part("test")
    batch = test[torch.arange(len(test))]
    with torch.no_grad():
        probabilities = load_model(digits_run)(*batch.inputs).softmax(1)
    counts = torch.zeros(10, 10, dtype=torch.long)
    for true, told in zip(batch.label.tolist(), probabilities.argmax(1).tolist(), strict=True):
        counts[true, told] += 1
    assert torch.equal(found.confusion, counts)
    accuracy = evaluate(digits_run).metrics["test/accuracy"]
    assert counts.trace() / counts.sum() == pytest.approx(accuracy)
    right = probabilities[torch.arange(len(test)), batch.label]
    best_other = probabilities.clone()
    best_other[torch.arange(len(test)), batch.label] = 0
    order = (best_other.amax(1) - right).argsort(descending=True)[:7].tolist()
    assert [mistake.sample for mistake in found.worst] == [f"test {i}" for i in order]
    assert [mistake.true for mistake in found.worst] == [str(int(batch.label[i])) for i in order]


def test_what_is_wrong_is_above_zero_and_what_is_right_below():
    measures, targets = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]), torch.tensor([0, 1])
    torch.testing.assert_close(badness("multiclass", measures, targets), torch.tensor([-0.5, 0.5]))
    several = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    torch.testing.assert_close(badness("multilabel", measures, several), torch.tensor([0.6, 2.0]))


def test_a_row_with_a_wrong_price_is_found(csv_regression_run, tmp_path, call_script):
    with (csv_regression_run.parent / "houses.csv").open() as file:
        rows = list(csv.reader(file))
    rows[40][-1] = str(10 * float(rows[40][-1]))
    with (tmp_path / "houses.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    ran = call_script("evaluate", f"ckpt={csv_regression_run}", f"data.path={tmp_path / 'houses.csv'}", "worst=2")
    worst = ran.out.split("\n\n")[-1].splitlines()
    assert len(worst) == 2
    assert worst[0].startswith("row 41: price ")
    assert f"true {float(rows[40][-1]):.6g} (wrong by " in worst[0]
    ran = call_script("evaluate", f"ckpt={csv_regression_run}", "confusion=true")
    assert (ran.status, "confusion= is for classes" in ran.err) == (2, True)


@pytest.mark.parametrize("in_memory_mb", [1024, 0])
def test_a_picture_in_the_wrong_folder_is_named(in_memory_mb, tmp_path, call_script):
    for k, name in enumerate(("dark", "light")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(30):
            Image.new("L", (8, 8), 200 * k + i).save(tmp_path / "photos" / name / f"{i}.png")
    data = ("data=image_folder", f"data.root={tmp_path / 'photos'}", "data.image_size=8", "data.num_workers=0")
    settings = ("model=mlp", "optimizer.lr=0.01", f"data.in_memory_mb={in_memory_mb}", *QUICK)
    assert run(configure(*data, *settings, run_dir=tmp_path / "run")) == 0
    Image.new("L", (8, 8), 230).save(tmp_path / "photos" / "dark" / "stray.png")
    given = (f"ckpt={tmp_path / 'run'}", "part=all", "confusion=true", "worst=1")
    ran = call_script("evaluate", *given)
    assert ran.status == 0, ran.err
    assert ran.out.splitlines()[-1].startswith("dark/stray.png: light (")
    assert "(wrong by " in ran.out.splitlines()[-1]
    ran_more = call_script("evaluate", *given[:-1], "worst=2")
    assert "(right by " in ran_more.out.splitlines()[-1], "the second is not wrong, and not called so"
    assert "true, told  dark  light\ndark          30      1\nlight          0     30\n" in ran.out


def test_of_many_classes_the_frequent_confusions_are_listed():
    counts = torch.eye(30, dtype=torch.long) * 5
    counts[3, 7], counts[8, 1] = 4, 9
    names = [f"class {k}" for k in range(30)]
    assert confusion_lines(counts, names) == ["class 8 taken for class 1: 9", "class 3 taken for class 7: 4"]


def test_texts_and_several_labels_are_named_too(tmp_path, call_script):
    rows = [f"it was {('good', 'bad')[i % 2]},{i % 2}" for i in range(60)]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,stars", *rows]) + "\n")
    flags = [f"{i % 7}.5,{int(i % 7 > 3)},{i % 2}" for i in range(60)]
    (tmp_path / "flags.csv").write_text("\n".join(["speed,wind,odd", *flags]) + "\n")
    for name, settings, said in (
        ("reviews", ("model=textcnn", "data=text_csv", "data.text=text", "data.target=stars"), "row "),
        ("flags", ("model=mlp", "data=csv", "data.target=[wind,odd]"), "row "),
    ):
        given = (*settings, f"data.path={tmp_path / name}.csv", *QUICK)
        assert run(configure(*given, run_dir=tmp_path / name)) == 0
        ran = call_script("evaluate", f"ckpt={tmp_path / name}", "worst=1")
        assert ran.status == 0, ran.err
        assert ran.out.splitlines()[-1].startswith(said)
