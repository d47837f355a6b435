"""Hidden tokens: how many, what is read in their place, and that they depend on seed, epoch and window alone."""

import pytest
import torch

from zoo.data.base import Loader
from zoo.data.masked import SPECIAL, Hiding, MaskedDocs, MaskedFile, MaskedWindows, hide
from zoo.data.windows import Span, WindowOrder
from zoo.errors import UserError
from zoo.text import MASK, PAD, UNKNOWN

MASKED = SPECIAL.index(MASK)
HIDING = Hiding(share=0.15, vocab_size=50, seed=7)


def text(length=20_000, seed=0):
    return torch.randint(3, 50, (length,), generator=torch.Generator().manual_seed(seed), dtype=torch.int32)


def corpus(folder, content=None, **settings):
    path = folder / "my.txt"
    path.write_text(content or "".join(f"the {a} sees a {b} . " for a in ("cat", "dog", "bird") for b in "abcdefg") * 9)
    return MaskedFile(path=str(path), **{"tokenizer": "word", "window": 8, "batch_size": 4, **settings})


def seen_by(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return [torch.stack([batch.tokens, batch.hidden.long()], 2).tolist() for batch in loader]


def test_of_each_window_15_percent_are_hidden_in_the_shares_of_the_paper():
    windows = MaskedWindows(text(), 64, HIDING)
    batch = windows[torch.arange(300)]
    tokens, targets, hidden = batch.tokens, batch.targets, batch.hidden
    assert set(hidden.sum(1).tolist()) == {10}  # 0.15 * 64
    assert torch.equal(tokens[~hidden], targets[~hidden]), "what is not asked for is read as it is"
    assert torch.equal(targets, windows.tokens[: 300 * 64].view(300, 64).long())
    as_mask, as_it_is = tokens[hidden] == MASKED, tokens[hidden] == targets[hidden]
    assert as_mask.double().mean().item() == pytest.approx(0.8, abs=0.03)
    assert as_it_is.double().mean().item() == pytest.approx(0.1 + 0.1 / 47, abs=0.02)
    others = tokens[hidden][~as_mask & ~as_it_is]
    assert 3 <= others.min() <= others.max() < 50
    assert len(others.unique()) == 47, "any token but a special one"
    assert hidden.double().mean(0).amax() < 0.3, "everywhere in a window"
    assert batch.mask.all()
    assert batch.inputs == (tokens, batch.mask)


@pytest.mark.parametrize("length", [1, 3, 8])
def test_a_window_however_short_hides_a_token(length):
    windows = MaskedWindows(text(50), length, HIDING)
    assert windows[torch.arange(6)].hidden.sum(1).tolist() == [1] * 6


def test_what_is_hidden_depends_on_seed_epoch_and_window_alone():
    tokens, starts = text(640).view(10, 64).long(), torch.arange(0, 640, 64)
    whole = hide(tokens, starts, 3, HIDING)
    for row in range(10):
        alone = hide(tokens[row : row + 1], starts[row : row + 1], 3, HIDING)
        assert all(torch.equal(a[0], b[row]) for a, b in zip(alone, whole, strict=True))
    for other in (hide(tokens, starts, 4, HIDING), hide(tokens, starts, 3, HIDING._replace(seed=8)),
                  hide(tokens, starts + 1, 3, HIDING)):  # fmt: skip
        assert not torch.equal(other[1], whole[1])
        assert (other[1] & whole[1]).double().mean() < 0.05, "of 0.15 and 0.15 by chance 0.023"
    torch.rand(3)
    assert torch.equal(hide(tokens, starts, 3, HIDING)[0], whole[0])


def test_processes_share_the_batches_of_one(tmp_path):
    windows = MaskedWindows(text(2000), 16, HIDING)

    def batches(**ranks):
        order = WindowOrder(2000, 6, window=16, shuffle=True, seed=1, **ranks)
        order.set_epoch(2)
        return [windows.of_epoch(span, 2).tokens for span in order]

    whole, first, second = batches(), batches(rank=0, world_size=2), batches(rank=1, world_size=2)
    assert len(whole) > 10
    for batch, even, odd in zip(whole, first, second, strict=True):
        assert torch.equal(batch[0::2], even)
        assert torch.equal(batch[1::2], odd)


def test_epochs_hide_anew_and_an_interrupted_one_goes_on(tmp_path):
    data = corpus(tmp_path)
    loader, windows = data.train_dataloader(), data.part("train")
    whole, other = seen_by(loader, 5), seen_by(loader, 6)
    for epoch, found in ((5, whole), (6, other)):
        loader.order.set_epoch(epoch)
        batches = [windows.of_epoch(span, epoch) for span in loader.order]
        assert [torch.stack([b.tokens, b.hidden.long()], 2).tolist() for b in batches] == found
    assert not torch.equal(windows.of_epoch(torch.arange(4), 5).hidden, windows.of_epoch(torch.arange(4), 6).hidden)
    again = corpus(tmp_path).train_dataloader()
    again.load_state_dict({"batches_done": 3})
    assert seen_by(again, 5) == whole[3:]
    assert seen_by(corpus(tmp_path, seed=1).train_dataloader(), 5) != whole


def test_validation_hides_the_same_in_every_epoch(tmp_path):
    loader = corpus(tmp_path).val_dataloader()
    first = seen_by(loader, 0)
    assert seen_by(loader, 9) == first
    assert sum(len(row) for batch in first for row in batch) == len(corpus(tmp_path).part("val").tokens)


def test_a_run_that_learns_one_batch_by_heart_sees_one_batch(tmp_path):
    data = corpus(tmp_path, overfit=True)
    loader = data.train_dataloader()
    assert isinstance(loader, Loader)
    assert len(loader) == 1
    rows = [{str(row) for batch in seen_by(loader, epoch) for row in batch} for epoch in (0, 1)]
    assert {len(found) for found in rows} <= {3, 4}
    assert data.part("val") is data.part("train")


@pytest.mark.parametrize("kind", ["word", "bpe", "wordpiece", "char"])
def test_the_vocabulary_begins_with_padding_unknown_and_mask(tmp_path, kind):
    data = corpus(tmp_path, tokenizer=kind, max_vocab_size=None if kind == "char" else 300)
    loaded = data.prepare()
    assert data.tokenizer.tokens[:3] == [PAD, UNKNOWN, MASK]
    assert loaded.facts == {"vocab_size": data.tokenizer.vocab_size}
    assert not set(range(3)) & set(data.part("train").tokens.tolist())
    again = corpus(tmp_path, tokenizer=kind)
    again.prepare_as(loaded.preprocessing)
    assert torch.equal(again.part("val").tokens, data.part("val").tokens)


def test_a_fraction_is_the_beginning_and_a_last_window_may_be_shorter(tmp_path):
    whole, half = corpus(tmp_path), corpus(tmp_path, fraction=0.5)
    number = len(half.part("train").tokens)
    assert torch.equal(half.part("train").tokens, whole.part("train").tokens[:number])
    assert number == round(len(whole.part("train").tokens) / 2)
    windows = whole.part("val")
    batches = [windows[span] for span in whole.make_order(windows, 4, shuffle=False)]
    assert torch.cat([batch.targets.flatten() for batch in batches]).tolist() == windows.tokens.tolist()
    assert windows[Span(torch.tensor([2]), 3)].targets.tolist() == [windows.tokens[2:5].tolist()]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"hidden_share": 0}, "data.hidden_share=0 must be above 0 and below 1"),
        ({"batching": "stream"}, "data.batching=stream carries a state on"),
        ({"window": 9999}, "fewer than data.window=9999"),
        ({"max_vocab_size": 3}, "data.max_vocab_size=3: A vocabulary of 3 tokens has no room"),
        ({"tokenizer": "words"}, "no data.tokenizer=words; did you mean 'word'"),
    ],
)
def test_what_cannot_be_hidden_is_one_line(tmp_path, settings, told):
    with pytest.raises(UserError, match=told) as error:
        corpus(tmp_path, **settings).prepare()
    assert "\n" not in str(error.value)


def test_a_checkpoint_without_a_mask_is_refused(tmp_path):
    data = corpus(tmp_path)
    data.prepare_as({"kind": "running_text", "tokenizer": {"kind": "word", "tokens": [UNKNOWN, "the"]}})
    with pytest.raises(UserError, match="has no <mask>"):
        data.prepare()


def test_the_language_reference_is_read_as_ever():
    data = MaskedDocs(tokenizer="word", max_vocab_size=500)
    assert data.prepare().facts == {"vocab_size": 500}
    assert "language reference of Python 3." in data.prepare().notes[0]
