"""Published sentences: parts, folds, and a vocabulary that has seen the training part alone."""

import os
from pathlib import Path

import pytest
import torch

from zoo.batches import TextBatch
from zoo.data.sentences import Mr, PythonTopics, Sst2, Trec, folds_of
from zoo.data.texts import TextPreprocessing
from zoo.errors import UserError

DATA = os.environ.get("ZOO_DATA", "")
needs_data = pytest.mark.skipif(
    not (Path(DATA) / "sentences").is_dir(), reason="ZOO_DATA names no folder with sentences/"
)


def texts_of(data, part):
    """The texts of a part, as the model sees them."""
    found, decode = data.part(part), TextPreprocessing.from_dict(data.prepare().preprocessing).tokenizer.decode
    return [decode(numbers.tolist()) for numbers in found.sequences.values.split(found.lengths.tolist())]


@pytest.mark.parametrize(("number", "folds"), [(100, 10), (103, 10), (7, 3), (40, 2)])
def test_folds_are_disjoint_cover_all_and_hold_each_class_evenly(number, folds):
    labels = torch.arange(number) % 3
    fold = folds_of(labels, folds, seed=0)
    assert torch.equal(fold.unique(), torch.arange(folds))
    for some in (labels == labels, *(labels == k for k in range(3))):
        counts = torch.bincount(fold[some], minlength=folds)
        assert counts.max() - counts.min() <= 1
    assert torch.equal(fold, folds_of(labels, folds, seed=0))
    assert not torch.equal(fold, folds_of(labels, folds, seed=1))


@needs_data
def test_folds_of_the_reviews_share_no_sentence_and_cover_all():
    labels = Mr(data_dir=DATA).file("rt-polarity.all")[1]
    assert torch.bincount(labels).tolist() == [5331, 5331]
    folds = [Mr(data_dir=DATA, fold=fold, val_size=0).read().parts for fold in range(10)]
    tests = [text for parts in folds for text in parts["test"][0]]
    assert sorted(tests) == sorted(folds[0]["train"][0] + folds[0]["test"][0])
    assert len(tests) == 10662
    assert all(len(parts["train"][0]) + len(parts["test"][0]) == 10662 for parts in folds)
    assert [int(parts["test"][1].sum()) for parts in folds] == pytest.approx([533] * 10, abs=1)
    last = Mr(data_dir=DATA, fold=9).read().parts
    assert last["test"][0] == folds[9]["test"][0]  # validation is taken from the other folds
    assert sorted(last["train"][0] + last["val"][0]) == sorted(folds[9]["train"][0])
    assert len(last["val"][0]) == 960


@needs_data
def test_the_seed_alone_decides_what_is_in_a_part():
    def parts(**options):
        return {name: texts for name, (texts, _) in Mr(data_dir=DATA, **options).read().parts.items()}

    assert parts(seed=1) == parts(seed=1)
    assert all(parts(seed=1)[name] != parts(seed=2)[name] for name in ("train", "val", "test"))


@needs_data
@pytest.mark.parametrize(
    ("kind", "sizes", "num_classes"),
    [(Trec, [4907, 545, 500], 6), (Sst2, [6920, 872, 1821], 2)],
    ids=["trec", "sst2"],
)
def test_official_parts_have_their_published_sizes(kind, sizes, num_classes):
    loaded = kind(data_dir=DATA).prepare()
    assert [len(loaded.parts[name]) for name in ("train", "val", "test")] == sizes
    assert loaded.facts["num_classes"] == len(loaded.class_names) == num_classes
    assert sum(loaded.facts["label_counts"]) == sizes[0]
    assert min(loaded.facts["label_counts"]) > 0


@needs_data
def test_questions_have_their_own_labels():
    parts = Trec(data_dir=DATA, val_size=0).read().parts
    texts, labels = parts["train"]
    names = Trec.class_names
    found = dict(zip(texts, (names[k] for k in labels.tolist()), strict=True))
    assert found["How did serfdom develop in and then leave Russia ?"] == "description"
    assert found["What films featured the character Popeye Doyle ?"] == "entity"
    assert torch.bincount(parts["test"][1]).tolist() == [138, 94, 9, 65, 81, 113]


@needs_data
def test_the_first_batches_tell_of_every_class():
    for data, least in ((Mr(data_dir=DATA), 0.3), (PythonTopics(), 0.0)):
        labels = data.part("test")[torch.arange(100)].label
        counts = torch.bincount(labels, minlength=data.prepare().facts["num_classes"])
        assert counts.min() > least * 100


@needs_data
def test_files_in_latin_1_keep_their_letters():
    words = Mr(data_dir=DATA, val_size=0).prepare().preprocessing["tokenizer"]["tokens"]
    assert {"cliché", "fiancé"} & set(words)
    assert not [word for word in words if "�" in word or "Ã" in word]


@needs_data
def test_the_vocabulary_knows_the_training_part_alone_and_says_so():
    data = Trec(data_dir=DATA)
    loaded, source = data.prepare(), data.read().parts
    tokenizer = TextPreprocessing.from_dict(loaded.preprocessing).tokenizer
    words = {name: {piece for text in texts for piece in tokenizer.cut(text)} for name, (texts, _) in source.items()}
    assert set(tokenizer.tokens) == words["train"] | {"<pad>", "<unk>"}
    assert words["test"] - set(tokenizer.tokens)
    unknown = {name: int((loaded.parts[name].sequences.values == 1).sum()) for name in words}
    assert unknown["train"] == 0
    for name in ("val", "test"):
        (note,) = [note for note in loaded.notes if note.startswith(f"In the {name} part")]
        assert f" {unknown[name]:,} of {len(loaded.parts[name].sequences.values):,} words are not in" in note
        assert note.split("<unk>: ")[1].split(", ")[0].strip("'") in words[name] - words["train"]


