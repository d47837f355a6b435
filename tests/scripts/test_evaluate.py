"""scripts/evaluate.py: the same numbers again, other data with the eyes of the trained model, nothing hostile built."""

import json
import random
import sys
from typing import ClassVar

import pytest
import torch
from PIL import Image

from zoo.checkpoint import read
from zoo.data.pairs import Found, Pairs
from zoo.run import configure, run
from zoo.trained.evaluate import Judged, evaluate


def of_run(folder, part):
    metrics = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if name.startswith(f"{part}/")}


@pytest.mark.parametrize("name", ["digits_run", "csv_classification_run", "csv_regression_run"])
@pytest.mark.parametrize("part", ["val", "test"])
def test_the_numbers_are_those_of_the_run_to_the_bit(name, part, request):
    folder = request.getfixturevalue(name)
    result = evaluate(folder, part)
    assert result.metrics == of_run(folder, part)
    assert not any(note.startswith("Note") for note in result.notes)


@pytest.mark.parametrize(
    "overrides",
    [
        ("data=xor", "task=binary"),
        ("model=perceptron",),
        ("data=iris", "task.class_weights=balanced", "scheduler=cosine"),
        ("data=xor", "callbacks.ema.decay=0.9"),
    ],
    ids=" ".join,
)
def test_every_kind_of_run_gives_its_numbers_again(tmp_path, overrides):
    short = ("trainer.max_epochs=2", "trainer.num_threads=1", "logger=none")
    assert run(configure(*overrides, *short, run_dir=tmp_path / "run")) == 0
    assert evaluate(tmp_path / "run").metrics == of_run(tmp_path / "run", "test")


class Lengths(Pairs):
    """Targets of one letter, as many as no other pair has."""

    sizes: ClassVar = {"train": range(1, 6), "val": range(6, 10), "test": range(10, 13)}

    def read(self):
        return Found({part: [("b", "a" * length) for length in lengths] for part, lengths in self.sizes.items()})


def lengths_by_number(judged):
    """The length of each target that is read, by the number of its reference."""
    loader, found = judged.test_dataloader(), {}
    for batch in loader:
        found |= zip(batch.index.tolist(), (batch.tgt_mask.sum(1) - 1).tolist(), strict=True)
    assert len(loader) == len(list(loader))
    return found


@pytest.mark.parametrize("names", [("val",), ("train", "val", "test")])
def test_pairs_of_several_parts_have_their_own_references(names):
    """They go on counting from part to part, whose last batch may be a smaller one."""
    judged = Judged(Lengths(tokenizer="char", eval_batch_size=2), names)
    references = judged.references("test")
    assert [len(text) for text in references] == [length for name in names for length in Lengths.sizes[name]]
    assert lengths_by_number(judged) == dict(enumerate(map(len, references)))


def test_pairs_of_a_share_of_training_have_their_own_references_too():
    judged = Judged(Lengths(tokenizer="char", eval_batch_size=2, fraction=0.4), ("train", "val", "test"))
    found, references = lengths_by_number(judged), judged.references("test")
    assert len(found) == 2 + 4 + 3
    assert found == {number: len(references[number]) for number in found}


