"""Pairs of texts: what a batch holds, what the vocabularies know, and that nothing is lost without a word."""

import io

import pytest
import torch

from zoo.batches import PairBatch
from zoo.data.pairs import Found, PairPreprocessing, Pairs
from zoo.data.token_batches import TokenBatches
from zoo.errors import UserError
from zoo.text import PAIR_SPECIAL

TRAIN = [
    ("Ein Hund läuft.", "A dog runs."),
    ("Zwei Hunde", "Two dogs"),
    ("Ein roter, alter Ball liegt im Gras.", "A red, old t-shirt lies in the grass."),
    ("Hund", "dog"),
]
VAL = [("Ein Hund schläft.", "A dog sleeps."), ("", "Nothing here"), ("Ein Ball", "")]


class Few(Pairs):
    """Pairs that a test hands in."""

    def __init__(self, train=TRAIN, val=VAL, **settings):
        self.given = {"train": list(train), "val": list(val)}
        super().__init__(**{"batch_size": 2} | settings)

    def read(self):
        return Found(dict(self.given))


def texts(tokenizer, rows):
    """What rows of numbers spell, without special tokens."""
    return [tokenizer.decode([i for i in row if i >= len(PAIR_SPECIAL)]) for row in rows.tolist()]


@pytest.mark.parametrize("tokenizer", ["word", "char", "bpe"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_batch_has_sources_that_end_and_targets_one_step_apart(tokenizer, shared):
    data = Few(tokenizer=tokenizer, shared_vocab=shared, max_vocab_size=300 if tokenizer == "bpe" else None)
    loaded, seen = data.prepare(), []
    for batch in data.train_dataloader():
        assert isinstance(batch, PairBatch)
        assert {x.dtype for x in (batch.src, batch.tgt_in, batch.tgt_out, batch.index)} == {torch.int64}
        assert torch.equal(batch.src_mask, batch.src != 0)
        assert batch.tgt_in.shape == batch.tgt_out.shape
        for src, before, out, i in zip(batch.src, batch.tgt_in, batch.tgt_out, batch.index.tolist(), strict=True):
            src, out, before = src[src != 0].tolist(), out[out != 0].tolist(), before[before != 0].tolist()
            assert src == [*data.src_tokenizer.encode(TRAIN[i][0].lower()), 3]
            assert out == [*data.tgt_tokenizer.encode(TRAIN[i][1].lower()), 3]
            assert before == [2, *out[:-1]]
            assert data.references("train")[i] == TRAIN[i][1]
            seen.append(i)
        assert batch.src_mask.any(0).all()  # nothing is padded further than the longest
        assert batch.tgt_mask.any(0).all()
    assert sorted(seen) == [0, 1, 2, 3]
    assert (data.src_tokenizer is data.tgt_tokenizer) == shared
    for name, side in (("src_vocab_size", data.src_tokenizer), ("tgt_vocab_size", data.tgt_tokenizer)):
        assert loaded.facts[name] == side.vocab_size
        assert tuple(side.tokens[:4]) == PAIR_SPECIAL
    assert loaded.class_names == []


def test_a_process_that_gets_no_pair_gets_an_empty_batch():
    batch = Few().part("train")[torch.arange(0)]
    assert [tuple(x.shape) for x in batch] == [(0, 1), (0, 1), (0, 1), (0, 1), (0,)]


def test_the_vocabularies_know_the_training_part_alone_each_its_own_side():
    data = Few()
    loaded = data.prepare()
    assert {"hund", "roter"} <= set(data.src_tokenizer.tokens)
    assert not {"dog", "schläft"} & set(data.src_tokenizer.tokens)
    assert not {"hund", "sleeps"} & set(data.tgt_tokenizer.tokens)
    assert {"hund", "dog"} <= set(Few(shared_vocab=True).src_tokenizer.tokens)
    assert "In the val part 1 of 6 words of the sources are not in the vocabulary and are read as <unk>: 'schläft'" in (
        loaded.notes
    )
    assert data.part("val")[torch.tensor([0])].src.tolist()[0][2] == 1
    assert set(Few(min_count=2).src_tokenizer.tokens) == {*PAIR_SPECIAL, "ein", "hund", "."}


def test_case_is_kept_where_that_is_asked_for():
    for tokenizer in ("word", "char"):
        data = Few(lower=False, tokenizer=tokenizer)
        again = PairPreprocessing.from_dict(data.prepare().preprocessing)
        for prepare in (data.prepared, again):
            assert texts(prepare.src_tokenizer, prepare.encode(["Ein Hund"])[0].values.unsqueeze(0)) == ["Ein Hund"]
    assert "Hund" not in Few().src_tokenizer.tokens


def test_words_are_put_together_as_they_are_written():
    data = Few(train=[("x", "A man (old) in a t-shirt, with 1,000 dogs: at 10:30!")])
    assert texts(data.tgt_tokenizer, data.part("train")[torch.tensor([0])].tgt_out) == [
        "a man (old) in a t-shirt, with 1,000 dogs: at 10:30!"
    ]


def test_empty_and_long_training_pairs_are_left_out_and_counted():
    train = [*TRAIN, ("", "Nothing"), ("Etwas", "  "), ("a b c d", "a b c d e"), ("a b c d e f", "a")]
    data = Few(train=train, max_len=6)
    loaded = data.prepare()
    assert data.references("train") == ["A dog runs.", "Two dogs", "dog", "a b c d e"]
    assert int(data.part("train").lengths.max()) == 6
    assert "2 of 8 training pairs are left out: a side is empty" in loaded.notes
    assert any(
        note.startswith("2 of 6 training pairs are left out: longer than data.max_len=6") for note in loaded.notes
    )
    assert not [note for note in Few().prepare().notes if "left out" in note]


def test_long_and_empty_lines_of_validation_stay_and_long_ones_are_cut():
    data = Few(val=[*VAL, ("hund hund hund hund hund hund", "dog dog dog dog dog dog dog")], max_len=5)
    batch, notes = data.part("val")[torch.arange(4)], data.prepare().notes
    assert batch.src[1].tolist() == [3, 0, 0, 0, 0]
    assert batch.tgt_out[2].tolist() == [3, 0, 0, 0, 0]
    assert batch.tgt_in[2].tolist() == [2, 0, 0, 0, 0]
    assert batch.src[3, -1] == batch.tgt_out[3, -1] == 3
    assert batch.src.shape == batch.tgt_in.shape == (4, 5)
    assert data.references("val") == [*(tgt for _, tgt in VAL), "dog dog dog dog dog dog dog"]
    assert "In the val part 1 of 4 sources are longer than 4 words and are cut" in notes
    assert "In the val part 1 of 4 targets are longer than 4 words and are cut" in notes


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("tokenizer", ["word", "char", "bpe"])
def test_a_checkpoint_alone_prepares_a_source_as_training_did(tokenizer, shared):
    settings = {"max_len": 8, "max_vocab_size": 300, "shared_vocab": shared}
    data = Few(tokenizer=tokenizer, **settings)
    saved = data.prepare().preprocessing
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    prepare = PairPreprocessing.from_dict(torch.load(file, weights_only=True))
    assert (prepare.src_tokenizer is prepare.tgt_tokenizer) == shared
    assert prepare.to_dict() == saved
    sources = [src for src, _ in data.given["val"]]
    encoded, notes = prepare.encode(sources)
    assert torch.equal(encoded[torch.arange(3)][0].long(), data.part("val")[torch.arange(3)].src)
    assert all(f"In the val part {note}" in data.prepare().notes for note in notes)


def test_pairs_are_seen_as_an_earlier_run_saw_them():
    first, again = Few(min_count=2, max_len=9), Few(train=[("Ein Hund", "A cat"), ("x", "y")])
    again.prepare_as(first.prepare().preprocessing)
    assert again.prepare().preprocessing == first.prepare().preprocessing
    assert again.prepare().facts == first.prepare().facts
    assert again.part("train")[torch.tensor([0])].src.tolist() == [[*first.src_tokenizer.encode("ein hund"), 3]]


class Named(Few):
    sides = ("German", "English")


class Other(Few):
    sides = ("French", "English")


def test_a_vocabulary_of_other_data_is_one_line():
    saved = Named().prepare().preprocessing
    cases = [
        (Few(), {"kind": "image"}, "trained on data of kind 'image'"),
        (Few(), {"kind": "pairs"}, "is not understood"),
        (
            Few(),
            saved | {"tgt_tokenizer": {"kind": "word", "tokens": ["<unk>", "a"]}},
            "does not begin with <pad> <unk>",
        ),
        (Other(), saved, "trained to go from German to English, and the data goes from French to English"),
    ]
    for data, earlier, said in cases:
        data.prepare_as(earlier)
        with pytest.raises(UserError, match=said) as error:
            data.prepare()
        assert "\n" not in str(error.value)
    data = Few()  # a user's own files may be judged by any model of pairs
    data.prepare_as(saved)
    assert data.prepare().preprocessing == saved


def test_batches_by_tokens_are_of_training_alone_and_count_source_and_target():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 20, (200, 2), generator=generator).tolist()
    train = [("a " * s, "b " * t) for s, t in sizes]
    data = Few(train=train, val=train[:50], batch_tokens=60, eval_batch_size=20)
    loader = data.train_dataloader()
    batches = list(loader)
    assert isinstance(loader.order, TokenBatches)
    assert max(len(b.src) * max(b.src.shape[1], b.tgt_in.shape[1]) for b in batches) <= 60
    assert sorted(i for b in batches for i in b.index.tolist()) == list(range(200))
    assert len(batches) == len(loader)
    assert data.train_batch_size == round(200 / len(loader))
    assert [b.index.tolist() for b in data.val_dataloader()] == [
        list(range(20)),
        list(range(20, 40)),
        list(range(40, 50)),
    ]
    with pytest.raises(UserError, match=r"data\.batch_tokens=15 has no room"):
        Few(train=train, batch_tokens=15).train_dataloader()


def test_a_part_of_the_training_part_keeps_its_references():
    train = [(f"s{i}", f"t{i}") for i in range(20)]
    for data in (Few(train=train, fraction=0.25), Few(train=train, overfit=True, batch_size=5, batch_tokens=4)):
        batch = data.part("train")[torch.arange(5)]
        assert len(data.part("train")) == 5
        assert data.prepare().facts["src_vocab_size"] == 24
        names = [data.references("train")[i] for i in batch.index.tolist()]
        assert texts(data.tgt_tokenizer, batch.tgt_out) == names
    assert [data.references("val")[i] for i in data.part("val")[torch.arange(5)].index.tolist()] == names
    assert len(list(data.train_dataloader())) == 1


def test_the_fingerprint_is_of_both_sides():
    prints = {Few(train=pairs).prepare().fingerprint for pairs in (TRAIN, TRAIN[::-1], [(b, a) for a, b in TRAIN])}
    assert len(prints) == 3
    assert Few().prepare().fingerprint in prints


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tokenizer": "wrod"}, r"data\.tokenizer=wrod; did you mean 'word'\?"),
        ({"max_len": 1}, r"data\.max_len=1 must be a whole number from 2 on"),
        ({"batch_tokens": 0}, r"data\.batch_tokens=0"),
        ({"max_vocab_size": 4}, r"data\.max_vocab_size=4 must be a whole number from 5 on"),
        ({"min_count": 99}, r"data\.min_count=99 leaves none of the words"),
        ({"max_len": 2, "train": TRAIN[:1]}, r"data\.max_len=2 leaves no training pair"),
        ({"train": [("", "a")]}, "no pair with both a source and a target"),
        ({"tokenizer": "bpe", "max_vocab_size": 50}, r"data\.max_vocab_size=50: .* needs at least 260"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_one_line(settings, said):
    with pytest.raises(UserError, match=said) as error:
        Few(**settings).prepare()
    assert "\n" not in str(error.value)
