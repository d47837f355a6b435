"""Running text: continuity of rows, shares, vocabulary of the training part, files that are no text."""

import os
import random
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from zoo.data.base import Loader
from zoo.data.corpus import PythonDocs, TextFile, TinyShakespeare
from zoo.data.windows import ContinuedBatch, Span, StreamOrder, WindowOrder, Windows
from zoo.errors import UserError
from zoo.text import load

LETTERS = "abcdefghij \n"


def letters(length=1000, seed=0):
    return "".join(random.Random(seed).choices(LETTERS, k=length))


def write(folder, content, name="my.txt"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def corpus(folder, content=None, **settings):
    return TextFile(path=write(folder, letters() if content is None else content), **{"window": 8, **settings})


def numbers(length):
    """A text whose every token is its own place."""
    return torch.arange(length, dtype=torch.int32)


def spans(order, epoch=0):
    order.set_epoch(epoch)
    return list(order)


# ---- stream


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize(("num_tokens", "window"), [(101, 7), (104, 5), (98, 40)])
def test_a_row_over_the_batches_is_a_stretch_of_the_text(world_size, num_tokens, window):
    windows, rows = Windows(numbers(num_tokens), window), 6
    length = (num_tokens - 1) // rows
    for rank in range(world_size):
        order = StreamOrder(windows.num_targets, rows, window=window, shuffle=True, rank=rank, world_size=world_size)
        batches = [windows[span] for span in order]
        read = torch.cat([batch.tokens for batch in batches], 1)
        own = range(rank, rows, world_size)
        assert read.tolist() == [list(range(row * length, (row + 1) * length)) for row in own]
        assert [batch.tokens.shape[1] for batch in batches[:-1]] == [window] * (len(batches) - 1)
        assert len(order) == len(batches)


def test_targets_are_inputs_moved_by_one():
    windows = Windows(torch.randint(0, 50, (200,), dtype=torch.int32), 9)
    for order in (StreamOrder(199, 4, window=9, shuffle=False), WindowOrder(199, 4, window=9, shuffle=True)):
        for span in order:
            batch = windows[span]
            assert torch.equal(batch.targets[:, :-1], batch.tokens[:, 1:])
            assert torch.equal(batch.targets[:, -1], windows.tokens[span.starts + span.length].long())
            assert batch.tokens.dtype == batch.targets.dtype == torch.int64


@pytest.mark.parametrize("kind", [StreamOrder, WindowOrder])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize(
    ("num_tokens", "rows", "window"), [(101, 6, 7), (120, 32, 5), (20, 32, 5), (2, 3, 4), (65, 4, 8)]
)
def test_judging_predicts_each_token_once(kind, world_size, num_tokens, rows, window):
    windows, seen = Windows(numbers(num_tokens), window), []
    for rank in range(world_size):
        order = kind(num_tokens - 1, rows, window=window, shuffle=False, rank=rank, world_size=world_size)
        found = [windows[span].targets for span in order]
        assert len(found) == len(order)
        seen += [int(target) for targets in found for target in targets.flatten()]
    assert sorted(seen) == list(range(1, num_tokens))


def test_only_the_same_rows_continue():
    windows, previous = Windows(numbers(101), 7), None
    order = StreamOrder(100, 6, window=7, shuffle=False)
    for batch in (windows[span] for span in order):
        follows = previous is not None and previous.shape == (len(batch.tokens),)
        follows = follows and torch.equal(batch.tokens[:, 0], previous)
        assert isinstance(batch, ContinuedBatch) == follows == getattr(batch, "continues", False)
        previous = batch.targets[:, -1]
    assert [span.continues for span in order] == [False, True, True, False]


@pytest.mark.parametrize("batching", ["stream", "windows"])
def test_a_loader_goes_on_inside_an_epoch(tmp_path, batching):
    data = corpus(tmp_path, batching=batching, batch_size=4)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(3)
    whole = [batch.tokens for batch in loader]
    again = data.train_dataloader()
    again.sampler.set_epoch(3)
    again.load_state_dict({"batches_done": 5})
    assert [b.tolist() for b in whole[5:]] == [batch.tokens.tolist() for batch in again]
    assert len(whole) == len(loader) > 6


def test_the_order_of_a_stream_is_that_of_the_text_in_every_epoch():
    order = StreamOrder(500, 4, window=16, shuffle=True, seed=1)
    first, second = spans(order), spans(order, epoch=1)
    assert all(torch.equal(a.starts, b.starts) for a, b in zip(first, second, strict=True))


# ---- windows


def test_windows_are_shuffled_anew_by_seed_and_epoch():
    def starts(seed, epoch):
        return [start for span in spans(WindowOrder(500, 4, window=16, shuffle=True, seed=seed), epoch)
                for start in span.starts.tolist()]  # fmt: skip

    assert starts(1, 2) == starts(1, 2)
    assert starts(1, 2) != starts(1, 3)
    assert starts(1, 2) != starts(2, 2)
    begins = {start % 16 for epoch in range(40) for start in starts(0, epoch)}
    assert len(begins) > 10, "windows begin anywhere"


@pytest.mark.parametrize("num_targets", [16, 31, 32, 33, 499, 512])
def test_shuffled_windows_are_whole_and_do_not_overlap(num_targets):
    order = WindowOrder(num_targets, 4, window=16, shuffle=True)
    for epoch in range(10):
        found = spans(order, epoch)
        starts = sorted(start for span in found for start in span.starts.tolist())
        assert {span.length for span in found} == {16}
        assert starts[0] >= 0
        assert starts[-1] + 16 <= num_targets
        assert all(b - a == 16 for a, b in pairwise(starts))
        assert len(found) == len(order)
        assert not any(span.continues for span in found)


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_processes_share_the_windows_of_a_batch(world_size):
    whole = spans(WindowOrder(500, 4, window=16, shuffle=True), 2)
    ranks = [
        spans(WindowOrder(500, 4, window=16, shuffle=True, rank=rank, world_size=world_size), 2)
        for rank in range(world_size)
    ]
    for step, span in enumerate(whole):
        assert sorted(torch.cat([rank[step].starts for rank in ranks]).tolist()) == sorted(span.starts.tolist())


def test_numbers_of_windows_give_a_batch_too():
    windows = Windows(numbers(50), 8)
    batch = windows[torch.tensor([0, len(windows) - 1])]
    assert batch.tokens[:, 0].tolist() == [0, 41], "the last window is moved to be whole"
    assert windows[Span(torch.tensor([3]), 2)].targets.tolist() == [[4, 5]]


# ---- parts and vocabulary


def test_parts_are_cut_by_position(tmp_path):
    text = letters(1003)
    data = corpus(tmp_path, text, shares=(0.8, 0.1, 0.1))
    parts = {name: load(data.prepare().preprocessing["tokenizer"]).decode(data.part(name).tokens.tolist())
             for name in ("train", "val", "test")}  # fmt: skip
    assert parts == {"train": text[:802], "val": text[802:903], "test": text[903:]}
    assert set(corpus(tmp_path, text, shares=(0.9, 0.1, 0.0)).prepare().parts) == {"train", "val"}
    assert set(corpus(tmp_path, text, shares=(0.9, 0.0, 0.1)).prepare().parts) == {"train", "test"}


def test_the_vocabulary_is_made_from_the_training_part_alone(tmp_path):
    text = letters(800) + letters(99, seed=1) + "é" + letters(97, seed=2) + "öéö"
    data = corpus(tmp_path, text)
    loaded = data.prepare()
    tokens = load(loaded.preprocessing["tokenizer"]).tokens
    assert sorted(tokens) == sorted(["<unk>", *LETTERS])
    assert loaded.facts["vocab_size"] == len(tokens)
    assert loaded.notes == [
        "val: 1 of 100 tokens are not in the vocabulary and are read as <unk> ('é')",
        "test: 3 of 100 tokens are not in the vocabulary and are read as <unk> ('ö', 'é')",
    ]
    assert int((data.part("test").tokens == tokens.index("<unk>")).sum()) == 3


def test_a_limit_of_words_is_kept_and_said(tmp_path):
    text = " ".join(f"w{i % 7 if i % 2 else i}" for i in range(400))
    loaded = corpus(tmp_path, text, tokenizer="word", max_vocab_size=9).prepare()
    assert loaded.facts == {"vocab_size": 9, "num_characters": None}
    assert "train: " in loaded.notes[0]
    assert "and " in loaded.notes[0]


def test_judging_uses_the_vocabulary_of_the_run(tmp_path):
    first = corpus(tmp_path, tokenizer="bpe", max_vocab_size=300)
    kept = first.prepare().preprocessing
    other = corpus(tmp_path, "züge" * 3)  # too short to train on
    other.prepare_as(kept)
    assert other.prepare().preprocessing == kept
    assert other.prepare().facts["vocab_size"] == 300
    wrong = corpus(tmp_path)
    wrong.prepare_as({"kind": "image"})
    with pytest.raises(UserError, match="trained on data of kind 'image'"):
        wrong.prepare()


def test_another_text_has_another_fingerprint(tmp_path):
    found = {corpus(tmp_path, letters(seed=seed)).prepare().fingerprint for seed in (0, 1, 1)}
    assert len(found) == 2


def test_a_fraction_is_the_beginning_of_the_training_part(tmp_path):
    whole, half = corpus(tmp_path), corpus(tmp_path, fraction=0.5)
    assert torch.equal(half.part("train").tokens, whole.part("train").tokens[:401])
    assert torch.equal(half.part("val").tokens, whole.part("val").tokens)
    assert half.prepare().preprocessing == whole.prepare().preprocessing


@pytest.mark.parametrize("batching", ["stream", "windows"])
def test_overfitting_is_on_one_batch(tmp_path, batching):
    data = corpus(tmp_path, batching=batching, batch_size=4, overfit=True)
    assert data.part("val") is data.part("train")
    assert data.part("train").num_targets == 32
    assert len(data.train_dataloader()) == 1


def test_full_is_all_of_the_text_in_one_batch(tmp_path):
    (batch,) = corpus(tmp_path, batch_size="full").train_dataloader()
    assert batch.targets.numel() >= 700  # of 799, in 100 rows
    assert isinstance(corpus(tmp_path).train_dataloader(), Loader)


# ---- files


@pytest.mark.parametrize("content", ["a\r\nb\rc\n" * 200, "\ufeff" + "a\nb\nc\n" * 200])
def test_ends_of_lines_and_byte_order_marks_are_no_text(tmp_path, content):
    data = corpus(tmp_path, content)
    assert data.read() == "a\nb\nc\n" * 200


def test_an_encoding_can_be_chosen(tmp_path):
    text = "Übung macht den Meister; \n" * 50
    for encoding in ("cp1252", "utf-16"):
        assert TextFile(path=write(tmp_path, text.encode(encoding)), encoding=encoding).read() == text


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("Übung".encode("cp1252") * 99, r"not UTF-8 text \(byte 0xdc at offset 0\); likely encodings: cp1252, .*"
                                        r"Choose one with data.encoding=cp1252"),
        ("日本語テキスト。".encode("shift_jis") * 99, "likely encodings: .*shift_jis"),
        ("Übung".encode("utf-16") * 99, "begins like UTF-16: choose it with data.encoding=utf-16"),
        (b"\x89PNG\0\0\x80" * 99, "zero bytes are in no text"),
        (b"abc\0" * 99, "zero bytes are in no text"),
        (b"", "is empty"),
        (b" \n\n ", "is empty"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_text_is_one_line(tmp_path, content, told):
    with pytest.raises(UserError, match=told) as error:
        corpus(tmp_path, content).prepare()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"content": "ab" * 20, "window": 64}, "has 32 tokens, and data.window=64 needs 65 at least"),
        ({"content": "ab" * 20, "batch_size": 32}, "32 tokens, too few for data.batch_size=32 rows"),
        ({"content": "          ab", "shares": (0.5, 0.3, 0.2)}, "training part is empty"),
        ({"fraction": 0.001}, "needs 9 at least"),
        ({"tokenizer": "chars"}, "no data.tokenizer=chars; did you mean 'char'"),
        ({"batching": "streams"}, "no data.batching=streams; did you mean 'stream'"),
        ({"window": 0}, "data.window=0 must be a whole number from 1 on"),
        ({"max_vocab_size": 1}, "data.max_vocab_size=1 must be a whole number from 2 on"),
        ({"tokenizer": "bpe", "max_vocab_size": 99}, "data.max_vocab_size=99: .* at least 256"),
        ({"shares": (0.8, 0.3, 0.1)}, "must be shares of train, val and test that sum to 1"),
        ({"encoding": "utf-9"}, "no encoding 'utf-9'"),
    ],
)
def test_what_cannot_be_read_or_cut_is_one_line(tmp_path, settings, told):
    with pytest.raises(UserError, match=told) as error:
        corpus(tmp_path, **settings).prepare()
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    for path, told in ((tmp_path / "no.txt", "There is no file"), (tmp_path, "is a folder")):
        with pytest.raises(UserError, match=told):
            TextFile(path=str(path)).prepare()


