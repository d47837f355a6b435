"""Texts with one label each: cut into words or characters, numbered by a vocabulary, padded when a batch is made.

The vocabulary is made of the training part alone. What else stands in the other parts, or in a text that a trained
model is asked about, is read as `<unk>`, and said.

Axes: N texts of a part, B batch, T tokens of the longest text in a batch
"""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zoo.batches import TextBatch
from zoo.data.base import BatchOrder, DataModule, Loaded
from zoo.data.buckets import Bucketed, Padded, Ragged
from zoo.data.images import check_size
from zoo.errors import UserError, suggest
from zoo.text import KINDS, PAD, PIECES, UNKNOWN, Tokenizer, fit, load

KIND = "text"
SPECIAL = (PAD, UNKNOWN)  # so padding is 0, as `Ragged` pads
SHOWN = 5  # unknown pieces that a note spells out

Part = tuple[list[str], Tensor]  # N texts and their labels (N,) int64


@dataclass(frozen=True)
class TextPreprocessing:
    """How a text becomes the input of a model; as plain containers it lies in a checkpoint.

    Args:
        tokenizer: its vocabulary begins with `SPECIAL`.
        max_len: tokens of a text that count, those at its beginning; None for all.
    """

    tokenizer: Tokenizer
    max_len: int | None = None

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "TextPreprocessing":
        """The inverse of `to_dict`. Raises UserError where it is of another kind of data, or not understood."""
        if saved.get("kind") != KIND:
            raise UserError(f"This model was trained on data of kind '{saved.get('kind')}'; give it that, not texts.")
        return cls(load(saved["tokenizer"]), saved["max_len"])

    def to_dict(self) -> dict[str, Any]:
        return {"kind": KIND, "tokenizer": self.tokenizer.to_dict(), "max_len": self.max_len}

    @property
    def pieces(self) -> str:
        """What a token is, in the plural."""
        return PIECES[self.tokenizer.kind]

    def encode(self, texts: Sequence[str]) -> tuple[Ragged, list[str]]:
        """The tokens of N texts, and what the user should know, a line each.

        A text that has no token, such as one of white space, becomes a single `<unk>`.
        """
        whole = [self.tokenizer.encode(text) or [SPECIAL.index(UNKNOWN)] for text in texts]
        tokens = Ragged.of([torch.tensor(numbers[: self.max_len], dtype=torch.int32) for numbers in whole])
        longer = sum(len(numbers) > (self.max_len or len(numbers)) for numbers in whole)
        notes = self.unknown(texts, tokens)
        if longer:
            notes.append(f"{longer:,} of {len(texts):,} texts are longer than {self.max_len} {self.pieces} and are cut")
        return tokens, notes

    def unknown(self, texts: Sequence[str], tokens: Ragged) -> list[str]:
        """A line on what the vocabulary lacks; none where there is nothing."""
        strange = tokens.values == SPECIAL.index(UNKNOWN)  # (all tokens,)
        count = int(strange.sum())
        if count == 0:
            return []
        found = (piece for text in texts for piece in self.tokenizer.unknown(text))
        unknown = list(dict.fromkeys(found))
        examples = ", ".join(map(repr, unknown[:SHOWN])) + (", ..." if len(unknown) > SHOWN else "")
        return [
            f"{count:,} of {len(strange):,} {self.pieces} are not in the vocabulary and are read as {UNKNOWN}"
            + (f": {examples}" if unknown else "")
        ]


def text_batch(tokens: Tensor, mask: Tensor, label: Tensor) -> TextBatch:
    return TextBatch(tokens.long(), mask, label)


@dataclass
class Labelled:
    """Texts as a data set has them.

    Args:
        parts: `train` always.
        class_names: names of the K classes, in the order of their labels.
        notes: what the user should know, a line each.
        names: see `Loaded`.
    """

    parts: dict[str, Part]
    class_names: list[str]
    notes: list[str] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)


class Texts(DataModule):
    """Base of labelled texts: a subclass says how to `read` them.

    Args:
        tokenizer: "word", "char" or "bpe"; see `zoo.text`.
        min_count: how often a word must stand in the training part to be in the vocabulary.
        max_vocab_size: of the vocabulary, with the two special tokens; None for no limit (bpe: `zoo.text.BYTE_PAIRS`).
        max_len: tokens of a text that count, those at its beginning; None for all.
        fraction: share of the training part that is used; its vocabulary stays that of the whole.
        batch_size, eval_batch_size, seed, overfit: see `DataModule`. Batches of training are of similar lengths.
    """

    adopts = KIND

    def __init__(
        self,
        *,
        tokenizer: str = "word",
        min_count: int = 1,
        max_vocab_size: int | None = None,
        max_len: int | None = None,
        batch_size: int | str = 50,
        eval_batch_size: int = 256,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, fraction=fraction, overfit=overfit
        )
        if tokenizer not in KINDS:
            raise UserError(f"There is no data.tokenizer={tokenizer}{suggest(tokenizer, KINDS)}")
        check_size("min_count", min_count, 1)
        if max_vocab_size is not None:
            check_size("max_vocab_size", max_vocab_size, len(SPECIAL) + 1)
        if max_len is not None:
            check_size("max_len", max_len, 1)
        self.kind_of_tokenizer, self.min_count, self.max_vocab_size = tokenizer, min_count, max_vocab_size
        self.max_len = max_len
        self.tokenizer: Tokenizer | None = None  # once the texts are read

    @abstractmethod
    def read(self) -> Labelled:
        """The texts of each part with their labels. Raises UserError where they are missing or broken."""

    def load(self) -> Loaded:
        found = self.read()
        prepare, notes = self.preprocessing(found), list(found.notes)
        self.tokenizer = prepare.tokenizer
        parts, digest = {}, hashlib.sha256()
        for name, (texts, labels) in found.parts.items():
            tokens, said = prepare.encode(texts)
            parts[name] = Padded(text_batch, tokens, labels)
            notes += [f"In the {name} part {note}" for note in said]
            digest.update("\0".join(texts).encode(errors="surrogatepass") + labels.numpy().tobytes())
        labels, num_classes = found.parts["train"][1], len(found.class_names)
        return Loaded(
            parts=dict(parts),
            facts={
                "kind": "binary" if num_classes == 2 else "multiclass",
                "vocab_size": prepare.tokenizer.vocab_size,
                "num_classes": num_classes,
                "label_counts": torch.bincount(labels, minlength=num_classes).tolist(),
            },
            preprocessing=prepare.to_dict(),
            class_names=found.class_names,
            train_labels=labels,
            notes=notes,
            fingerprint=digest.hexdigest()[:16],
            names=found.names,
        )

    def preprocessing(self, found: Labelled) -> TextPreprocessing:
        """That of an earlier run, or one with a vocabulary of the training part."""
        if self.earlier is not None:
            return TextPreprocessing.from_dict(self.earlier)
        tokenizer = fit(
            self.kind_of_tokenizer,
            found.parts["train"][0],
            special=SPECIAL,
            min_count=self.min_count,
            max_size=self.max_vocab_size,
        )
        prepare = TextPreprocessing(tokenizer, self.max_len)
        if tokenizer.vocab_size == len(SPECIAL):
            raise UserError(f"data.min_count={self.min_count} leaves none of the {prepare.pieces}; give a smaller one.")
        known = tokenizer.vocab_size - len(SPECIAL)
        found.notes.append(f"The vocabulary has {known:,} {prepare.pieces}, all from the training part")
        return prepare

    def make_order(self, dataset: Any, batch_size: int, **options: Any) -> BatchOrder:
        return Bucketed(dataset.lengths, batch_size, **options)