def test_no_paragraph_is_in_two_parts_and_every_part_has_every_class():
    data = PythonTopics()
    parts = data.read().parts
    texts = [text for part, _ in parts.values() for text in part]
    assert len(texts) == len(set(texts)) > 300
    assert all(len(labels.unique()) == 8 for _, labels in parts.values())
    assert data.prepare().class_names[0] == "compound"


def test_batches_are_padded_texts_with_their_labels():
    data = PythonTopics(batch_size=7)
    (texts, labels), loaded = data.read().parts["train"], data.prepare()
    tokenizer = TextPreprocessing.from_dict(loaded.preprocessing).tokenizer
    label_of = {tuple(tokenizer.encode(text)): label for text, label in zip(texts, labels.tolist(), strict=True)}
    seen = 0
    for batch in data.train_dataloader():
        assert isinstance(batch, TextBatch)
        assert batch.tokens.dtype == batch.label.dtype == torch.int64
        assert batch.tokens.shape == batch.mask.shape
        assert batch.mask.any(0).all()  # nothing is padded further than the longest
        for tokens, mask, label in zip(*batch, strict=True):
            assert label_of[tuple(tokens[mask].tolist())] == label
            assert not tokens[~mask].any()
        seen += len(batch.label)
    assert seen == len(texts)


def test_batches_of_training_are_of_similar_lengths():
    data = PythonTopics(batch_size=16, max_len=100)
    real, all_places = 0, 0
    for batch in data.train_dataloader():
        real, all_places = real + int(batch.mask.sum()), all_places + batch.mask.numel()
    assert all_places < 1.3 * real


def test_long_texts_are_cut_at_their_end_and_it_is_said():
    whole, short = PythonTopics(), PythonTopics(max_len=12)
    one, other = whole.part("test"), short.part("test")
    assert int(other.lengths.max()) == 12
    first = torch.arange(3)
    assert torch.equal(other[first].tokens, one[first].tokens[:, :12])
    longer = int((one.lengths > 12).sum())
    assert (
        f"In the test part {longer} of {len(one)} texts are longer than 12 words and are cut" in short.prepare().notes
    )
    assert not [note for note in whole.prepare().notes if "longer" in note]


def test_characters_are_tokens_where_that_is_asked_for():
    data = PythonTopics(tokenizer="char")
    parts = data.read().parts
    assert texts_of(data, "train") == parts["train"][0]
    assert data.prepare().facts["vocab_size"] == 2 + len(set("".join(parts["train"][0])))


def test_rare_words_are_unknown_where_that_is_asked_for():
    every, frequent = PythonTopics(), PythonTopics(min_count=3)
    sizes = [data.prepare().facts["vocab_size"] for data in (every, frequent)]
    assert sizes[1] < 0.6 * sizes[0]
    assert (frequent.part("train").sequences.values == 1).any()
    assert PythonTopics(max_vocab_size=50).prepare().facts["vocab_size"] == 50
    with pytest.raises(UserError, match=r"data\.min_count=1000000 leaves none of the words"):
        PythonTopics(min_count=1_000_000).prepare()


def test_texts_are_seen_as_an_earlier_run_saw_them():
    first, again = PythonTopics(min_count=2, max_len=30), PythonTopics(seed=5)
    again.prepare_as(first.prepare().preprocessing, first.prepare().class_names)
    assert again.prepare().preprocessing == first.prepare().preprocessing
    assert again.prepare().facts["vocab_size"] == first.prepare().facts["vocab_size"]
    assert int(again.part("test").lengths.max()) <= 30
    other = PythonTopics()
    other.prepare_as({"kind": "image"})
    with pytest.raises(UserError, match="trained on data of kind 'image'"):
        other.prepare()


def test_missing_files_are_fetched_once_and_without_a_network_it_is_one_line(tmp_path, monkeypatch):
    from torchvision.datasets import utils

    asked = []

    def offline(url, *rest, **options):
        asked.append(url)
        raise OSError("no route to host")

    monkeypatch.setattr(utils, "download_url", offline)
    with pytest.raises(UserError, match="no route to host") as error:
        Mr(data_dir=tmp_path).prepare()
    assert "Put rt-polarity.all into" in str(error.value)
    assert "\n" not in str(error.value)
    assert asked[0].endswith("/data/rt-polarity.all")


def test_another_file_in_place_of_a_published_one_is_named(tmp_path):
    (tmp_path / "sentences").mkdir()
    (tmp_path / "sentences" / "rt-polarity.all").write_text("0 dull\n1 fine\n")
    with pytest.raises(UserError, match=r"rt-polarity\.all is not the published file"):
        Mr(data_dir=tmp_path).prepare()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fold": 10}, r"data\.fold=10 must be from 0 to 9"),
        ({"fold": -1}, r"data\.fold=-1 must be a whole number from 0 on"),
        ({"folds": 1}, r"data\.folds=1 must be a whole number from 2 on"),
        ({"val_size": -1}, r"data\.val_size=-1"),
        ({"tokenizer": "wrod"}, r"data\.tokenizer=wrod; did you mean 'word'\?"),
        ({"min_count": 0}, r"data\.min_count=0"),
        ({"max_len": 0}, r"data\.max_len=0"),
        ({"max_vocab_size": 2}, r"data\.max_vocab_size=2"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_one_line(options, said):
    with pytest.raises(UserError, match=said):
        Mr(data_dir="unused", **options)


@needs_data
def test_more_validation_than_there_is_training_is_one_line():
    with pytest.raises(UserError, match=r"data\.val_size=9999 must be below 5452"):
        Trec(data_dir=DATA, val_size=9999).prepare()
