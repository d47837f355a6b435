"""Telling hidden tokens: what counts, what means are over, what is shown, and whole runs that stop and go on."""

import json
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.batches import MaskedTokenBatch
from zoo.build import build
from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.callbacks.curves import iterations_done
from zoo.checkpoint import read
from zoo.errors import UserError
from zoo.models.bert import BERT
from zoo.run import configure, run
from zoo.running.signals import LISTENER
from zoo.tasks.masked_language_modeling import MaskedLanguageModeling
from zoo.text import WordTokenizer
from zoo.trained.evaluate import evaluate

V = 9


class Table(nn.Embedding):
    """Guesses by the token that is read; it is not asked at some places alone."""

    def forward(self, tokens, mask):
        return super().forward(tokens)


def task_of(model):
    return MaskedLanguageModeling(model, partial(torch.optim.SGD, lr=0.1))


def batch_of(rows, length, seed=0, share=0.3):
    generator = torch.Generator().manual_seed(seed)
    tokens, targets = torch.randint(3, V, (2, rows, length), generator=generator)
    hidden = torch.rand(rows, length, generator=generator) < share
    return MaskedTokenBatch(tokens, torch.ones_like(hidden), targets, hidden)


def test_the_loss_is_the_mean_over_hidden_tokens_however_the_model_is_asked():
    torch.manual_seed(0)
    model = BERT(vocab_size=V, max_len=8, d_model=8, num_heads=2, num_layers=1, d_ff=16).double().eval()
    batch = batch_of(5, 8)
    logits = model(*batch.inputs)
    total = sum(
        -logits[b, t].log_softmax(0)[batch.targets[b, t]] for b in range(5) for t in range(8) if batch.hidden[b, t]
    )
    number = int(batch.hidden.sum())
    right = (logits.argmax(2) == batch.targets)[batch.hidden].double().mean()
    asked, whole = task_of(model), task_of(model)
    whole.asks = False
    assert asked.asks
    for task in (asked, whole):
        found = task.losses(batch)
        torch.testing.assert_close(found["loss"], total / number, rtol=0, atol=1e-12)
        torch.testing.assert_close(found["accuracy"], right, rtol=0, atol=1e-12)
        assert task.count_items(batch) == number
    other = batch._replace(targets=torch.where(batch.hidden, batch.targets, V - 1))
    assert torch.equal(asked.losses(other)["loss"], asked.losses(batch)["loss"]), "what is not hidden does not count"


def test_means_are_over_hidden_tokens_and_perplexity_follows_from_them():
    table = Table(V, V)
    task, found = task_of(table), [batch_of(4, 20, 1, share=0.9), batch_of(1, 7, 2, share=0.2)]
    for batch in found:
        task.evaluate("val", batch)
    logits = torch.cat([table(*batch.inputs)[batch.hidden] for batch in found])
    targets = torch.cat([batch.targets[batch.hidden] for batch in found])
    means = task.means["val"].compute()
    assert means["loss"] == pytest.approx(F.cross_entropy(logits, targets).item(), rel=1e-6)
    assert means["accuracy"] == pytest.approx((logits.argmax(1) == targets).double().mean().item())
    assert task.derived(means)["perplexity"] == pytest.approx(math.exp(means["loss"]))
    nn.init.zeros_(table.weight)
    assert task.derived({"loss": task.losses(found[0])["loss"].item()})["perplexity"] == pytest.approx(V, rel=1e-6)
    assert (task.derived({"loss": 1e4})["perplexity"], task.derived({})) == (math.inf, {})


def test_a_batch_that_hides_nothing_counts_for_nothing():
    table = Table(V, V)
    task, batch = task_of(table), batch_of(3, 5, share=0.0)
    found = task.losses(batch)
    assert (found["loss"].item(), found["accuracy"].item(), task.count_items(batch)) == (0, 0, 0)
    found["loss"].backward()
    assert not table.weight.grad.any()
    task.evaluate("val", batch)
    task.evaluate("val", batch_of(3, 5, share=1.0))
    assert task.means["val"].counts["loss"] == 15


