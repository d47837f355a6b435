"""Text to numbers and back: a vocabulary of characters, of words, of byte pairs, or of pieces of words.

A tokenizer is fitted to the training part alone, is written into the checkpoint as plain containers (`to_dict`), and
comes back from there (`load`). What it does not know becomes `<unk>`; byte pairs know every text.

Byte pairs: Sennrich, Haddow, Birch, "Neural machine translation of rare words with subword units", 2016 (arXiv
1508.07909), on bytes as in GPT-2, by the `tokenizers` library.
Pieces of words: Wu et al., "Google's neural machine translation system", 2016 (arXiv 1609.08144), section 4.1, cut as
BERT does, by the same library.
"""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from zoo.errors import UserError, suggest

PAD, UNKNOWN = "<pad>", "<unk>"
BOS, EOS, MASK = "<bos>", "<eos>", "<mask>"  # where a sequence begins and ends; what a hidden token is read as
PAIR_SPECIAL = (PAD, UNKNOWN, BOS, EOS)  # begin each vocabulary of sources and targets
PAD_NUMBER, UNKNOWN_NUMBER, BOS_NUMBER, EOS_NUMBER = range(len(PAIR_SPECIAL))
NEVER_WRITTEN = (PAD_NUMBER, UNKNOWN_NUMBER, BOS_NUMBER)  # they stand for no text
BYTE_PAIRS = 2000  # tokens of a vocabulary of byte pairs, where nobody asks for another number
WORDS = re.compile(r"\w+(?:['’]\w+)?|['’]\w+|[^\w\s]")  # words with their apostrophes, each other sign by itself


class Tokenizer(ABC):
    """A vocabulary with its way to cut text.

    Attributes:
        kind: "char", "word", "bpe" or "wordpiece".
        tokens: text of each number; special ones stand first.
    """

    kind: str
    tokens: list[str]

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The numbers of a text; those of what is not in the vocabulary are that of `<unk>`."""

    @abstractmethod
    def decode(self, numbers: Iterable[int]) -> str:
        """The text of numbers, without padding."""

    @abstractmethod
    def unknown(self, text: str) -> list[str]:
        """The pieces of a text that are not in the vocabulary, each once, in the order of the text."""

    @abstractmethod
    def num_characters(self) -> list[int] | None:
        """How many characters each token stands for, for bits per character; None where that is not known."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for `load`."""


