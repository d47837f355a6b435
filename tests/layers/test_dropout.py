"""Classic dropout passes on in use what it passes on in training on average, as inverted dropout does."""

from functools import partial

import pytest
import torch
from torch import nn

from zoo.build import build
from zoo.checkpoint import load_model
from zoo.errors import UserError
from zoo.layers.dropout import ClassicDropout, use_dropout
from zoo.run import configure, run
from zoo.scratch import layers as written

RATES = [0.2, 0.25]
KINDS = [nn.Dropout, ClassicDropout]
NUMBER = 200_000


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_passed_on_in_training_is_on_average_what_is_passed_on_in_use(kind, p):
    torch.manual_seed(0)
    layer, x = kind(p), torch.linspace(-1, 3, 5)
    training = layer.train()(x.expand(NUMBER, 5)).mean(0)
    spread = (p / (1 - p)) ** 0.5 * 3 / NUMBER**0.5  # of the mean of the largest value, at most
    torch.testing.assert_close(training, layer.eval()(x), rtol=0, atol=4 * spread)


@pytest.mark.parametrize("p", RATES)
def test_the_two_kinds_differ_by_the_keep_probability(p):
    x = torch.randn(1000)
    inverted, classic = nn.Dropout(p), ClassicDropout(p)
    torch.testing.assert_close(classic.eval()(x), (1 - p) * inverted.eval()(x))
    kept = classic.train()(x)
    assert set((kept / x).unique().tolist()) == {0.0, 1.0}  # dropped, or as it is
    torch.manual_seed(0)
    scaled = inverted.train()(torch.ones(1000)).unique()
    torch.testing.assert_close(scaled, torch.tensor([0.0, 1 / (1 - p)]))


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_share_that_is_dropped_is_the_rate(kind, p):
    torch.manual_seed(0)
    dropped = (kind(p).train()(torch.ones(NUMBER)) == 0).float().mean().item()
    assert dropped == pytest.approx(p, abs=4 * (p * (1 - p) / NUMBER) ** 0.5)


@pytest.mark.parametrize(
    ("optimizer", "moved"),
    [
        (partial(torch.optim.SGD, lr=0.1), 0.0),
        (partial(torch.optim.SGD, lr=0.1, momentum=0.9), 0.9),  # of the step before
        (partial(torch.optim.SGD, lr=0.1, weight_decay=0.5), None),
        (partial(torch.optim.Adam, lr=0.1), None),
    ],
)
def test_a_dropped_units_weights_stay_with_plain_descent_alone(optimizer, moved):
    """Two units; in the first step both are kept, in the second the last one is dropped."""
    weight = nn.Parameter(torch.ones(2, 3, dtype=torch.float64))  # (units, F)
    made, positions = optimizer([weight]), [weight.detach().clone()]
    for kept in ([1.0, 1.0], [1.0, 0.0]):
        made.zero_grad()
        (torch.tensor(kept) * (weight @ torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))).sum().backward()
        made.step()
        positions.append(weight.detach().clone())
    assert not weight.grad[1].any()
    first, second = (positions[i + 1][1] - positions[i][1] for i in range(2))
    if moved is None:
        assert (second.abs() > 0.01).all()
    else:
        torch.testing.assert_close(second, moved * first)


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_it_is_its_written_out_twin(p):
    ours, twin, x = ClassicDropout(p), written.ClassicDropout(p), torch.randn(50)
    for mode in (True, False):
        found = []
        for layer in (ours, twin):
            torch.manual_seed(1)
            found.append(layer.train(mode)(x))
        assert torch.equal(*found)


def test_every_dropout_of_a_model_that_drops_is_turned_and_no_other():
    model = nn.Sequential(nn.Dropout(0.2), nn.Dropout(0.0), nn.Sequential(nn.Dropout(0.5)), nn.Dropout2d(0.5))
    assert use_dropout(model, "classic") == ["0", "2.0"]
    assert [type(m).__name__ for m in (model[0], model[1], model[2][0], model[3])] == [
        "ClassicDropout", "Dropout", "ClassicDropout", "Dropout2d",
    ]  # fmt: skip
    assert model[2][0].p == 0.5


def test_what_cannot_be_turned_is_told():
    with pytest.raises(UserError, match=r"model drops none; .* model.dropout=0.25"):
        use_dropout(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0)), "classic")
    with pytest.raises(UserError, match="did you mean 'classic'"):
        use_dropout(nn.Dropout(), "clasic")


@pytest.mark.parametrize(("kind", "p"), [("inverted", 0.2), ("classic", 0.2), ("classic", 0.25)])
def test_both_kinds_train_and_what_is_loaded_is_used_as_it_was_trained(kind, p, tmp_path):
    overrides = [f"regularizer.dropout={kind}", f"model.dropout={p}", "trainer.max_epochs=6", "optimizer.lr=3e-3"]
    folder = tmp_path / "run"
    assert run(configure(*overrides, "logger=none", "callbacks.progress=null", run_dir=folder)) == 0
    model = load_model(folder)
    assert type(model.hidden[0].dropout) is (ClassicDropout if kind == "classic" else nn.Dropout)
    part = build(configure("logger=none", run_dir=tmp_path / "other")).data.part("test")
    batch = part[torch.arange(len(part))]
    with torch.no_grad():
        accuracy = (model(*batch.inputs).argmax(1) == batch.targets).float().mean().item()
    assert accuracy > 0.93  # 0.9665 of 269