def test_shares_of_processes_add_up_to_the_gradient_of_one():
    batch = batch_of(6, 9)
    table = Table(V, V).double()
    task_of(table).losses(batch)["loss"].backward()
    whole, sums, count = table.weight.grad.clone(), torch.zeros(V, V).double(), int(batch.hidden.sum())
    for rank in (0, 1):
        part = MaskedTokenBatch(*(tensor[rank::2] for tensor in batch))
        task, table.weight.grad = task_of(table), None
        task.losses(part)["loss"].backward()
        sums += table.weight.grad * task.count_items(part) / count
    torch.testing.assert_close(sums, whole, rtol=0, atol=1e-12)


def test_hidden_tokens_are_numbered_in_the_text_and_guessed_in_a_table():
    tokenizer = WordTokenizer(["<pad>", "<unk>", "<mask>", "the", "cat", "|", "sat", "mat", "_on_"])
    table = Table(V, V)
    table.weight.data = 9 * torch.eye(V).roll(1, 1)  # the token after the one that is read
    targets = torch.tensor([[3, 4, 5, 8, 3, 7]])
    hidden = torch.tensor([[False, True, True, False, False, True]])
    tokens = torch.tensor([[3, 3, 4, 8, 3, 2]])
    task = task_of(table)
    task.trainer = SimpleNamespace(datamodule=SimpleNamespace(tokenizer=tokenizer))
    shown = task.show(MaskedTokenBatch(tokens, torch.ones_like(hidden), targets, hidden))["hidden_tokens"]
    lines = shown.splitlines()
    assert lines[0] == "    the [1] [2] _on_ the [3]"
    assert lines[4].startswith("| [1] | cat ✓ | cat 1.00, ")
    assert lines[5].startswith("| [2] | &#124; ✓ | &#124; 1.00, "), "no cell ends early"
    assert lines[6].startswith("| [3] | mat | the 1.00, ")
    task.trainer.datamodule.tokenizer = None
    assert task.show(None) == {}


# ---- whole runs

TINY = ("model=bert", "model.d_model=16", "model.num_heads=2", "model.d_ff=32", "model.num_layers=1", "data.window=8")
TINY += ("data.batch_size=4", "optimizer.lr=0.01", "trainer.max_epochs=2", "logger=none", "trainer.num_threads=1")


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """What to type for a small run with dropout on a small text."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "my.txt").write_text("the cat sat on the mat, and the dog on the cat.\n" * 16)
    return [*TINY, "data=masked_text", f"data.path={folder}/my.txt", "data.tokenizer=word"]


def weights(folder):
    return read(folder / "checkpoints" / "last.ckpt")["state_dict"]


def test_a_run_that_was_stopped_inside_an_epoch_hides_what_it_would_have_hidden(typed, tmp_path):
    assert run(configure(*typed, run_dir=tmp_path / "whole")) == 0
    real = RunCheckpoint.on_train_batch_start

    def hear(self, trainer, *arguments):
        if iterations_done(trainer) == 7:  # inside the second epoch
            LISTENER.asked = 15
        real(self, trainer, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_start", hear)
        assert run(configure(*typed, run_dir=tmp_path / "half")) == 75
    assert run(configure(f"resume={tmp_path}/half")) == 0
    whole, found = weights(tmp_path / "whole"), weights(tmp_path / "half")
    assert all(torch.equal(whole[name], found[name]) for name in whole)
    written = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    judged = evaluate(str(tmp_path / "whole")).metrics
    assert {"test/loss", "test/accuracy", "test/perplexity"} <= set(judged)
    assert {name: written[name] for name in judged} == judged
    assert read(tmp_path / "whole" / "checkpoints" / "last.ckpt")["preprocessing"]["kind"] == "running_text"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["model=bert", "data=python_docs"], "needs a next_step; use model=gpt or gru or lstm or rnn"),
        (["model=lstm", "data=masked_docs"], "needs a masked; use model=bert"),
        (["model=bert", "data=digits"], "model=bert needs data.vocab_size"),
        (["model=bert", "model.max_len=8"], "64 tokens is longer than model.max_len=8"),
        (["model=bert", "data=masked_docs", "task=language_modeling"], "needs a next_step; use model=gpt"),
    ],
)
def test_pairs_that_cannot_work_are_one_line(tmp_path, overrides, told):
    with pytest.raises(UserError, match=told) as error:
        build(configure(*overrides, run_dir=tmp_path / "run"))
    assert "\n" not in str(error.value)
