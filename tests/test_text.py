"""Tokenizers: what they keep of a text, what they know, how they come back from a checkpoint."""

import random
import unicodedata

import pytest

from zoo.errors import UserError
from zoo.text import (
    BYTE_PAIRS,
    PAD,
    UNKNOWN,
    BytePairTokenizer,
    CharTokenizer,
    WordTokenizer,
    byte_characters,
    fit,
    load,
)

TEXT = "the cat sat on the mat, and the dog sat on the cat.\n" * 4
KINDS = ("char", "word", "bpe")


def any_unicode(seed, length=200):
    """Characters from all over Unicode, half of them from its first pages."""
    draw = random.Random(seed)
    found = []
    while len(found) < length:
        char = chr(draw.randrange(0x110000) if draw.random() < 0.5 else draw.randrange(0x400))
        if unicodedata.category(char) != "Cs":  # a half character is none
            found.append(char)
    return "".join(found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_comes_back_from_plain_containers(kind):
    tokenizer = fit(kind, [TEXT])
    again = load(tokenizer.to_dict())
    assert type(again) is type(tokenizer)
    assert again.tokens == tokenizer.tokens
    assert again.encode(TEXT + "zebra é") == tokenizer.encode(TEXT + "zebra é")


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_of_the_vocabulary(kind):
    tokenizer = fit(kind, [TEXT], special=(PAD, UNKNOWN))
    numbers = tokenizer.encode(TEXT + any_unicode(0))
    assert 0 <= min(numbers) <= max(numbers) < tokenizer.vocab_size == len(tokenizer.tokens)
    assert tokenizer.tokens[:2] == [PAD, UNKNOWN]


@pytest.mark.parametrize("seed", range(5))
def test_byte_pairs_give_back_any_text(seed):
    tokenizer = fit("bpe", [TEXT], max_size=300)
    text = any_unicode(seed) + "  two spaces\r\n\ttab <unk> "
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.unknown(text) == []


def test_a_text_that_spells_a_special_token_means_its_characters():
    tokenizer = fit("bpe", [TEXT], special=(PAD, UNKNOWN))
    assert tokenizer.decode(tokenizer.encode("a <pad> b")) == "a <pad> b"
    assert not {0, 1} & set(tokenizer.encode("a <pad> <unk> b"))
    assert tokenizer.decode([0, *tokenizer.encode("cat"), 0]) == "cat"


def test_half_a_character_is_no_crash():
    tokenizer = fit("bpe", [TEXT + "\ud800"])
    assert tokenizer.decode(tokenizer.encode("a\udce9b")) == "a?b"


def test_characters_give_back_what_they_know_and_mark_the_rest():
    tokenizer = fit("char", ["abc\n"], special=(PAD, UNKNOWN))
    assert tokenizer.decode(tokenizer.encode("cab\n")) == "cab\n"
    assert tokenizer.encode("aéb") == [tokenizer.number["a"], 1, tokenizer.number["b"]]
    assert tokenizer.decode([0, *tokenizer.encode("aéb"), 0]) == "a�b"
    assert tokenizer.unknown("xayxb") == ["x", "y"]


def test_words_are_cut_at_signs_and_lower_cased():
    tokenizer = fit("word", ["Don't stop; it's 2.5 °C"])
    assert tokenizer.cut("Don't STOP; it's 2.5 °C") == ["don't", "stop", ";", "it's", "2", ".", "5", "°", "c"]
    assert tokenizer.decode(tokenizer.encode("Stop the 5")) == f"stop {UNKNOWN} 5"
    assert load(tokenizer.to_dict() | {"lower": False}).cut("Stop") == ["Stop"]


def test_frequent_pieces_come_first_and_the_order_of_texts_does_not_matter():
    tokenizer = fit("word", ["b a c a", "d c a"])
    assert tokenizer.tokens == [UNKNOWN, "a", "c", "b", "d"]
    assert fit("word", ["d c a", "b a c a"]).tokens == tokenizer.tokens
    assert fit("word", ["b a c a", "d c a"], min_count=2).tokens == [UNKNOWN, "a", "c"]
    assert fit("word", ["b a c a", "d c a"], max_size=2).tokens == [UNKNOWN, "a"]


def test_a_vocabulary_of_byte_pairs_has_the_size_that_was_asked_for():
    draw = random.Random(0)
    text = " ".join("".join(draw.choices("abcdefgh", k=6)) for _ in range(8000))
    assert fit("bpe", [text], max_size=400).vocab_size == 400
    assert fit("bpe", [text]).vocab_size == BYTE_PAIRS
    long, short = (len(fit("bpe", [text], max_size=size).encode(text)) for size in (256, 600))
    assert short < long == len(text)


@pytest.mark.parametrize("seed", range(3))
def test_tokens_together_have_as_many_characters_as_the_text(seed):
    text = TEXT + any_unicode(seed)
    for tokenizer in (fit("char", [TEXT]), fit("bpe", [text, TEXT], max_size=400, special=(PAD,))):
        length = tokenizer.num_characters()
        assert len(length) == tokenizer.vocab_size
        assert sum(length[i] for i in tokenizer.encode(text)) == len(text)
    assert length[0] == 0, "padding is no text"
    assert fit("word", [TEXT]).num_characters() is None, "white space is not kept"


def test_bytes_have_their_characters():
    characters = byte_characters()
    assert len(set(characters)) == 256
    assert set(characters) == set(fit("bpe", [TEXT], max_size=256).tokens)
    assert (characters[ord("A")], characters[ord(" ")]) == ("A", "Ġ")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: fit("chars", [TEXT]), "no tokenizer 'chars'; did you mean 'char'"),
        (lambda: fit("char", ["", ""]), "The training text is empty"),
        (lambda: fit("word", [" \n "]), "The training text is empty"),
        (lambda: fit("bpe", [""]), "The training text is empty"),
        (lambda: fit("bpe", [TEXT], max_size=100), "100 byte pairs has no room; it needs at least 256"),
        (lambda: fit("word", [TEXT], max_size=1), "1 tokens has no room; it needs at least 2"),
        (lambda: CharTokenizer(["a", "b"]), f"needs {UNKNOWN}"),
        (lambda: WordTokenizer([UNKNOWN, "a", "a"]), "each token once"),
        (lambda: BytePairTokenizer("{}"), "byte pairs is damaged"),
        (lambda: load({"kind": "runes", "tokens": []}), "is not understood"),
        (lambda: load({"kind": "char", "words": []}), "is not understood"),
    ],
)
def test_what_cannot_be_is_one_line(make, told):
    with pytest.raises(UserError, match=told) as error:
        make()
    assert "\n" not in str(error.value)