# ---- named texts


def test_the_language_reference_says_which_python_it_is_of():
    data = PythonDocs()
    loaded = data.prepare()
    assert "language reference of Python 3." in loaded.notes[0]
    assert len(data.part("train")) > 1000
    assert loaded.facts["num_characters"] == [1] * loaded.facts["vocab_size"]


def test_no_paragraph_of_the_language_reference_is_in_two_parts():
    paragraphs = PythonDocs().read().split("\n\n")
    assert len(paragraphs) == len(set(paragraphs)) > 1000


@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="ZOO_DATA names no folder with the data")
def test_tiny_shakespeare_is_cut_as_published():
    data = TinyShakespeare(data_dir=os.environ["ZOO_DATA"])
    loaded = data.prepare()
    assert (len(data.part("train").tokens), len(data.part("val").tokens)) == (1003854, 111540)
    assert loaded.facts["vocab_size"] == 65 + 1
    assert set(loaded.parts) == {"train", "val"}
    assert loaded.notes == []


def test_a_changed_tiny_shakespeare_is_refused(tmp_path):
    place = Path(tmp_path / "tinyshakespeare")
    place.mkdir()
    write(place, "First Citizen:", "input.txt")
    with pytest.raises(UserError, match="not the published file"):
        TinyShakespeare(data_dir=str(tmp_path)).prepare()


def test_a_download_that_fails_says_where_the_file_belongs(tmp_path, monkeypatch):
    monkeypatch.setattr(TinyShakespeare, "url", "http://127.0.0.1:9/input.txt")
    with pytest.raises(UserError, match=r"Put input\.txt into"):
        TinyShakespeare(data_dir=str(tmp_path)).prepare()
