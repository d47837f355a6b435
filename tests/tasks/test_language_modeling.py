"""Language modelling: windows change the gradient alone, means are over tokens, the state goes on where it must."""

import json
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.batches import TokenBatch
from zoo.build import build
from zoo.callbacks import exact_resume
from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.callbacks.curves import iterations_done
from zoo.checkpoint import read
from zoo.data.windows import ContinuedBatch, StreamOrder, Windows
from zoo.errors import UserError
from zoo.models.gru import GRU
from zoo.models.lstm import LSTM
from zoo.models.rnn import RNN
from zoo.noise import Noise
from zoo.run import configure, run
from zoo.running.signals import LISTENER
from zoo.tasks.language_modeling import LanguageModeling, begun_anew, is_best
from zoo.trained.evaluate import evaluate

VOCAB = 11
SIZES = {"num_outputs": VOCAB, "vocab_size": VOCAB, "head": "next_step", "embedding_dim": 6, "hidden_size": 7}


def network(kind=LSTM, num_layers=2):
    torch.manual_seed(0)
    return kind(**SIZES, num_layers=num_layers).double()


def language_model(model=None, **settings):
    return LanguageModeling(model or network(), partial(torch.optim.SGD, lr=0.1), **settings)


def text(length=61, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCAB, (length,), generator=generator, dtype=torch.int32)


def batches(tokens, window, rows=1, *, training=False, **ranks):
    windows = Windows(tokens, window)
    order = StreamOrder(windows.num_targets, rows, window=window, shuffle=training, **ranks)
    return [windows[span] for span in order]


def judged(task, found, stage="val"):
    """The means of a pass."""
    task.eval()
    task.start(stage)
    with torch.no_grad():
        for batch in found:
            task.evaluate(stage, batch)
    means = task.means[stage].compute()
    return means | task.derived(means)


def trained(task, found):
    """Losses of a pass of training without updates; gradients are summed."""
    task.train()
    task.trainer = type("OneProcess", (), {"world_size": 1, "accumulate_grad_batches": 1})()
    task.carried, losses = None, []
    for i, batch in enumerate(found):
        loss = task.training_step(batch, i)
        (loss * task.num_items).backward()
        losses.append(loss.item() * task.num_items)
        task.on_train_batch_end(None, batch, i)
    return losses


def gradients(task):
    return [parameter.grad.clone() for parameter in task.model.parameters()]


# ---- the state


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
@pytest.mark.parametrize("window", [1, 7, 60])
def test_windows_do_not_change_what_is_predicted(kind, window):
    tokens, model = text(), network(kind)
    logits, _ = model.eval()(tokens[:-1].long().unsqueeze(0))
    whole = F.cross_entropy(logits[0], tokens[1:].long()).item()
    for stage in ("val", "test"):
        found = judged(language_model(model), batches(tokens, window), stage)
        assert found["loss"] == pytest.approx(whole, abs=1e-12)
    assert sum(trained(language_model(model), batches(tokens, window))) / 60 == pytest.approx(whole, abs=1e-12)


def test_without_its_state_a_window_predicts_otherwise():
    tokens = text()
    found = batches(tokens, 7)
    carried = judged(language_model(), found)["loss"]
    anew = judged(language_model(carry_state=False), found)["loss"]
    losses = [language_model().losses(batch)["loss"].item() * batch.targets.numel() for batch in found]
    assert anew == pytest.approx(sum(losses) / 60, abs=1e-12)
    assert abs(anew - carried) > 1e-6
    task = language_model(carry_state=False)
    assert sum(trained(task, found)) / 60 == pytest.approx(anew, abs=1e-12)
    assert task.carried is None


def test_a_window_as_long_as_the_text_is_full_backpropagation():
    tokens, model = text(), network()
    logits, _ = model(tokens[:-1].long().unsqueeze(0))
    F.cross_entropy(logits[0], tokens[1:].long(), reduction="sum").backward()
    full = [parameter.grad.clone() for parameter in model.parameters()]
    whole, cut = language_model(), language_model()
    trained(whole, batches(tokens, 60))
    trained(cut, batches(tokens, 6))
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(gradients(whole), full, strict=True))
    assert not all(torch.allclose(a, b, atol=1e-4) for a, b in zip(gradients(cut), full, strict=True))


def test_no_gradient_goes_back_over_the_border_of_a_window():
    first, second = batches(text(21), 10)
    task = language_model()
    trained(task, [first, second])
    with torch.no_grad():
        _, state = task.model(first.tokens)
    model = network()
    alone = model(first.tokens)[0], model(second.tokens, state=state)[0]
    loss = [F.cross_entropy(logits[0], batch.targets[0]) for logits, batch in zip(alone, (first, second), strict=True)]
    (10 * loss[0] + 10 * loss[1]).backward()
    assert all(torch.allclose(p.grad, g) for p, g in zip(model.parameters(), gradients(task), strict=True))


