"""scripts/find_lr.py: it prints a rate and the command to train with it, and writes only what it is asked to write."""

import csv
import re
import shlex

import pytest
from PIL import Image

QUICK = ("model=mlp", "data=digits", "optimizer=sgd", "trainer.num_threads=1", "iterations=100")


@pytest.mark.docs
def test_as_a_new_user_types_it(type_script, tmp_path):
    ran = type_script("find_lr", "model=mlp", "data=digits", "optimizer=sgd", cwd=tmp_path)
    assert (ran.status, ran.err) == (0, "")
    assert list(tmp_path.iterdir()) == []
    rate = float(re.search(r"steepest fall \(suggested\) +(\S+)", ran.out)[1])
    assert 1e-3 < rate < 1
    assert ran.out.splitlines()[-1] == f"python train.py model=mlp data=digits optimizer=sgd optimizer.lr={rate:g}"


def test_the_command_that_is_printed_trains(call_script, tmp_path, monkeypatch):
    from zoo.run import configure, run

    monkeypatch.chdir(tmp_path)
    ran = call_script("find_lr", *QUICK, "optimizer.lr=0.5", "model.hidden_features=[32,32]")
    python, train, *arguments = shlex.split(ran.out.splitlines()[-1])
    assert (python, train) == ("python", "train.py")
    assert sum(a.startswith("optimizer.lr=") for a in arguments) == 1
    assert not [a for a in arguments if a.startswith("iterations")]
    assert run(configure(*arguments, "trainer.max_epochs=1", "logger=none", run_dir=tmp_path / "run")) == 0


def test_picture_and_file_are_written_where_they_are_asked_for(call_script, tmp_path):
    ran = call_script("find_lr", *QUICK, f"out={tmp_path / 'lr.png'}", f"csv={tmp_path / 'lr.csv'}")
    assert ran.status == 0, ran.err
    assert {path.name for path in tmp_path.iterdir()} == {"lr.png", "lr.csv"}
    with Image.open(tmp_path / "lr.png") as picture:
        assert min(picture.size) > 300
    with (tmp_path / "lr.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["rate", "loss", "smoothed"]
    first, last = ran.out.splitlines()[1].split(), rows[0]
    assert [float(x) for x in first] == pytest.approx([float(x) for x in last], rel=1e-2)
    assert len(rows) == int(re.search(r"^(\d+) rates from", ran.out, re.MULTILINE)[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("optimiser=sgd",), "did you mean 'optimizer'?"),
        (("iteration=100",), "did you mean 'iterations'?"),
        (("optimizer.lrr=1",), "did you mean 'lr'?"),
        (("model=mpl",), "did you mean 'mlp'?"),
        (("-m", "seed=0,1"), "There is no option -m"),
        (("iterations=2.5",), "must be a whole number"),
        (("iterations=99",), "at least 100"),
        (("lowest=abc",), "lowest=abc must be a number"),
        (("highest=inf",), "highest=inf must be a number"),
        (("lowest=1", "highest=1"), "below highest=1"),
        (("out=lr.txt",), "must end in .png, .svg or .pdf"),
        (("out={tmp}/no/lr.png",), "a file in a folder that is there"),
        (("csv={tmp}",), "a file in a folder that is there"),
        (("optimizer=lbfgs",), "L-BFGS searches along a line"),
        (("model=perceptron",), "changes no decision"),
        (("task.loss=mse",), "is not a loss of this task"),
        (("lowest=1e-9", "highest=1e-8", "iterations=100"), "try iterations=200"),
    ],
    ids=str,
)
def test_what_a_user_can_mend_is_one_line_and_status_2(arguments, said, call_script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = call_script("find_lr", *(argument.format(tmp=tmp_path) for argument in arguments))
    assert ran.status == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("Error: ")
    assert list(tmp_path.iterdir()) == []


def test_rules_that_differ_much_are_said_to(call_script):
    close = call_script("find_lr", *QUICK)
    apart = call_script("find_lr", "model=mlp", "data=iris", "trainer.num_threads=1")
    for ran in (close, apart):
        first, second = (float(line.split()[-1]) for line in ran.out.splitlines() if re.match("steepest|a tenth", line))
        assert ("over a wide range" in ran.out) == (max(first, second) > 5 * min(first, second))
    assert "over a wide range" in apart.out
    assert "over a wide range" not in close.out


def test_help_shows_all_keys(call_script):
    with pytest.raises(SystemExit) as ended:
        call_script("find_lr", "--help")
    assert ended.value.code == 0