@pytest.mark.docs
def test_as_a_new_user_types_it(digits_run, type_script, tmp_path):
    ran = type_script("evaluate", f"ckpt={digits_run}", "out=metrics.json", cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert json.loads((tmp_path / "metrics.json").read_text()) == of_run(digits_run, "test")
    assert "test part: 269 samples" in ran.out
    assert f"{of_run(digits_run, 'test')['test/accuracy']:.4f}" in ran.out
    assert ran.err == ""


def test_the_title_says_after_which_epoch(digits_run):
    assert "last.ckpt (after epoch 3), test part" in evaluate(digits_run / "checkpoints" / "last.ckpt").title


def test_another_file_is_given_by_its_name_alone(csv_classification_run, csv_regression_run, digits_run, call_script):
    for folder in (csv_classification_run, csv_regression_run):
        path = read(folder)["config"]["data"]["path"]
        long, short = (call_script("evaluate", f"ckpt={folder}", f"{key}={path}") for key in ("data.path", "data"))
        assert (short.status, short.out) == (0, long.out)
    ran = call_script("evaluate", f"ckpt={digits_run}", "data=other")
    assert (ran.status, "data= names a file or a folder, and this model's data is neither" in ran.err) == (2, True)


def test_another_series_is_judged_whole(tmp_path):
    """Windows that reach over the border of what would be two parts of the run's own series count, too."""
    rows = [f"{i % 7},{i % 5}" for i in range(120)]
    (tmp_path / "first.csv").write_text("\n".join(["a,b", *rows]))
    (tmp_path / "other.csv").write_text("\n".join(["a,b", *rows[:40]]))
    sizes = ("data.past=10", "data.horizon=4", "model.kernel_size=3", "trainer.max_epochs=1", "logger=none")
    path = f"data.path={tmp_path / 'first.csv'}"
    assert run(configure("model=dlinear", "data=series_csv", path, *sizes, run_dir=tmp_path / "run")) == 0
    result = evaluate(tmp_path / "run", settings={"path": str(tmp_path / "other.csv")})
    assert result.title.endswith(f"all data: {40 - 10 - 4 + 1} samples")
    assert [note for note in result.notes if note.startswith("Note")] == [result.notes[0]]


def test_what_has_no_single_answers_is_refused_before_all_the_work(dates, call_script):
    ran = call_script("evaluate", f"ckpt={dates}", "worst=2")
    assert (ran.status, ran.out, "answers with neither labels nor values" in ran.err) == (2, "", True)


def test_a_checkpoint_file_will_do(digits_run, call_script):
    ran = call_script("evaluate", f"ckpt={digits_run / 'checkpoints' / 'last.ckpt'}", "part=val")
    assert ran.status == 0
    assert "val part: 270 samples" in ran.out


def test_the_training_part_is_judged_too(digits_run):
    metrics = evaluate(digits_run, "train").metrics
    assert set(metrics) == {"train/loss", "train/accuracy", "train/f1", "train/accuracy_top5"}


def test_another_file_is_taken_whole_and_prepared_as_in_training(csv_regression_run, tmp_path):
    lines = (csv_regression_run.parent / "houses.csv").read_text().splitlines()
    some = lines[1:8]
    path = tmp_path / "other.csv"
    path.write_text("\n".join([lines[0], *some]) + "\n")
    result = evaluate(csv_regression_run, settings={"path": str(path)})
    assert "all data: 7 samples" in result.title
    assert "is not what this model was trained on" in result.notes[0]

    from zoo.trained.predict import load

    values = [answer.ranked[0][1] for answer in load(csv_regression_run).answers(path)]
    true = [float(line.split(",")[-1]) for line in some]
    by_hand = sum(abs(value - y) for value, y in zip(values, true, strict=True)) / len(true)
    assert result.metrics["all/mae"] == pytest.approx(by_hand, rel=1e-4)


def test_what_a_run_left_out_of_its_own_data_it_does_not_of_another_file(tmp_path):
    """A tenth of the rows, and two batches of 512 in the test."""
    rows = [f"{x},{'up' if x > 0 else 'down'}" for x in range(-800, 800)]
    (tmp_path / "one.csv").write_text("\n".join(["x,way", *rows]))
    (tmp_path / "other.csv").write_text("\n".join(["x,way", *rows, *["5,down"] * 400]))  # wrong, and at the end
    arguments = ("model=mlp", "data=csv", f"data.path={tmp_path / 'one.csv'}", "data.target=way", "data.fraction=0.9")
    limits = ("trainer.limit_test_batches=1", "data.eval_batch_size=100", "optimizer.lr=0.05")
    assert run(configure(*arguments, *limits, "trainer.max_epochs=9", "logger=none", run_dir=tmp_path / "run")) == 0
    own = evaluate(tmp_path / "run")
    assert "as in the run, trainer.limit_test_batches=1: not all of these samples are judged" in own.notes[0]
    assert own.metrics == of_run(tmp_path / "run", "test")
    other = evaluate(tmp_path / "run", settings={"data": str(tmp_path / "other.csv")})
    assert other.title.endswith("all data: 2000 samples")
    assert other.metrics["all/accuracy"] == pytest.approx(0.8, abs=0.02)
    assert not any("limit_test_batches" in note for note in other.notes)


def test_changed_data_is_a_note_and_a_new_class_an_error(csv_classification_run, tmp_path, call_script):
    text = (csv_classification_run.parent / "fruit.csv").read_text()
    changed, strange = tmp_path / "changed.csv", tmp_path / "strange.csv"
    changed.write_text(text.replace("red", "blue"))
    strange.write_text(text + "3,red,fig\n")
    ran = call_script("evaluate", f"ckpt={csv_classification_run}", f"data.path={changed}", "part=test")
    assert ran.status == 0
    assert ran.out.count("Note: the data is not what this model was trained on") == 1
    ran = call_script("evaluate", f"ckpt={csv_classification_run}", f"data.path={strange}")
    assert ran.status == 2
    assert "no class 'fig'" in ran.err


def test_as_many_other_classes_are_refused(tmp_path, call_script):
    run(configure("model=mlp", "data.classes=[0,1,2]", "debug=fast", run_dir=tmp_path / "run"))
    ran = call_script("evaluate", f"ckpt={tmp_path / 'run'}", "data.classes=[3,4,5]")
    said = "Error: The data has 3, 4, 5, and the model answers with 0, 1, 2; fine-tune it on this data first"
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.splitlines()[-1].startswith(said)


def test_another_split_is_said(digits_run):
    assert "data.seed cuts other parts" in evaluate(digits_run, settings={"seed": 1}).notes[0]


def test_other_folders_keep_the_classes_of_the_run(tmp_path):
    generator = random.Random(0)
    for root, names in (("a", ["cat", "dog", "owl"]), ("b", ["dog", "owl"]), ("c", ["dog", "yak"])):
        for name in names:
            (tmp_path / root / name).mkdir(parents=True)
            for i in range(10):
                shade = {"cat": 20, "dog": 120, "owl": 220, "yak": 0}[name] + generator.randint(-10, 10)
                Image.new("L", (8, 8), max(0, shade)).save(tmp_path / root / name / f"{i}.png")
    arguments = (
        "model=mlp",
        "data=image_folder",
        f"data.root={tmp_path / 'a'}",
        "data.image_size=8",
        "optimizer.lr=0.01",
        "logger=none",
    )
    assert run(configure(*arguments, "trainer.max_epochs=20", "data.batch_size=4", run_dir=tmp_path / "run")) == 0
    assert evaluate(tmp_path / "run").metrics == of_run(tmp_path / "run", "test")
    assert evaluate(tmp_path / "run", settings={"root": str(tmp_path / "b")}).metrics["all/accuracy"] == 1.0
    with pytest.raises(Exception, match="not trained on the class folders yak"):
        evaluate(tmp_path / "run", settings={"root": str(tmp_path / "c")})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Which checkpoint?"),
        (("ckpt={run}", "part=tset"), "did you mean 'test'?"),
        (("ckpt={run}", "data.sede=1"), "did you mean 'seed'?"),
        (("ckpt={run}", "prat=test"), "did you mean 'part'?"),
        (("ckpt={run}", "data.image_size=16"), "leave data.image_size as it was"),
        (("ckpt={run}", "out=/no/such/folder/m.json"), "/no/such/folder/m.json"),
        (("ckpt={run}", "out=metrics.csv"), "out=metrics.csv must be the name of a .json file"),
        (("ckpt=nowhere",), "There is no checkpoint nowhere"),
    ],
    ids=str,
)
def test_what_a_user_can_mend_is_one_line(digits_run, call_script, arguments, said):
    ran = call_script("evaluate", *(argument.format(run=digits_run) for argument in arguments))
    assert ran.status == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1


