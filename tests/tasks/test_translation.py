"""Translation: means are over target tokens however batches fall; what the model writes is judged as text."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from zoo import decoding
from zoo.batches import ImageBatch, PairBatch
from zoo.errors import UserError
from zoo.metrics.texts import bleu, chrf
from zoo.tasks.translation import Translation
from zoo.text import NEVER_WRITTEN, PAIR_SPECIAL, CharTokenizer, words

LETTERS = CharTokenizer([*PAIR_SPECIAL, *"abcde "])
V, BOS, EOS = LETTERS.vocab_size, 2, 3
TEXTS = ["abc", "ad e", "e", "bad bee", "ace", "dab", "cab deed bead dad add"]
SGD = partial(torch.optim.SGD, lr=0.5)


class Copier(nn.Module):
    """Says of each source token what a table has for it, one after another; in an image, 4 again and again."""

    max_len: int | None = None

    def __init__(self, wrong: str = ""):
        super().__init__()
        table = 3 * torch.eye(V, dtype=torch.float64) + 0.1 * torch.randn(
            V, V, generator=torch.Generator().manual_seed(0)
        )
        for letter in wrong:  # is taken for an e, most of the time
            table[LETTERS.number[letter], LETTERS.number["e"]] = 3.5
        self.table = nn.Parameter(table)
        self.forced: list[float] = []

    def encode(self, src, src_mask):
        return src if src.ndim == 2 else torch.full((len(src), 1), 4)

    def start(self, memory, src_mask):
        return memory, torch.zeros(len(memory)).long()

    def step(self, tokens, state):
        memory, place = state
        read = memory.gather(1, place.clamp(max=memory.shape[1] - 1).unsqueeze(1)).squeeze(1)  # (B,)
        return self.table[read], (memory, place + 1)

    def decode(self, tgt_in, memory, src_mask, teacher_forcing=1.0):
        self.forced.append(teacher_forcing)
        places = torch.arange(tgt_in.shape[1]).clamp(max=memory.shape[1] - 1)
        return self.table[memory[:, places]]

    def forward(self, src, src_mask, tgt_in):
        return self.decode(tgt_in, self.encode(src, src_mask), src_mask)

    def attention(self, src, src_mask, tgt_in):
        size = src.shape[1] if src.ndim == 2 else 16
        return {"look": torch.eye(tgt_in.shape[1], size).expand(len(src), 1, -1, -1)}


def batch_of(texts, targets=None, *, first=0, extra=0):
    """Padded pairs; `extra` places more than needed. Their index counts from `first`."""

    def padded(rows, length):
        return torch.tensor([row + [0] * (length + extra - len(row)) for row in rows])

    src = [[*LETTERS.encode(text), EOS] for text in texts]
    tgt = [[*LETTERS.encode(text), EOS] for text in targets or texts]
    longest = max(map(len, tgt))
    sources = padded(src, max(map(len, src)))
    return PairBatch(sources, sources != 0, padded([[BOS, *row[:-1]] for row in tgt], longest), padded(tgt, longest),
                     torch.arange(first, first + len(texts)))  # fmt: skip


def task_of(model=None, references=TEXTS, **settings):
    task = Translation(model or Copier(), SGD, **settings).eval()
    data = SimpleNamespace(src_tokenizer=LETTERS, tgt_tokenizer=LETTERS, references=lambda part: list(references))
    task.trainer = SimpleNamespace(datamodule=data, world_size=1, accumulate_grad_batches=1, testing=False)
    return task


def logged(task, batches, stage="val"):
    found = {}
    task.log_dict = lambda values, **options: found.update(values)
    task.start(stage)
    with torch.no_grad():
        for batch in batches:
            task.evaluate(stage, batch)
    task.finish(stage)
    return {name.removeprefix(f"{stage}/"): float(value) for name, value in found.items()}


def uneven():
    return [batch_of(TEXTS[:1]), batch_of(TEXTS[1:6], first=1, extra=3), batch_of(TEXTS[6:], first=6)]


# ---- losses


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_means_are_over_target_tokens_whatever_batches_they_come_in(label_smoothing):
    task, whole = task_of(Copier("a"), label_smoothing=label_smoothing), batch_of(TEXTS)
    logits, targets = task.model(*whole.inputs).flatten(0, 1), whole.tgt_out.flatten()
    found = logged(task, uneven())
    count = sum(len(text) + 1 for text in TEXTS)
    assert task.count_items(whole) == sum(map(task.count_items, uneven())) == count
    smoothed = F.cross_entropy(logits, targets, ignore_index=0, label_smoothing=label_smoothing)
    nll = F.cross_entropy(logits, targets, ignore_index=0)
    assert found["loss"] == pytest.approx(smoothed.item(), rel=1e-12)
    assert found["nll"] == pytest.approx(nll.item(), rel=1e-12)
    assert found["perplexity"] == pytest.approx(math.exp(nll.item()), rel=1e-12)
    assert found["accuracy"] == pytest.approx(1 - "".join(TEXTS).count("a") / count)


def test_the_decoder_reads_its_own_tokens_in_training_alone():
    task = task_of(teacher_forcing=0.7)
    task.losses(batch_of(TEXTS))
    task.train()
    task.losses(batch_of(TEXTS))
    assert task.model.forced == [1.0, 0.7]


def test_of_no_pairs_there_is_no_loss():
    """As where a process has nothing left of a batch: the model is not asked."""
    whole = batch_of(TEXTS)
    nothing = PairBatch(*(part[:0] for part in whole))
    task = task_of()
    assert [float(value) for value in task.losses(nothing).values()] == [0.0] * 3
    assert not task.model.forced


def fitted(batches, number, model=None):
    """The table after an epoch with `number` batches to an update."""
    task = Translation(model or Copier("ab"), SGD, label_smoothing=0.1, translate_val=0)
    trainer = Trainer(max_epochs=1, accumulate_grad_batches=number, accelerator="cpu", logger=False,
                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    task.planned_updates = lambda: (1, 1)
    task._log = lambda stage, metrics: None
    trainer.fit(task, DataLoader(batches, batch_size=None))
    return task.model.table.detach()


def test_batches_that_are_accumulated_are_weighted_by_their_tokens():
    """Of 1, 5 and 1 pairs, with 2 batches to an update and a last one alone: as two larger batches."""
    together = [batch_of(TEXTS[:6]), batch_of(TEXTS[6:])]
    torch.testing.assert_close(fitted(uneven(), 2), fitted(together, 1), rtol=0, atol=1e-12)
    torch.testing.assert_close(fitted(uneven(), 5), fitted([batch_of(TEXTS)], 1), rtol=0, atol=1e-12)
    assert not torch.allclose(fitted(uneven(), 1), fitted(together, 1), atol=1e-3)


# ---- what is written


@pytest.mark.parametrize("stage", ["val", "test"])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_texts_are_compared_with_their_own_references_in_whatever_order_they_come(order, stage):
    ours = [text.replace("c", "e") for text in TEXTS]
    found = logged(task_of(Copier("c")), [uneven()[i] for i in order], stage)
    assert found["exact_match"] == pytest.approx(4 / 7)
    assert found["bleu"] == pytest.approx(bleu(ours, TEXTS).score)
    assert found["chrf"] == pytest.approx(chrf(ours, TEXTS).score)
    assert 0 < found["bleu"] < 100


def test_each_part_is_compared_with_its_own_references():
    task = task_of()
    task.trainer.datamodule.references = {"val": TEXTS, "test": TEXTS[::-1]}.get
    assert logged(task, uneven())["exact_match"] == 1
    assert logged(task, uneven(), "test")["exact_match"] == pytest.approx(1 / 7), "the one in the middle"


def test_case_counts_where_it_is_asked_to():
    upper = [text.upper() for text in TEXTS]
    assert logged(task_of(references=upper), uneven())["exact_match"] == 1
    found = logged(task_of(references=upper, lowercase=False), uneven())
    assert found["exact_match"] == found["bleu"] == found["chrf"] == 0


def test_all_processes_judge_all_texts_once(monkeypatch):
    """The other one has the first two, of which this one has seen the second as well."""
    other = {0: "wrong", 1: "ad e"}
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(
        torch.distributed, "all_gather_object", lambda parts, own: parts.__setitem__(slice(2), [own, other])
    )
    task = task_of(Copier("b"))
    task.texts["test"] = {6: TEXTS[6], 1: "ad e"}
    metrics = task.whole_set_metrics("test")
    assert metrics["exact_match"] == pytest.approx(2 / 3)
    assert metrics["bleu"] == bleu(["wrong", "ad e", TEXTS[6]], [TEXTS[i] for i in (0, 1, 6)]).score
    task.texts["test"] = {}
    assert task.whole_set_metrics("test")["exact_match"] == 1 / 2, "a process without a text takes part, too"


@pytest.mark.parametrize(("most", "seen"), [(None, 7), (3, 3), (100, 7), (0, 0)])
def test_so_many_of_the_validation_part_are_translated_and_all_of_the_test(most, seen):
    task = task_of(translate_val=most)
    metrics = logged(task, uneven())
    assert sorted(task.texts["val"]) == list(range(seen))
    assert ("exact_match" in metrics) == (seen > 0)
    logged(task, uneven(), "test")
    assert len(task.texts["test"]) == 7
    task.start("val")
    assert not task.texts["val"], "a pass forgets the one before"


def test_the_test_has_bleu_on_words_as_well_whatever_white_space_and_case():
    """As papers have it that compare tokens: signs stand apart, in lower case."""
    task = task_of(Copier("c"), references=["  ".join(text).upper() for text in TEXTS])
    found = logged(task, uneven(), "test")
    cut = [
        [" ".join(words(text)) for text in texts]
        for texts in (task.texts["test"].values(), task.data.references("test"))
    ]
    assert found["bleu_words"] == bleu(*cut, tokenize="none").score
    assert "|tok:none|" in task.findings()["bleu_words_signature"]
    assert "bleu_words" not in logged(task, uneven(), "val")


def test_without_bleu_exact_matches_are_left():
    found = logged(task_of(bleu=False), uneven())
    assert set(found) == {"loss", "nll", "accuracy", "perplexity", "exact_match"}


def test_without_texts_or_numbers_there_are_losses_alone():
    task = task_of()
    assert set(logged(task, [batch_of(TEXTS)._replace(index=None)])) == {"loss", "nll", "accuracy", "perplexity"}
    task.trainer.datamodule = None
    assert set(logged(task, uneven(), "test")) == {"loss", "nll", "accuracy", "perplexity"}
    assert task.show(batch_of(TEXTS)) == {}


def test_validation_is_greedy_and_the_test_searches(monkeypatch):
    asked = []

    def search(*arguments, **options):
        asked.append(options)
        return real(*arguments, **options)

    real = decoding.beam_search
    monkeypatch.setattr(decoding, "beam_search", search)
    task = task_of(beams=3, length_penalty=0.9)
    logged(task, uneven())
    assert not asked
    logged(task, uneven(), "test")
    assert len(asked) == 3
    assert {(options["beams"], options["length_penalty"]) for options in asked} == {(3, 0.9)}


@pytest.mark.parametrize("beams", [1, 2])
def test_a_text_has_room_for_twice_its_source_and_ten_more(beams):
    model = Copier()
    with torch.no_grad():
        model.table[:, [EOS, *NEVER_WRITTEN]] = torch.tensor([-50.0, *[99.0] * len(NEVER_WRITTEN)], dtype=torch.float64)
    task, batch = task_of(model, max_steps=6), batch_of(TEXTS)
    rows = task.translate(batch, beams)
    assert list(map(len, rows)) == [2 * (len(text) + 1) + 10 for text in TEXTS]
    assert not set(NEVER_WRITTEN) & {number for row in rows for number in row}, "what is no text never comes"
    model.max_len = 13
    assert set(map(len, task.translate(batch, beams))) == {13}
    images = PairBatch(torch.zeros(2, 3, 8, 8), None, batch.tgt_in[:2], batch.tgt_out[:2])
    assert list(map(len, task.translate(images, beams))) == [6, 6]


# ---- what is seen


def test_source_reference_and_translation_stand_below_one_another():
    task = task_of(Copier("a"))
    page = task.show(batch_of(TEXTS))["translations"]
    assert "    source     bad bee\n    reference  bad bee\n    ours       bed bee" in page
    assert "nrefs" not in page
    logged(task, uneven())
    assert f"bleu: {task.findings()['bleu_signature']}" in task.show(batch_of(TEXTS))["translations"]
    assert "|case:lc|" in task.findings()["bleu_signature"]


def test_what_the_model_looked_at_has_its_own_tokens_on_both_axes():
    figures = task_of(Copier("a")).show(batch_of(TEXTS))
    axis = figures["attention_2"].axes[0]
    assert [text.get_text() for text in axis.get_xticklabels()] == [*"ad▁e", "<eos>"]
    assert [text.get_text() for text in axis.get_yticklabels()] == [*"ed▁e", "<eos>"]
    assert axis.images[0].get_array().tolist() == torch.eye(5).tolist()
    assert set(figures) == {"translations", "attention_1", "attention_2"}


def test_several_heads_stand_side_by_side():
    task = task_of()
    task.model.attention = lambda src, mask, read: {
        f"layer {i}": torch.rand(1, 3, read.shape[1], src.shape[1], generator=torch.Generator().manual_seed(i))
        for i in (0, 1)
    }
    figures = task.show(batch_of(TEXTS))
    assert [axis.get_xlabel() for axis in figures["attention_heads"].axes] == ["head 1", "head 2", "head 3"]
    layers = task.model.attention(batch_of(TEXTS[:1]).src, None, torch.zeros(1, 4))
    mean = torch.cat([weights[0] for weights in layers.values()]).mean(0)
    shown = torch.tensor(figures["attention_1"].axes[0].images[0].get_array().tolist())
    torch.testing.assert_close(shown, mean)
    assert set(figures) == {"translations", "attention_1", "attention_heads", "attention_2"}
    task.model.attention = lambda *inputs: {}
    assert set(task.show(batch_of(TEXTS))) == {"translations"}


def test_an_image_is_seen_with_each_word_of_its_caption():
    task, batch = task_of(max_steps=3), batch_of(TEXTS[:2])
    task.trainer.datamodule.src_tokenizer = None
    images = PairBatch(torch.rand(2, 3, 8, 8), None, batch.tgt_in, batch.tgt_out, batch.index)
    shown = task.show(images)
    assert "    reference  abc\n    ours       aaa" in shown["translations"]
    assert [axis.get_title() for axis in shown["attention_1"].axes] == ["", "a", "a", "a"]


def test_a_model_that_diverged_is_shown_as_such():
    task = task_of()
    with torch.no_grad():
        task.model.table.fill_(math.nan)
    assert "no finite number" in task.show(batch_of(TEXTS))["translations"]


# ---- settings


@pytest.mark.parametrize(("settings", "told"), [
    ({"monitor": "blue"}, "did you mean 'bleu'"),
    ({"monitor": "bleu", "bleu": False}, "needs translations"),
    ({"monitor": "exact_match", "translate_val": 0}, "needs translations"),
    ({"teacher_forcing": 1.5}, "from 0 to 1"),
    ({"beams": 0}, "task.beams=0 must be a number from 1 on"),
    ({"translate_val": -1}, "task.translate_val=-1 must be a number from 0 on"),
])  # fmt: skip
def test_settings_that_mean_nothing_are_one_line(settings, told):
    with pytest.raises(UserError, match=told) as caught:
        task_of(**settings)
    assert "\n" not in str(caught.value)


def test_the_best_epoch_is_chosen_by_what_is_asked_for():
    assert (task_of().monitor, task_of().mode) == ("val/loss", "min")
    assert (task_of(monitor="bleu").monitor, task_of(monitor="bleu").mode) == ("val/bleu", "max")


@pytest.mark.parametrize(("model", "batch", "told"), [
    (nn.Linear(2, 2), batch_of(TEXTS), "Linear has no encode and no decode"),
    (Copier(), ImageBatch(torch.zeros(2, 1, 4, 4), torch.zeros(2)), "is for a PairBatch"),
])  # fmt: skip
def test_what_is_not_for_sequences_is_refused(model, batch, told):
    with pytest.raises(UserError, match=told):
        task_of(model).check(batch)