def test_every_pass_begins_without_a_past():
    task, found = language_model(), batches(text(), 7, rows=2)
    first = judged(task, found)
    assert judged(task, found) == first
    trained(task, found)
    assert judged(task, found) == first, "training leaves nothing to a validation"
    before = task.carried
    judged(task, found)
    assert task.carried is before, "and a validation nothing to training"
    task.on_train_epoch_start()
    assert task.carried is None


@pytest.mark.parametrize("kind", [TokenBatch, ContinuedBatch])
def test_other_rows_do_not_go_on_from_the_state(kind):
    """A batch of other texts, or of another number of rows, starts anew."""
    first, _ = batches(text(), 15, rows=2, training=True)
    rows = 3 if kind is ContinuedBatch else 2
    other = kind(*(torch.randint(0, VOCAB, (rows, 15)) for _ in range(2)))
    task = language_model()
    after = trained(task, [first, other])[1]
    assert after == pytest.approx(trained(language_model(), [other])[0], abs=1e-12)


def test_what_is_left_of_a_text_is_judged_without_the_state_of_other_rows():
    tokens = text(24)  # 4 rows of 5, and 3 more
    found = judged(language_model(), batches(tokens, 4, rows=4))["loss"]
    pieces = [tokens[:6], tokens[5:11], tokens[10:16], tokens[15:21], tokens[20:]]
    losses = [judged(language_model(), batches(piece, 99)) for piece in pieces]
    assert found == pytest.approx(sum(x["loss"] * n for x, n in zip(losses, (5, 5, 5, 5, 3), strict=True)) / 23)


def test_a_step_that_is_taken_twice_starts_from_the_same_state():
    """An optimizer with a line search calls a training step several times a batch."""
    task = language_model()
    first, second = batches(text(21), 10)
    trained(task, [first])
    losses = [task.training_step(second, 1).item() for _ in range(3)]
    assert losses[0] == losses[1] == losses[2]


def test_each_process_carries_its_own_rows():
    tokens = text(121)
    whole = language_model()
    one = trained(whole, batches(tokens, 7, rows=5, training=True))
    parts = [language_model() for _ in range(2)]
    two = [trained(task, batches(tokens, 7, rows=5, training=True, rank=rank, world_size=2))
           for rank, task in enumerate(parts)]  # fmt: skip
    assert [sum(pair) for pair in zip(*two, strict=True)] == pytest.approx(one)
    summed = [a + b for a, b in zip(gradients(parts[0]), gradients(parts[1]), strict=True)]
    assert all(torch.allclose(a, b) for a, b in zip(gradients(whole), summed, strict=True))


class Nested(nn.Module):
    """Counts its batches in a nested state."""

    def __init__(self, states=()):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, VOCAB)
        self.seen = []

    def forward(self, tokens, *, state=None):
        self.seen.append(state)
        (count, _), rest = state or ((torch.zeros(1), None), ())
        logits = self.embedding(tokens)
        return logits, ((count + 1 + 0 * logits.sum(), None), (*rest, (logits[:, -1],)))


def test_a_state_may_be_any_nested_tuple():
    task = language_model(Nested())
    trained(task, batches(text(31), 10))
    first, second, third = task.model.seen
    assert first is None
    assert (float(second[0][0]), float(third[0][0]), second[0][1], len(third[1])) == (1.0, 2.0, None, 2)
    assert isinstance(third[1][0], tuple)
    assert not any(t.requires_grad for t in (second[0][0], second[1][0][0]))


def test_a_model_without_a_state_is_trained_too():
    class Bigrams(nn.Embedding):
        pass

    task = language_model(Bigrams(VOCAB, VOCAB))
    losses = trained(task, batches(text(31), 10))
    assert len(losses) == 3
    assert judged(task, batches(text(31), 10))["loss"] == pytest.approx(sum(losses) / 30)


# ---- means


def test_perplexity_is_weighted_by_tokens():
    """A last window of few tokens, which predicts badly, counts for as much as it holds."""
    model = nn.Embedding(3, 3)
    model.weight.data = torch.tensor([[0.0, 5, 0], [0, 0, 0], [0, 0, 0]])
    good, bad = torch.tensor([[0] * 9]), torch.tensor([[0]])
    found = judged(language_model(model), [TokenBatch(good, good + 1), TokenBatch(bad, bad)])
    right = F.cross_entropy(model.weight[:1], torch.tensor([1])).item()
    wrong = F.cross_entropy(model.weight[:1], torch.tensor([0])).item()
    assert found["perplexity"] == pytest.approx(math.exp((9 * right + wrong) / 10), rel=1e-6)
    assert found["accuracy"] == pytest.approx(0.9)
    assert abs(found["perplexity"] - math.exp((right + wrong) / 2)) > 1