HOSTILE = [
    "os.system",
    "torch.load",
    "pathlib.Path.write_text",
    "builtins.exec",
    "zoo.config.commandline.os.system",  # begins with zoo., too
    "zoo.checkpoint.torch.load",
    "zoo.running.report.Path.write_text",
    "zoo.running.report.write_json",
    "zoo.launch.launch",
]


@pytest.mark.parametrize("target", HOSTILE)
@pytest.mark.parametrize("group", ["model", "data", "task", "optimizer"])
def test_a_hostile_configuration_is_refused_at_any_depth(digits_run, call_script, tmp_path, group, target):
    checkpoint = read(digits_run)
    proof = tmp_path / "proof"
    call = {"_target_": target, "_args_": [f"touch {proof}"]}
    checkpoint["config"][group]["extra"] = {"deep": [[{"deeper": call}]]}
    torch.save(checkpoint, tmp_path / "hostile.ckpt")
    ran = call_script("evaluate", f"ckpt={tmp_path / 'hostile.ckpt'}")
    assert ran.status == 2
    assert f"would call '{target}'" in ran.err
    assert f"{group}.extra.deep[0][0].deeper" in ran.err
    assert not proof.exists()


@pytest.mark.parametrize("group", ["model", "data", "task"])
def test_a_hostile_group_itself_is_refused(digits_run, call_script, tmp_path, group):
    checkpoint = read(digits_run)
    checkpoint["config"][group] = {
        "_target_": "zoo.config.commandline.os.system",
        "command": f"touch {tmp_path / 'proof'}",
    }
    torch.save(checkpoint, tmp_path / "hostile.ckpt")
    ran = call_script("evaluate", f"ckpt={tmp_path / 'hostile.ckpt'}")
    assert ran.status == 2
    assert "refused" in ran.err
    assert not (tmp_path / "proof").exists()


def test_a_network_of_the_users_own_needs_to_be_allowed(tmp_path, call_script, monkeypatch):
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self, num_features, num_classes):\n"
        "        super().__init__()\n        self.layer = nn.Linear(num_features, num_classes)\n\n"
        "    def forward(self, x):\n        return self.layer(x.flatten(1))\n"
    )
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        arguments = ("++model._target_=mynet.Net", "model=custom", "data=iris", "trainer.max_epochs=1")
        assert run(configure(*arguments, "logger=none", run_dir=tmp_path / "run")) == 0
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mynet")  # as in a new process, which finds it in the folder it stands in
    ran = call_script("evaluate", "ckpt=run")
    assert ran.status == 2
    assert "allow=mynet." in ran.err
    assert "mynet" not in sys.modules
    ran = call_script("evaluate", "ckpt=run", "allow=mynet.")
    assert ran.status == 0, ran.err
    assert "mynet" in sys.modules
