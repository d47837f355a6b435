import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from zoo.batches import SequenceBatch, SeriesBatch
from zoo.build import build
from zoo.checkpoint import load_model
from zoo.data.memory import CopyMemory
from zoo.data.music import Jsb
from zoo.errors import UserError
from zoo.models.gru import GRU
from zoo.run import configure, run
from zoo.tasks.sequence_prediction import SequencePrediction

SGD = partial(torch.optim.SGD, lr=0.1)
K = 5
LENGTHS = [4, 9, 1, 6, 2, 7]


def pieces() -> list[Tensor]:
    """(T, K) rolls of 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(2, (length + 1, K), generator=generator).double() for length in LENGTHS]


def batch_of(rolls: list[Tensor], *, extra: int = 0, classes: bool = False) -> SequenceBatch:
    """Padded to the longest and `extra` steps more; what is padded is no zero."""
    num_steps = max(map(len, rolls)) - 1 + extra
    x, target = torch.full((2, len(rolls), num_steps, K), 0.5, dtype=torch.float64)
    mask = torch.zeros(len(rolls), num_steps, dtype=torch.bool)
    for i, roll in enumerate(rolls):
        length = len(roll) - 1
        x[i, :length], target[i, :length], mask[i, :length] = roll[:-1], roll[1:], True
    return SequenceBatch(x, mask, target.argmax(2) if classes else target)


def network() -> GRU:
    torch.manual_seed(0)
    return GRU(num_outputs=K, head="next_step", input_size=K, hidden_size=8).double().eval()


def logged(task, batches: list[SequenceBatch], monkeypatch) -> dict[str, float]:
    """What a validation over these batches logs."""
    found: dict[str, float] = {}
    monkeypatch.setattr(task, "log_dict", lambda values, **options: found.update(values))
    task.start("val")
    for batch in batches:
        task.evaluate("val", batch)
    task.finish("val")
    return {name.removeprefix("val/"): float(value) for name, value in found.items()}


def test_the_likelihood_is_that_of_all_steps_of_all_pieces_one_by_one(monkeypatch):
    model, total, count = network(), 0.0, 0
    for roll in pieces():  # as Bai et al. evaluate: piece by piece, summed over keys, divided by all steps
        with torch.no_grad():
            probabilities = model(roll[:-1].unsqueeze(0))[0].squeeze(0).sigmoid()
        for step, true in zip(probabilities.tolist(), roll[1:].tolist(), strict=True):
            total -= sum(math.log(p if y else 1 - p) for p, y in zip(step, true, strict=True))
            count += 1
    for sizes in ([6], [1, 5], [2, 2, 2]):
        cut = [pieces()[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
        found = logged(SequencePrediction(model, SGD), [batch_of(rolls) for rolls in cut], monkeypatch)
        assert found == {"loss": pytest.approx(total / count, rel=1e-10)}


@pytest.mark.parametrize("classes", [False, True])
def test_padding_changes_neither_losses_nor_gradients(classes):
    found, gradients = [], []
    for extra in (0, 5):
        task = SequencePrediction(network(), SGD, loss="cross_entropy" if classes else "binary_cross_entropy")
        batch = batch_of(pieces(), extra=extra, classes=classes)
        assert task.count_items(batch) == sum(LENGTHS)
        losses = task.losses(batch)
        losses["loss"].backward()
        found.append({name: value.item() for name, value in losses.items()})
        gradients.append(torch.cat([p.grad.flatten() for p in task.model.parameters()]))
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_accuracy_is_the_share_of_real_steps_that_are_right(monkeypatch):
    task = SequencePrediction(network(), SGD, loss="cross_entropy")
    right = 0
    for roll in pieces():
        with torch.no_grad():
            said = task.model(roll[:-1].unsqueeze(0))[0].squeeze(0).argmax(1)
        right += int((said == roll[1:].argmax(1)).sum())
    batches = [batch_of(pieces()[:1], classes=True), batch_of(pieces()[1:], extra=2, classes=True)]
    found = logged(task, batches, monkeypatch)
    assert 0 < right < sum(LENGTHS)
    assert found["accuracy"] == pytest.approx(right / sum(LENGTHS))


@pytest.mark.parametrize("classes", [False, True])
def test_pictures_show_the_real_steps_of_the_first_sequence(classes):
    task = SequencePrediction(network(), SGD, loss="cross_entropy" if classes else "binary_cross_entropy")
    batch = batch_of(pieces(), classes=classes)
    figure = task.show(batch)["answers_by_step"]
    assert figure.axes[0].get_ylabel() == "output"
    task._trainer = SimpleNamespace(datamodule=CopyMemory() if classes else Jsb(data_dir="nowhere"))
    named = task.show(batch)["answers_by_step"]
    assert named.axes[0].get_ylabel() == ("symbol" if classes else "key")
    true, probability = (axis.images[0].get_array() for axis in figure.axes[:2])
    assert true.shape == probability.shape == (K, LENGTHS[0])
    expected = nn.functional.one_hot(batch.target[0, :4], K) if classes else batch.target[0, :4]
    assert true.T.tolist() == expected.tolist()
    assert 0 < probability.min() <= probability.max() < 1


class Nothing(nn.Module):
    def forward(self, *inputs: Tensor) -> tuple[Tensor, None]:
        raise AssertionError("what does not fit is said before anything is computed")


@pytest.mark.parametrize(("loss", "batch", "message"), [
    ("cross_entropy", batch_of(pieces()), "use task.loss=binary_cross_entropy"),
    ("binary_cross_entropy", batch_of(pieces(), classes=True), "use task.loss=cross_entropy"),
    ("cross_entropy", batch_of(pieces())._replace(target=torch.zeros(6, 1)), "needs a target at each step"),
    ("cross_entropy", SeriesBatch(torch.zeros(2, 3, 1), torch.zeros(2, 3, 1)), "needs a target at each step"),
])  # fmt: skip
def test_targets_that_do_not_fit_are_refused_in_one_line(loss, batch, message):
    with pytest.raises(UserError, match=message) as caught:
        SequencePrediction(Nothing(), SGD, loss=loss).losses(batch)
    assert "\n" not in str(caught.value)


def test_an_unknown_loss_is_refused_with_those_there_are():
    with pytest.raises(UserError, match="did you mean 'cross_entropy'"):
        SequencePrediction(Nothing(), SGD, loss="crossentropy")


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "cross_entropy"])
def test_output_biases_begin_where_answers_that_know_no_more_are_best(loss):
    rolls = [roll.float() for roll in pieces()]
    rolls[0][:, 1] = 0
    batch = batch_of(rolls, extra=2, classes=loss == "cross_entropy")
    network = GRU(num_outputs=K, head="next_step", input_size=K, hidden_size=8)
    task = SequencePrediction(network, SGD, loss=loss, output_bias="frequencies")
    (line,) = task.initialize(Pieces(batch))
    assert "5 output biases" in line
    bias, target = network.output.bias.detach().double(), batch.target[batch.mask]
    steps = len(target)
    if loss == "cross_entropy":
        counts = torch.tensor([float((target == k).sum()) for k in range(K)])
        expected = ((counts + 0.5) / (steps + 0.5 * K)).log()
    else:
        counts = target.sum(0)
        expected = ((counts + 0.5) / (steps + 1)).logit()
    torch.testing.assert_close(bias, expected.double(), rtol=1e-5, atol=1e-6)


class Pieces:
    """Data of one batch."""

    def __init__(self, batch):
        self.batch = batch

    def part(self, name):
        return Rows(self.batch) if name == "train" else None

    def prepare(self):
        return SimpleNamespace(facts={"num_classes": K, "num_targets": K})


class Rows:
    """A part of one batch."""

    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return len(self.batch.mask)

    def __getitem__(self, places):
        return type(self.batch)(*(value[places] for value in self.batch))


def test_what_was_learnt_is_not_told_frequencies_again(tmp_path):
    typed = ("model=gru", "data=copy_memory", "model.hidden_size=4", "data.num_train=64", "trainer.max_epochs=1")
    typed += ("task.output_bias=frequencies", "trainer.limit_train_batches=2", "logger=none", "test=false")
    assert run(configure(*typed, "optimizer.lr=0.5", run_dir=tmp_path / "first")) == 0
    learnt = load_model(tmp_path / "first").output.bias.detach()
    built = build(configure(*typed, f"pretrained={tmp_path / 'first'}", run_dir=tmp_path / "second"))
    assert torch.equal(built.task.model.output.bias.detach(), learnt)
    assert not torch.allclose(build(configure(*typed, run_dir=tmp_path / "third")).task.model.output.bias, learnt)


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"output_bias": "frequency"}, "did you mean 'frequencies'"), ({"output_bias": "ones"}, "task.output_bias=ones")],
)
def test_other_output_biases_are_one_line(settings, told):
    with pytest.raises(UserError, match=told):
        SequencePrediction(network(), SGD, **settings)


@pytest.mark.parametrize("last", [nn.Linear(8, K, bias=False), nn.Linear(8, K + 1)], ids=["no bias", "another size"])
def test_a_network_without_a_bias_for_each_answer_is_refused_in_one_line(last):
    plain = network()
    plain.output = last
    with pytest.raises(UserError, match="a bias for each answer") as caught:
        SequencePrediction(plain, SGD, output_bias="frequencies").initialize(Pieces(batch_of(pieces())))
    assert "\n" not in str(caught.value)


def test_equations_written_out_begin_with_the_same_biases(tmp_path):
    typed = ("model=gru", "data=copy_memory", "model.hidden_size=4", "data.num_train=64", "logger=none")
    biases = [
        build(
            configure(*typed, "task.output_bias=frequencies", *also, run_dir=tmp_path / str(i))
        ).task.model.output.bias
        for i, also in enumerate([(), ("scratch=true",)])
    ]
    assert torch.equal(*biases)
    assert biases[0].softmax(0)[0] > 0.9  # most of what is to be copied is nothing
