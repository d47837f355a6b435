"""Running text: one long text, cut into parts by position, read in windows.

The vocabulary is made from the training part alone. What else stands in the other parts is read as `<unk>`, and said.

Axes: N tokens of a part, B rows, T tokens of a window (and see zoo.data.windows)
"""

import codecs
import hashlib
import platform
import re
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from zoo.data.base import PARTS, BatchOrder, DataModule, Loaded, checked_shares
from zoo.data.images import check_size, download, md5
from zoo.data.windows import BATCHINGS, StreamOrder, WindowOrder, Windows
from zoo.errors import UserError, suggest
from zoo.text import KINDS, UNKNOWN, Tokenizer, fit, load

KIND = "running_text"
SHOWN = 5  # unknown pieces that a note spells out
# Encodings that a file may be in if it is not in UTF-8: those that fail on most other text come first.
LIKELY = ("cp1252", "cp1251", "shift_jis", "gb18030", "euc_kr", "latin-1")


class RunningText(DataModule):
    """Base of all corpora: a subclass says how to `read` the text.

    Args:
        shares: of train, val and test, in this order in the text; they sum to 1. A share of 0 leaves the part out.
        tokenizer: "char", "word" or "bpe".
        max_vocab_size: of the vocabulary; None for no limit (of byte pairs: `zoo.text.BYTE_PAIRS`).
        window: T, over which gradients go back (truncated backpropagation through time).
        batching: "stream" or "windows", see `zoo.data.windows`.
        batch_size: B, rows of a batch; "full" is all of the training part at once.
        eval_batch_size: rows into which val and test are cut. Each row starts without a past, so fewer rows judge
            better and take longer.
        fraction: share of the training part that is used, from its beginning; its vocabulary stays that of the whole.
        seed, overfit: see `DataModule`.
    """

    adopts = KIND

    def __init__(
        self,
        *,
        shares: Sequence[float] = (0.8, 0.1, 0.1),
        tokenizer: str = "char",
        max_vocab_size: int | None = None,
        window: int = 64,
        batching: str = "stream",
        batch_size: int | str = 32,
        eval_batch_size: int = 32,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, fraction=fraction, overfit=overfit
        )
        checked_shares(shares)
        if tokenizer not in KINDS:
            raise UserError(f"There is no data.tokenizer={tokenizer}{suggest(tokenizer, KINDS)}")
        if batching not in BATCHINGS:
            raise UserError(f"There is no data.batching={batching}{suggest(batching, BATCHINGS)}")
        check_size("window", window, 1)
        if max_vocab_size is not None:
            check_size("max_vocab_size", max_vocab_size, 2)
        self.shares, self.kind_of_tokenizer, self.max_vocab_size = tuple(shares), tokenizer, max_vocab_size
        self.window, self.batching = window, batching
        self.tokenizer: Tokenizer | None = None  # once the text is read

    @abstractmethod
    def read(self) -> str:
        """All of the text. Raises UserError where it is missing or is no text."""

    def remarks(self) -> list[str]:
        """What the user should know about this text, a line each."""
        return []

    def load(self) -> Loaded:
        text = self.read()
        pieces = self.cut(text)
        self.tokenizer = tokenizer = self.vocabulary(pieces["train"])
        parts, notes = {}, self.remarks()
        for name, piece in pieces.items():
            windows = Windows(torch.tensor(tokenizer.encode(piece), dtype=torch.int32), self.window)
            if name == "train" or len(windows):
                parts[name] = windows
                notes += unknown_in(name, piece, windows.tokens, tokenizer)
        return Loaded(
            parts=dict(parts),
            facts={"vocab_size": tokenizer.vocab_size, "num_characters": tokenizer.num_characters()},
            preprocessing={"kind": KIND, "tokenizer": tokenizer.to_dict()},
            notes=notes,
            fingerprint=hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16],
        )

    def cut(self, text: str) -> dict[str, str]:
        """The parts of a text, by position."""
        first = int(len(text) * self.shares[0])
        second = len(text) - int(len(text) * self.shares[2])
        if self.shares[1] == 0:
            first = second
        return dict(zip(PARTS, (text[:first], text[first:second], text[second:]), strict=True))

    def vocabulary(self, train: str) -> Tokenizer:
        """That of an earlier run, or one that is made from the training part."""
        if self.earlier is not None:
            if self.earlier.get("kind") != KIND:
                kind = self.earlier.get("kind")
                raise UserError(f"The checkpoint was trained on data of kind '{kind}', not on running text.")
            return load(self.earlier["tokenizer"])
        if not train.strip():
            raise UserError("The training part is empty; give a longer text, or a larger share in data.shares.")
        try:
            return fit(self.kind_of_tokenizer, [train], max_size=self.max_vocab_size, **self.fit_options())
        except UserError as error:
            limit = f"data.max_vocab_size={self.max_vocab_size}: " if self.max_vocab_size is not None else ""
            raise UserError(f"{limit}{error}") from None

    def fit_options(self) -> dict[str, Any]:
        """How the vocabulary is made, besides its kind and its size; see `zoo.text.fit`."""
        return {}

    def prepare(self) -> Loaded:
        loaded = super().prepare()
        if self.earlier is None:  # to judge a trained model, any text is long enough
            self.check_length(loaded.parts["train"])
        return loaded

    def check_length(self, train: Any) -> None:
        """Raises UserError where the training part gives no batch."""
        num_tokens = len(train.tokens)
        if train.num_targets < self.window:
            raise UserError(
                f"The training part has {num_tokens} tokens, and data.window={self.window} needs {self.window + 1} at "
                "least; give a longer text, or a smaller data.window."
            )
        if self.batching == "stream" and self.batch_size != "full" and train.num_targets < int(self.batch_size):
            raise UserError(
                f"The training part has {num_tokens} tokens, too few for data.batch_size={self.batch_size} rows; give "
                "a longer text, or fewer rows."
            )

    def _cut(self, loaded: Loaded) -> None:
        # Not samples from everywhere: what is left must still be one text.
        train: Any = loaded.parts["train"]
        keep = max(1, round(train.num_targets * self.fraction))
        if self.overfit and self.batch_size != "full":
            keep = min(keep, int(self.batch_size) * self.window)  # one batch
        loaded.parts["train"] = train.prefix(keep)
        if self.overfit:
            loaded.parts["val"] = loaded.parts["test"] = loaded.parts["train"]

    def make_order(self, dataset: Any, batch_size: int, **options: Any) -> BatchOrder:
        kind = StreamOrder if self.batching == "stream" else WindowOrder
        return kind(dataset.num_targets, batch_size, window=self.window, **options)