class Vocabulary(Tokenizer):
    """Base of tokenizers that look up pieces in a list.

    Args:
        tokens: the vocabulary, special tokens first, `<unk>` among them.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = list(tokens)
        self.number = {token: i for i, token in enumerate(self.tokens)}
        if UNKNOWN not in self.number or len(self.number) < len(self.tokens):
            raise UserError(f"A vocabulary needs {UNKNOWN} and each token once.")

    @abstractmethod
    def cut(self, text: str) -> Sequence[str]:
        """The pieces of a text."""

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        *,
        special: Sequence[str] = (UNKNOWN,),
        min_count: int = 1,
        max_size: int | None = None,
    ) -> "Vocabulary":
        """The pieces of `texts`, the most frequent first, those of equal count in their own order.

        Args:
            special: tokens that stand first.
            min_count: how often a piece must occur.
            max_size: of the vocabulary, special tokens included; None for no limit.

        Raises:
            UserError: there is nothing in the texts, or no room in the vocabulary.
        """
        if max_size is not None and max_size <= len(special):
            raise UserError(f"A vocabulary of {max_size} tokens has no room; it needs at least {len(special) + 1}.")
        counter: Counter[str] = Counter()
        cutter = cls([UNKNOWN])
        for text in texts:
            counter.update(cutter.cut(text))
        if not counter:
            raise UserError("The training text is empty; there is nothing to make a vocabulary of.")
        found = sorted((token for token, n in counter.items() if n >= min_count), key=lambda t: (-counter[t], t))
        kept = [token for token in found if token not in special]
        return cls([*special, *kept][:max_size])

    def encode(self, text: str) -> list[int]:
        unknown = self.number[UNKNOWN]
        return [self.number.get(piece, unknown) for piece in self.cut(text)]

    def unknown(self, text: str) -> list[str]:
        return list(dict.fromkeys(piece for piece in self.cut(text) if piece not in self.number))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokens": list(self.tokens)}


class CharTokenizer(Vocabulary):
    """Each character is a token."""

    kind = "char"

    def cut(self, text: str) -> Sequence[str]:
        return text  # a string is a sequence of its characters

    def decode(self, numbers: Iterable[int]) -> str:
        return "".join("�" if self.tokens[i] == UNKNOWN else self.tokens[i] for i in numbers if self.tokens[i] != PAD)

    def num_characters(self) -> list[int]:
        return [1] * self.vocab_size


class WordTokenizer(Vocabulary):
    """Each word and each other sign is a token; case and white space are not kept.

    Args:
        tokens: see `Vocabulary`.
        lower: words are lower-cased.
    """

    kind = "word"

    def __init__(self, tokens: Sequence[str], *, lower: bool = True) -> None:
        super().__init__(tokens)
        self.lower = lower

    def cut(self, text: str) -> Sequence[str]:
        return WORDS.findall(text.lower() if self.lower else text)

    def decode(self, numbers: Iterable[int]) -> str:
        return " ".join(self.tokens[i] for i in numbers if self.tokens[i] != PAD)

    def num_characters(self) -> None:
        return None

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"lower": self.lower}


class BytePairTokenizer(Tokenizer):
    """Pairs of bytes that often stand together, merged again and again.

    Args:
        definition: what `tokenizers` writes, JSON.
    """

    kind = "bpe"

    def __init__(self, definition: str) -> None:
        import tokenizers

        try:
            self.model = tokenizers.Tokenizer.from_str(definition)
        except Exception as error:  # the library has no class of its own
            raise UserError(f"The vocabulary of byte pairs is damaged ({error}).") from error
        self.model.encode_special_tokens = True  # a text that spells <pad> means these five characters
        self.definition = definition
        size = self.model.get_vocab_size()
        self.tokens = [self.model.id_to_token(i) or "" for i in range(size)]

    @classmethod
    def fit(
        cls, texts: Iterable[str], *, special: Sequence[str] = (), min_count: int = 2, max_size: int | None = None
    ) -> "BytePairTokenizer":
        """Merges of the most frequent pairs until there are `max_size` tokens; see `Vocabulary.fit`.

        Args:
            min_count: how often a pair must stand in the texts to become a token.
            max_size: None is `BYTE_PAIRS`.
        """
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers, trainers

        alphabet = pre_tokenizers.ByteLevel.alphabet()
        max_size, texts = BYTE_PAIRS if max_size is None else max_size, list(texts)
        if max_size < len(alphabet) + len(special):
            least = len(alphabet) + len(special)
            raise UserError(f"A vocabulary of {max_size} byte pairs has no room; it needs at least {least}.")
        if not any(texts):
            raise UserError("The training text is empty; there is nothing to make a vocabulary of.")
        model = tokenizers.Tokenizer(models.BPE())
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=max_size,
            min_frequency=min_count,
            special_tokens=list(special),
            initial_alphabet=sorted(alphabet),
            show_progress=False,
        )
        model.train_from_iterator(map(whole, texts), trainer)
        return cls(model.to_str())

    def encode(self, text: str) -> list[int]:
        return self.model.encode(whole(text), add_special_tokens=False).ids

    def decode(self, numbers: Iterable[int]) -> str:
        return self.model.decode(list(numbers), skip_special_tokens=True)

    def unknown(self, text: str) -> list[str]:
        return []

    def num_characters(self) -> list[int]:
        """Bytes that begin a character are counted; a token of continuing bytes alone, or a special one, has none."""
        byte_of = {char: byte for byte, char in enumerate(byte_characters())}
        special = self.model.get_added_tokens_decoder()  # by number
        return [
            0 if i in special else sum((byte_of[char] & 0xC0) != 0x80 for char in token)
            for i, token in enumerate(self.tokens)
        ]

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "definition": self.definition}


class WordPieceTokenizer(Tokenizer):
    """Words cut into the longest pieces that the vocabulary has; a piece inside a word is written with ## before it.

    Args:
        tokens: the vocabulary, special tokens first, `unknown_token` among them.
        lower: words are lower-cased and lose their accents.
        unknown_token: what a word is read as that cannot be cut into known pieces; BERT's own lists have [UNK].
    """

    kind = "wordpiece"

    def __init__(self, tokens: Sequence[str], *, lower: bool = True, unknown_token: str = UNKNOWN) -> None:
        import tokenizers
        from tokenizers import decoders, models, normalizers, pre_tokenizers

        self.tokens, self.lower, self.unknown_token = list(tokens), lower, unknown_token
        number = {token: i for i, token in enumerate(self.tokens)}
        if unknown_token not in number or len(number) < len(self.tokens):
            raise UserError(f"A vocabulary needs {unknown_token} and each token once.")
        self.model: Any = tokenizers.Tokenizer(models.WordPiece(number, unk_token=unknown_token))
        self.model.normalizer = normalizers.BertNormalizer(lowercase=lower)
        self.model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self.model.decoder = decoders.WordPiece()

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        *,
        special: Sequence[str] = (UNKNOWN,),
        min_count: int = 2,
        max_size: int | None = None,
    ) -> "WordPieceTokenizer":
        """Merges of pieces until there are `max_size` tokens; see `BytePairTokenizer.fit`."""
        from tokenizers import trainers

        max_size, texts = BYTE_PAIRS if max_size is None else max_size, list(texts)
        model = cls([UNKNOWN]).model
        words = {
            word
            for text in texts
            for word, _ in model.pre_tokenizer.pre_tokenize_str(model.normalizer.normalize_str(whole(text)))
        }
        if not words:
            raise UserError("The training text is empty; there is nothing to make a vocabulary of.")
        # The trainer numbers letters inside a word in the order of a hash table, which differs from process to process.
        inside = [f"##{letter}" for letter in sorted({letter for word in words for letter in word[1:]})]
        least = len(special) + len(inside) + len({letter for word in words for letter in word})
        if max_size < least:
            raise UserError(f"A vocabulary of {max_size} pieces has no room; it needs at least {least}.")
        trainer = trainers.WordPieceTrainer(
            vocab_size=max_size, min_frequency=min_count, special_tokens=[*special, *inside], show_progress=False
        )
        model.train_from_iterator(map(whole, texts), trainer)
        return cls([model.id_to_token(i) for i in range(model.get_vocab_size())])

    def encode(self, text: str) -> list[int]:
        return self.model.encode(whole(text), add_special_tokens=False).ids

    def decode(self, numbers: Iterable[int]) -> str:
        return self.model.decode([i for i in numbers if self.tokens[i] != PAD])

    def unknown(self, text: str) -> list[str]:
        text = whole(text)
        found = self.model.encode(text, add_special_tokens=False)
        strange = (text[a:b] for token, (a, b) in zip(found.tokens, found.offsets, strict=True)
                   if token == self.unknown_token)  # fmt: skip
        return list(dict.fromkeys(strange))

    def num_characters(self) -> None:
        return None

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokens": self.tokens, "lower": self.lower, "unknown_token": self.unknown_token}


def words(text: str) -> list[str]:
    """The words and other signs of a text in lower case, as the tokenizer of words cuts them."""
    return list(WordTokenizer([UNKNOWN]).cut(text))


def whole(text: str) -> str:
    """Half characters (lone surrogates, as in an undecodable file name) cannot be bytes and become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def byte_characters() -> list[str]:
    """The printable character that stands for each of the 256 bytes in a vocabulary of byte pairs (as GPT-2 has it)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    shifted = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(shifted)) for byte in range(256)]


KINDS: dict[str, Any] = {
    "char": CharTokenizer,
    "word": WordTokenizer,
    "bpe": BytePairTokenizer,
    "wordpiece": WordPieceTokenizer,
}
PIECES = {"word": "words", "char": "characters", "bpe": "byte pairs", "wordpiece": "word pieces"}  # what they cut


def fit(kind: str, texts: Iterable[str], **options: Any) -> Tokenizer:
    """A tokenizer of that kind for the texts of the training part; see its `fit`."""
    if kind not in KINDS:
        raise UserError(f"There is no tokenizer '{kind}'{suggest(kind, KINDS)}")
    return KINDS[kind].fit(texts, **options)


def load(saved: dict[str, Any]) -> Tokenizer:
    """The inverse of `to_dict`. Raises UserError where it is not as this version writes it."""
    try:
        return KINDS[saved["kind"]](**{key: value for key, value in saved.items() if key != "kind"})
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"The vocabulary of the checkpoint is not understood ({error}).") from error


def text_of(tokenizer: Tokenizer, numbers: Sequence[int]) -> str:
    """The text of tokens of a pair, without those that mark its beginning, its end and its padding."""
    return tokenizer.decode([n for n in numbers if n not in (PAD_NUMBER, BOS_NUMBER, EOS_NUMBER)])


def pieces(tokenizer: Tokenizer, numbers: Sequence[int]) -> list[str]:
    """What each token of a pair stands for; a byte pair that begins a word begins with a space."""
    readable = tokenizer.kind == "bpe"
    return [tokenizer.decode([n]) if readable and n >= len(PAIR_SPECIAL) else tokenizer.tokens[n] for n in numbers]
