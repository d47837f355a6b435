"""What a user types reaches the configuration exactly, whatever characters a name has."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from zoo.config.commandline import LARGEST, prepare, script_arguments, whole_number
from zoo.config.settings import check_settings
from zoo.errors import UserError, suggest

NAMES = [
    "my houses (2).csv",
    "a,b.csv",
    "~/x.csv",
    "it's.csv",
    "größe.csv",
    "photo [1].png",
    'the "big" one.csv',
    'ends in a quote".csv"',
    "a=b.csv",
    "C:\\data\\new.csv",
    "ends in a backslash\\",
    'a backslash and a quote \\".csv',
    "$HOME.csv",
    "{braces}.csv",
    "{}",
    "[brackets].csv",
    "trailing space ",
    " leading space",
    "tab\there.csv",
    "100%.csv",
    "#1.csv",
    "a:b;c|d&e.csv",
    "!exclaimed?*.csv",
    "12",
    "true",
    "1e5",
    "表.csv",
    "'quoted",
]


def parse(arguments):
    """What Hydra makes of them: {key: value}."""
    overrides = OverridesParser.create().parse_overrides(list(arguments))
    return {override.get_key_element().lstrip("+"): override.value() for override in overrides}


@pytest.mark.parametrize("key", ["data.path", "data.target", "data.root", "run_dir", "pretrained", "resume"])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_comes_back_as_it_was_typed(key, name):
    assert parse(prepare([f"{key}={name}"])) == {key: name}


@pytest.mark.parametrize("name", ["a,b.csv", "my houses (2).csv"])
def test_a_name_with_a_comma_that_exists_is_no_sweep(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("")
    flag, argument = prepare(["-m", f"data.path={name}"])
    override = OverridesParser.create().parse_override(argument)
    assert (flag, override.is_sweep_override()) == ("-m", False)
    assert override.value() == name


def test_several_names_are_a_sweep():
    *_, argument = prepare(["data.path=one.csv,two.csv", "--multirun"])
    override = OverridesParser.create().parse_override(argument)
    assert list(override.sweep_string_iterator()) == ["one.csv", "two.csv"]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("optimizer.lr=0.1", 0.1),
        ("optimizer.lr=1e-3", 1e-3),
        ("model.hidden_features=[256,128]", [256, 128]),
        ("pretrained=null", None),
        ("data.target=[rain,wind]", ["rain", "wind"]),
        ("data.target=[größe (cm),01, it's]", ["größe (cm)", "01", "it's"]),
        ("data.target=['a,b',\"c\"]", ["a,b", "c"]),
        ("compile=true", True),
        ("data.path='my file.csv'", "my file.csv"),
        ('data.path="my file.csv"', "my file.csv"),
        ("optimizer.lr=", ""),
    ],
)
def test_other_values_keep_their_meaning(argument, value):
    (found,) = parse(prepare([argument])).values()
    assert found == value


def test_a_reference_stays_one():
    assert prepare(["data.path=${oc.env:HOME}/x.csv"]) == ["data.path=${oc.env:HOME}/x.csv"]


def test_a_network_of_the_users_own_gets_room_for_its_keys():
    typed = ["model._target_=mypkg.Net", "model.width=64", "optimizer.lr=0.1"]
    assert sorted(prepare(typed)) == sorted(
        ["model=custom", "model._target_=mypkg.Net", "++model.width=64", "optimizer.lr=0.1"]
    )


def test_a_network_of_the_users_own_beside_a_chosen_model_is_left_alone():
    typed = ["model=mlp", "model._target_=mypkg.Net", "model.dropout=0.1"]
    assert prepare(typed) == typed


def test_options_may_stand_anywhere():
    assert prepare(["seed=1,2", "-m", "model=mlp"]) == ["-m", "seed=1,2", "model=mlp"]
    assert prepare(["model=mlp", "--cfg", "job", "seed=1"]) == ["--cfg", "job", "model=mlp", "seed=1"]
    assert prepare(["~scheduler", "--help"]) == ["--help", "~scheduler"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [("hello", "'hello' is not understood"), ("--sead=1", "There is no option --sead"), ("data=null", "data=null")],
)
def test_what_hydra_would_meet_with_a_page_is_one_line(argument, message):
    with pytest.raises(UserError, match=message):
        prepare([argument])


def test_a_suggestion_overlooks_capitals():
    assert suggest("relu", ["ReLU", "Tanh"]) == "; did you mean 'ReLU'? There is: ReLU, Tanh."
    assert suggest("xyz", ["ReLU", "Tanh"]) == ". There is: ReLU, Tanh."
    assert suggest("xyz", []) == ". There is: nothing."


def test_a_suggestion_lists_what_lies_where_the_word_does():
    recipes = ["b", "a", "f/x", "f/y", "g/z"]
    assert suggest("q", recipes) == ". There is: f/, g/, a, b."
    assert suggest("f/q", recipes).endswith(" There is: f/x, f/y.")
    assert suggest("h/q", recipes).endswith(" There is: f/, g/, a, b.")


def test_a_long_list_is_cut():
    text = suggest("q", [f"option_{i:03}" for i in range(100)])
    assert len(text) < 450
    assert text.endswith("option_032 and 67 more.")


KNOWN = {"ckpt": "a run folder", "input": "a file", "k": "how many"}


def test_script_arguments_are_split_at_the_first_equals_sign():
    found = script_arguments(["ckpt=outputs/a=b (1)", "input=it's, [x].png"], KNOWN)
    assert found == {"ckpt": "outputs/a=b (1)", "input": "it's, [x].png"}
    assert script_arguments([], KNOWN) == {}
    assert script_arguments(["k="], KNOWN) == {"k": ""}


@pytest.mark.parametrize(
    ("text", "most", "told"),
    [("1", LARGEST, "from 2 on"), ("²", LARGEST, "from 2 on"), ("-3", LARGEST, "from 2 on"), ("", LARGEST, "from 2 on"),
     ("1e3", LARGEST, "from 2 on"), ("9223372036854775808", LARGEST, "from 2 to 9223372036854775807"),
     ("9" * 5000, LARGEST, "from 2 to 9223372036854775807"), ("11", 10, "from 2 to 10")],
)  # fmt: skip
def test_what_is_no_whole_number_within_the_limits_is_one_line(text, most, told):
    with pytest.raises(UserError, match=f"must be a whole number {told}") as caught:
        whole_number({"k": text}, "k", 2, most)
    assert str(caught.value).startswith(f"k={text} ")


def test_whole_numbers_within_the_limits_are_read():
    for text in ("2", "007", str(LARGEST), "٣"):  # other digits are digits, too
        assert whole_number({"k": text}, "k", 2) == int(text)
    assert whole_number({"k": "10"}, "k", 2, 10) == 10


def test_a_script_takes_one_positional_name():
    assert script_arguments(["runs/1", "k=3"], KNOWN, positional="ckpt") == {"ckpt": "runs/1", "k": "3"}
    with pytest.raises(UserError, match="'two' is not understood; write key=value"):
        script_arguments(["one", "two"], KNOWN, positional="ckpt")
    with pytest.raises(UserError, match="'one' is not understood"):
        script_arguments(["one"], KNOWN)


def test_a_script_suggests_the_key_that_was_meant():
    with pytest.raises(UserError, match="There is no key 'inptu'; did you mean 'input'"):
        script_arguments(["inptu=x"], KNOWN)


def test_a_script_explains_its_keys(capsys):
    with pytest.raises(SystemExit) as end:
        script_arguments(["--help"], KNOWN)
    assert end.value.code == 0
    assert "ckpt=" in capsys.readouterr().out


@pytest.mark.parametrize(
    "typed",
    [
        "trainer.max_epochs=-1",
        "data.batch_size=full",
        "optimizer.lr=1",
        "optimizer.fused=null",
        "trainer.precision=32",
        "trainer.num_threads=null",
        "model.hidden_features=[]",
        "model.normalization=LayerNorm",
        "callbacks.progress=null",
        "callbacks.early_stopping.patience=5",
        "trainer.limit_train_batches=0.5",
        "trainer.gradient_clip_val=1",
        "trainer=ddp trainer.devices=2",
        "experiment=lenet5_mnist",
        "experiment=pathology/overfitting_l1",
        "init=he_uniform init.mode=fan_avg init.slope=1",
        "regularizer.l1=1 regularizer=l2 regularizer.max_norm=3",
        "debug=overfit",
        "scheduler=none",
        "logger=none",
        "data=csv data.path=x.csv data.target=y data.ignore=[id]",
        "task=auto task.class_weights=[1,2]",
    ],
)
def test_good_values_are_let_through(typed, tmp_path):
    from zoo.run import configure

    check_settings(configure(*typed.split(), run_dir=tmp_path))


def test_nothing_here_imports_torch():
    code = "import sys, zoo.config.commandline, zoo.config.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent.parent).returncode == 0