def test_a_guess_among_all_is_as_perplexed_as_the_vocabulary_is_large():
    model = nn.Embedding(VOCAB, VOCAB)
    nn.init.zeros_(model.weight)
    found = judged(language_model(model, num_characters=[1] * VOCAB), batches(text(), 7))
    assert found["perplexity"] == pytest.approx(VOCAB, rel=1e-6)
    assert found["bits_per_character"] == pytest.approx(math.log2(VOCAB), rel=1e-6)
    assert found["accuracy"] == 0, "nothing is predicted where all are alike"


def test_bits_are_shared_among_the_characters_of_a_token():
    length = [3, *[1] * (VOCAB - 1)]
    tokens = text()
    found = judged(language_model(num_characters=length), batches(tokens, 7, rows=2))
    characters = sum(length[i] for i in tokens[1:].tolist())
    assert found["characters_per_token"] == pytest.approx(characters / 60)
    assert found["bits_per_character"] == pytest.approx(found["loss"] * 60 / math.log(2) / characters, rel=1e-6)
    assert "bits_per_character" not in judged(language_model(), batches(tokens, 7)), "of words it is not known"


def test_a_loss_beyond_all_bounds_is_an_infinite_perplexity():
    assert language_model().derived({"loss": 1e4})["perplexity"] == math.inf
    assert language_model().derived({}) == {}


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_the_best_is_the_largest(kind):
    logits = torch.randn(500, VOCAB, generator=torch.Generator().manual_seed(0)).to(kind)
    targets = torch.randint(0, VOCAB, (500,), generator=torch.Generator().manual_seed(1))
    assert torch.equal(is_best(logits, targets), logits.argmax(1) == targets)


# ---- whole runs

TINY = ("model=lstm", "model.embedding_dim=8", "model.hidden_size=8", "data.window=8", "data.batch_size=4")
TINY += ("data.eval_batch_size=3", "optimizer.lr=0.01", "trainer.max_epochs=2", "logger=none", "trainer.num_threads=1")


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """What to type for a small run on a small text: 19 iterations an epoch."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "my.txt").write_text("the cat sat on the mat, and the dog on the cat.\n" * 16)
    return [*TINY, "data=text_file", f"data.path={folder}/my.txt"]


@pytest.fixture(scope="module")
def whole(typed, tmp_path_factory):
    """The weights of a run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(configure(*typed, run_dir=folder)) == 0
    return weights(folder)


def cut(typed, after, folder):
    """Runs until it is asked to stop in iteration `after`."""
    real = RunCheckpoint.on_train_batch_start

    def hear(self, trainer, *arguments):
        if iterations_done(trainer) == after:
            LISTENER.asked = 15
        real(self, trainer, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_start", hear)
        assert run(configure(*typed, run_dir=folder)) == 75


def weights(folder):
    return read(folder / "checkpoints" / "last.ckpt")["state_dict"]


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_that_was_stopped_inside_an_epoch_goes_on_with_its_state(typed, whole, tmp_path, monkeypatch, kept):
    if not kept:
        monkeypatch.setattr(exact_resume, "on_the_cpu", lambda carried: None)
    cut(typed, 25, tmp_path / "half")
    assert run(configure(f"resume={tmp_path}/half")) == 0
    found = weights(tmp_path / "half")
    assert all(torch.equal(whole[name], found[name]) for name in whole) == kept


def test_rows_begin_anew_in_a_run_and_in_one_that_was_stopped_alike(typed, whole, tmp_path):
    typed = [*typed, "task.state_reset=0.5"]
    assert run(configure(*typed, run_dir=tmp_path / "whole")) == 0
    ours = weights(tmp_path / "whole")
    assert not all(torch.equal(whole[name], ours[name]) for name in whole), "it makes a difference"
    cut(typed, 25, tmp_path / "half")
    assert run(configure(f"resume={tmp_path}/half")) == 0
    found = weights(tmp_path / "half")
    assert all(torch.equal(ours[name], found[name]) for name in ours)


def test_a_checkpoint_is_judged_as_its_run_judged_it(typed, tmp_path):
    overrides = [*typed, "data.tokenizer=bpe", "data.max_vocab_size=270"]
    assert run(configure(*overrides, run_dir=tmp_path / "run")) == 0
    found = evaluate(str(tmp_path / "run")).metrics
    stored = read(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert stored["preprocessing"]["kind"] == "running_text"
    assert stored["config"]["data"]["vocab_size"] == 270
    written = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {name: written[name] for name in found} == found
    assert {"test/perplexity", "test/accuracy", "test/bits_per_character"} <= set(found)
    assert written["train/perplexity"] == pytest.approx(math.exp(written["train/loss"]))
    assert written["val/perplexity"] < 270
    (tmp_path / "other.txt").write_text("a zebra")
    other = evaluate(str(tmp_path / "run"), settings={"path": f"{tmp_path}/other.txt"}).metrics
    assert other["all/perplexity"] > 1


def test_windows_without_a_state_are_trained_too(typed, tmp_path):
    built = build(configure(*typed, "data.batching=windows", "trainer.max_epochs=1", run_dir=tmp_path / "run"))
    started, real = [], built.task.model.forward
    built.task.model.forward = lambda *inputs, state=None: started.append(state) or real(*inputs, state=state)
    built.fit()
    built.close({})
    assert len(started) > 19
    assert not any(started), "each begins anew"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["model.bidirectional=true"], "would see the next step"),
        (["task=classification"], "task=classification needs data.num_classes"),
        (["data.window=9999"], "data.window=9999 needs 10000 at least"),
    ],
)
def test_pairs_that_cannot_work_are_one_line(typed, tmp_path, overrides, told):
    with pytest.raises(UserError, match=told) as error:
        build(configure(*typed, *overrides, run_dir=tmp_path / "run"))
    assert "\n" not in str(error.value)


