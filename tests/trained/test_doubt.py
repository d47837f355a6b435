"""draws=: the mean over draws of dropout and what they differ by, against hand-made networks."""

import json

import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.layers.dropout import ClassicDropout
from zoo.trained.doubt import Doubt
from zoo.trained.predict import Answer, Predictor

BOTH = [nn.Dropout, ClassicDropout]


def predictor(dropout, p=0.25):
    """1000 units of weight 0.001 each answer one number: 1 on average, and 1 where dropout is off."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 1000), dropout(p), nn.Linear(1000, 1)).eval()
    for layer, weight in ((model[0], 1.0), (model[2], 0.001)):
        nn.init.constant_(layer.weight, weight)
        nn.init.zeros_(layer.bias)
    return Predictor(model, "regression", "value", ["y"], {"kind": "table"}, {})


@pytest.mark.parametrize(("dropout", "expected"), [(nn.Dropout, 1.0), (ClassicDropout, 0.75)])
def test_the_mean_is_the_answer_without_dropout_and_the_spread_that_of_so_many_units(dropout, expected):
    """Inverted: each unit is 4/3 with probability 0.75, so that the sum has a variance of 0.001 * 0.25 / 0.75."""
    given, x = predictor(dropout), torch.ones(2, 1)
    plain = given.measures(x)
    torch.testing.assert_close(plain, torch.full((2, 1), expected))
    first, second = Doubt(given, draws=400)([Answer("a", 1, [("y", 0.0)]), Answer("a", 2, [("y", 0.0)])], x)
    spread = expected * (0.001 * 0.25 / 0.75) ** 0.5  # 0.018 and 0.014
    for answer in (first, second):
        assert answer.ranked[0][1] == pytest.approx(expected, abs=4 * spread / 400**0.5)
        assert answer.explanation["spread"]["y"] == pytest.approx(spread, rel=0.15)
    assert first.ranked != second.ranked, "each row has draws of its own"
    assert torch.equal(given.measures(x), plain), "and dropout is off again"


def test_the_same_draws_are_made_again_and_nobody_elses_random_numbers_are_touched():
    given, x = predictor(nn.Dropout), torch.ones(1, 1)
    torch.manual_seed(3)
    doubt, answers = Doubt(given, draws=5), [Answer("a", 1, [])]
    found = [doubt(answers, x)[0].ranked for _ in range(2)]
    assert found[0] == found[1]
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))


@pytest.mark.parametrize("p", [0.0, None])
def test_a_network_that_drops_nothing_is_told(p):
    given = predictor(nn.Dropout, p or 0.0)
    if p is None:
        given.model[1] = nn.Identity()
    with pytest.raises(UserError, match=r"draws= leaves dropout on, and this network has none; .* model.dropout=0.2"):
        Doubt(given)


@pytest.fixture(scope="module")
def dropping(tmp_path_factory):
    """The folder of a network with dropout, and a file of rows to ask it about."""
    from sklearn.datasets import load_iris

    from zoo.run import configure, run

    folder = tmp_path_factory.mktemp("dropping")
    iris = load_iris()
    lines = [",".join([*map(str, x), str(iris.target_names[y])]) for x, y in zip(iris.data, iris.target, strict=True)]
    header = ",".join([*(name.replace(" (cm)", "") for name in iris.feature_names), "kind"])
    (folder / "iris.csv").write_text("\n".join([header, *lines]) + "\n")
    typed = ("data=csv", f"data.path={folder / 'iris.csv'}", "data.target=kind", "model.dropout=0.2", "logger=none")
    run(configure(*typed, "trainer.max_epochs=30", "optimizer.lr=0.01", run_dir=folder / "run"))
    return folder


def test_a_script_says_how_sure_it_is_and_is_less_so_between_two_kinds(dropping, tmp_path, call_script):
    header = (dropping / "iris.csv").read_text().splitlines()[0].rpartition(",")[0]
    # A typical setosa, and one half way between versicolor and virginica.
    (tmp_path / "two.csv").write_text(f"{header}\n5.0,3.4,1.5,0.2\n6.2,2.8,4.9,1.65\n")
    asked = [f"ckpt={dropping / 'run'}", f"input={tmp_path / 'two.csv'}", "draws=50"]
    ran = call_script("predict", *asked)
    assert ran.status == 0, ran.err
    assert ran.out.count("over 50 draws of dropout") == 2
    sure, torn = (json.loads(line) for line in call_script("predict", *asked, "format=json").out.splitlines())
    assert sure["label"] == "setosa"
    assert torn["explanation"]["spread"][torn["label"]] > 3 * sure["explanation"]["spread"]["setosa"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["draws=1"], "draws=1 must be a whole number from 2 on"),
        (["draws=many"], "draws=many must be"),
        (["draws=5", "explain=true"], "explain= and draws= are both given"),
        (["draws=5", "features=x.npz"], "features= and draws= are both given"),
    ],
)
def test_what_a_user_can_mend_is_one_line(typed, said, dropping, call_script):
    ran = call_script("predict", f"ckpt={dropping / 'run'}", f"input={dropping / 'iris.csv'}", *typed)
    assert ran.status == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1