def unknown_in(name: str, piece: str, tokens: torch.Tensor, tokenizer: Tokenizer) -> list[str]:
    """A line on what a part has that the vocabulary lacks; none where there is nothing."""
    if UNKNOWN not in tokenizer.tokens:
        return []
    count = int((tokens == tokenizer.tokens.index(UNKNOWN)).sum())
    if count == 0:
        return []
    unknown = tokenizer.unknown(piece)
    more = f" and {len(unknown) - SHOWN:,} more" if len(unknown) > SHOWN else ""
    return [
        f"{name}: {count:,} of {len(tokens):,} tokens are not in the vocabulary and are read as {UNKNOWN} "
        f"({', '.join(map(repr, unknown[:SHOWN]))}{more})"
    ]


def read_file(path: str | Path, encoding: str) -> str:
    """The text of a file, lines ended by newlines. Raises UserError where it is missing, empty or no such text."""
    path = Path(path).expanduser()
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; data.path needs a text file.")
        raw = path.read_bytes()
        codecs.lookup(encoding)
        text = raw.decode(encoding)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; give an existing one with data.path.") from None
    except UnicodeError as error:
        raise wrong_encoding(path, raw, encoding, getattr(error, "start", 0)) from None
    except LookupError:
        raise UserError(f"There is no encoding '{encoding}'; data.encoding=utf-8-sig is the usual one.") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    if "\0" in text:
        raise wrong_encoding(path, raw, encoding, raw.index(0))
    if not text.strip():
        raise UserError(f"{path} is empty; it needs a text to learn.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def wrong_encoding(path: Path, raw: bytes, encoding: str, place: int) -> UserError:
    """What is wrong with a file, the encodings in which it would be text, and how to choose one."""
    name = "UTF-8" if encoding.startswith("utf-8") else encoding
    start = f"{path} is not {name} text (byte 0x{raw[place]:02x} at offset {place})"
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return UserError(f"{start}; it begins like UTF-16: choose it with data.encoding=utf-16, or save it as UTF-8.")
    if 0 in raw:
        return UserError(f"{start}, and zero bytes are in no text; give a text file with data.path.")
    likely = [other for other in LIKELY if decodes(raw, other) and other != encoding]
    return UserError(
        f"{start}; likely encodings: {', '.join(likely)}. Choose one with data.encoding={likely[0]}, or save it as "
        "UTF-8."
    )


def decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeError:
        return False
    return True


class TextFile(RunningText):
    """A user's own text.

    Args:
        path: the file.
        encoding: of the file; the default is UTF-8 with or without a byte order mark.
        settings: see `RunningText`.
    """

    def __init__(self, *, path: str, encoding: str = "utf-8-sig", **settings: Any) -> None:
        super().__init__(**settings)
        self.path, self.encoding = path, encoding

    def read(self) -> str:
        return read_file(self.path, self.encoding)


class TinyShakespeare(RunningText):
    """About 40,000 lines of Shakespeare's plays, 1,115,394 characters, as put together for char-rnn (Karpathy 2015).

    Args:
        data_dir: holds `tinyshakespeare/input.txt`; it is downloaded where it is missing.
        settings: see `RunningText`. The usual parts are the first 90 % for training and the rest for validation.
    """

    url: ClassVar[str] = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
    checksum: ClassVar[str] = "6fb458f1232090904fb40fe944165e91"  # MD5

    def __init__(self, *, data_dir: str, shares: Sequence[float] = (0.9, 0.1, 0.0), **settings: Any) -> None:
        super().__init__(shares=shares, **settings)
        self.path = Path(data_dir).expanduser() / "tinyshakespeare" / "input.txt"

    def fetch(self) -> None:
        if not self.path.is_file():
            advice = f"Put input.txt into {self.path.parent}, or let data_dir (or ZOO_DATA) name a folder that has it."
            download([self.url], self.path.parent, md5=self.checksum, advice=advice)

    def read(self) -> str:
        try:
            raw = self.path.read_bytes()
        except OSError as error:
            raise UserError(f"{self.path} cannot be read ({error.strerror}); delete it and fetch it again.") from None
        if md5(raw) != self.checksum:
            raise UserError(
                f"{self.path} is not the published file (its MD5 is {md5(raw)}, not {self.checksum}); delete it and "
                "fetch it again, or read it with data=text_file."
            )
        return raw.decode("ascii")


class PythonDocs(RunningText):
    """The language reference that Python ships for its `help()`, about 370,000 characters; nothing is downloaded.

    Its sections quote each other at length, so a paragraph that stands in several is kept once: else much of val and
    test would be known from training.

    Args:
        settings: see `RunningText`.
    """

    def read(self) -> str:
        try:
            from pydoc_data.topics import topics
        except ImportError:
            raise UserError("This Python ships no language reference; use data=text_file with your own text.") from None
        paragraphs = (paragraph for topic in topics.values() for paragraph in re.split("\n\n+", topic.strip("\n")))
        return "\n\n".join(dict.fromkeys(paragraphs))

    def remarks(self) -> list[str]:
        version = platform.python_version()
        return [f"The text is the language reference of Python {version}; that of another version gives other figures"]