def test_a_dense_net_is_told_which_data_would_do(tmp_path):
    with pytest.raises(UserError, match=r"model=mlp needs data.num_features, and data=python_docs does not give it"):
        build(configure("model=mlp", "data=python_docs", run_dir=tmp_path / "run"))


def test_a_table_has_no_text_to_go_on_with(tmp_path):
    with pytest.raises(UserError, match=r"needs data.vocab_size, and data=iris does not give it .*python_docs"):
        build(configure("model=lstm", "data=iris", "task=language_modeling", run_dir=tmp_path / "run"))


# --- rows that begin anew ---


def carried_to(task, found, number):
    """The state that a training batch starts from."""
    task.train()
    task.batch_at_hand = ("train", number)
    with task.going_on_from((len(found.targets), (torch.ones(2, 4, 7), torch.ones(2, 4, 7)))):
        return task.state_for(found)


def test_some_rows_begin_anew_and_always_the_same(monkeypatch):
    monkeypatch.setattr(LanguageModeling, "current_epoch", 0)
    found = batches(text(400), 5, rows=4, training=True)[1]
    task = language_model(state_reset=0.3)
    states = [carried_to(task, found, number) for number in range(200)]
    for h, c in states:
        assert torch.equal(h, c)
        assert set(h.mean((0, 2)).tolist()) <= {0.0, 1.0}, "a row begins as a whole, in all layers"
    share = 1 - torch.stack([h.mean((0, 2)) for h, _ in states]).mean(0)  # of each row
    assert ((share - 0.3).abs() < 0.12).all()
    again = [carried_to(language_model(state_reset=0.3), found, number) for number in range(200)]
    assert all(torch.equal(one[0], other[0]) for one, other in zip(states, again, strict=True))
    other_seed = [carried_to(language_model(state_reset=0.3, seed=1), found, number) for number in range(200)]
    assert any(not torch.equal(one[0], other[0]) for one, other in zip(states, other_seed, strict=True))


def test_no_row_begins_anew_where_text_is_judged_or_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(LanguageModeling, "current_epoch", 0)
    found = batches(text(400), 5, rows=4)[1]
    assert all(carried_to(language_model(), found, number)[0].all() for number in range(50))
    task = language_model(state_reset=0.9)
    task.eval()
    task.batch_at_hand = ("val", 1)
    with task.going_on_from((4, (torch.ones(2, 4, 7),))):
        assert task.state_for(found)[0].all()


def test_rows_of_several_processes_begin_where_those_of_one_do():
    whole = Noise(0).uniform((), at=(0, 3, "reset"), rows=6, like=torch.empty(6))
    parts = [
        Noise(0, rank=r, world_size=2).uniform((), at=(0, 3, "reset"), rows=6, like=torch.empty(3)) for r in (0, 1)
    ]
    assert torch.equal(torch.stack(parts, 1).flatten(), whole)


@pytest.mark.parametrize("state_reset", [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(state_reset):
    with pytest.raises(UserError, match=r"task\.state_reset"):
        language_model(state_reset=state_reset)


def test_a_state_without_rows_is_refused():
    with pytest.raises(UserError, match="rnn, lstm and gru"):
        begun_anew(torch.ones(4, 2, 3, 5), torch.ones(4, dtype=torch.bool))
