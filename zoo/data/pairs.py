"""Pairs of texts, a source and the target that it is to become: the base of translation and of all that is like it.

Vocabularies are made of the training part alone. Nothing is left out or cut without a line that says so.

Axes: N pairs of a part
"""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch

from zoo.data.base import BatchOrder, DataModule, Loaded
from zoo.data.buckets import Bucketed
from zoo.data.images import check_size
from zoo.data.pair_preprocessing import KIND, SIDES, CasedWords, PaddedPairs, PairPreprocessing, PairWords
from zoo.data.token_batches import TokenBatches
from zoo.errors import UserError, suggest
from zoo.text import EOS, KINDS, PAIR_SPECIAL, PIECES, Tokenizer, fit

Pair = tuple[str, str]  # source and target
Part = list[Pair]


@dataclass
class Found:
    """Pairs as a data set has them.

    Args:
        parts: `train` always.
        notes: what the user should know, a line each.
        facts: sizes that only this data set has.
    """

    parts: dict[str, Part]
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


class Pairs(DataModule):
    """Base of pairs of texts: a subclass says how to `read` them.

    Args:
        tokenizer: "word", "char" or "bpe", of both sides; see `zoo.text`.
        shared_vocab: one vocabulary for both sides, made of both.
        lower: texts are lower-cased before they are cut.
        min_count: how often a word must stand in the training part to be in the vocabulary.
        max_vocab_size: of each vocabulary, with the four special tokens; None: no limit (bpe: `zoo.text.BYTE_PAIRS`).
        max_len: tokens of a sequence, `<eos>` included, or for a target `<bos>`. Longer pairs are left out of training,
            longer sequences of validation and test are cut; their references stay whole.
        batch_size: pairs in one global batch, of similar lengths.
        batch_tokens: places in one global batch instead, padding included: pairs times the longest sequence.
        fraction: share of the training part that is used; its vocabulary stays that of the whole.
        eval_batch_size, seed, overfit: see `DataModule`.
    """

    adopts = KIND

    sides: ClassVar[tuple[str, str]] = SIDES

    def __init__(
        self,
        *,
        tokenizer: str = "word",
        shared_vocab: bool = False,
        lower: bool = True,
        min_count: int = 1,
        max_vocab_size: int | None = None,
        max_len: int | None = None,
        batch_size: int | str = 64,
        batch_tokens: int | None = None,
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
        for name, value, least in (
            ("max_vocab_size", max_vocab_size, len(PAIR_SPECIAL) + 1),
            ("max_len", max_len, 2),
            ("batch_tokens", batch_tokens, 2),
        ):
            if value is not None:
                check_size(name, value, least)
        self.kind_of_tokenizer, self.shared_vocab, self.lower = tokenizer, shared_vocab, lower
        self.min_count, self.max_vocab_size, self.max_len = min_count, max_vocab_size, max_len
        self.batch_tokens = batch_tokens
        self.prepared: PairPreprocessing | None = None  # once the data is read
        self.targets: dict[str, list[str]] = {}

    @abstractmethod
    def read(self) -> Found:
        """The pairs of each part. Raises UserError where they are missing or broken."""

    @property
    def src_tokenizer(self) -> Tokenizer:
        self.prepare()
        assert self.prepared is not None
        return self.prepared.src_tokenizer

    @property
    def tgt_tokenizer(self) -> Tokenizer:
        self.prepare()
        assert self.prepared is not None
        return self.prepared.tgt_tokenizer

    def references(self, part: str) -> list[str]:
        """The targets of a part as they were read, in the order that `PairBatch.index` counts."""
        self.part(part)
        return self.targets["train" if self.overfit else part]

    def load(self) -> Loaded:
        found = self.read()
        notes = list(found.notes)
        parts = {**found.parts, "train": without_empty(found.parts["train"], notes)}
        prepare = self.prepared = self.preprocessing(parts["train"], notes)
        loaded, digest = {}, hashlib.sha256()
        for name, pairs in parts.items():
            cut = [prepare.cut(column(pairs, side), side) for side in (0, 1)]
            if name == "train":
                kept = self.short(cut, prepare.max_len, notes)
                pairs = parts[name] = [pairs[i] for i in kept]
                cut = [[numbers[i] for i in kept] for numbers in cut]
            (src, said), (tgt, also) = (prepare.finish(column(pairs, side), cut[side], side) for side in (0, 1))
            loaded[name] = PaddedPairs(src, tgt, torch.arange(len(pairs)))
            notes += [f"In the {name} part {note}" for note in (*said, *also)]
            digest.update("\0".join(text for pair in pairs for text in pair).encode(errors="surrogatepass"))
        self.targets = {name: column(pairs, 1) for name, pairs in parts.items()}
        return Loaded(
            parts=dict(loaded),
            facts={
                "kind": KIND,
                "src_vocab_size": prepare.src_tokenizer.vocab_size,
                "tgt_vocab_size": prepare.tgt_tokenizer.vocab_size,
                **found.facts,
            },
            preprocessing=prepare.to_dict(),
            notes=notes,
            fingerprint=digest.hexdigest()[:16],
        )

    def adopt(self, preprocessing: dict[str, Any]) -> str:
        same = preprocessing.get("kind") == KIND and self.goes_as(PairPreprocessing.from_dict(preprocessing))
        return super().adopt(preprocessing) if same else ""

    def goes_as(self, earlier: PairPreprocessing) -> bool:
        """Whether these pairs go from and to what an earlier run's did, as far as both name it."""
        return earlier.sides == self.sides or SIDES in (earlier.sides, self.sides)

    def preprocessing(self, train: Part, notes: list[str]) -> PairPreprocessing:
        """That of an earlier run, or one with vocabularies of the training part."""
        if self.earlier is not None:
            earlier = PairPreprocessing.from_dict(self.earlier)
            if not self.goes_as(earlier):
                raise UserError(
                    f"This model was trained to go from {' to '.join(earlier.sides)}, and the data goes from "
                    f"{' to '.join(self.sides)}; its vocabularies do not fit. Leave the data as it was."
                )
            return earlier
        if not train:
            raise UserError("The training part has no pair with both a source and a target; give it some.")
        sides = [[text.lower() if self.lower else text for text in column(train, side)] for side in (0, 1)]
        if self.shared_vocab:
            src_tokenizer = tgt_tokenizer = self.fit(sides[0] + sides[1])
            notes.append(f"Both sides share {self.described(src_tokenizer)}, all from the training part")
        else:
            src_tokenizer, tgt_tokenizer = map(self.fit, sides)
            notes.append(
                f"The vocabularies have {self.described(src_tokenizer)} of the sources and "
                f"{self.described(tgt_tokenizer)} of the targets, all from the training part"
            )
        return PairPreprocessing(src_tokenizer, tgt_tokenizer, self.max_len, self.lower, self.sides)

    def fit(self, texts: Sequence[str]) -> Tokenizer:
        """A vocabulary of `texts`. Raises UserError where nothing is left in it."""
        words = PairWords if self.lower else CasedWords
        make = words.fit if self.kind_of_tokenizer == "word" else partial(fit, self.kind_of_tokenizer)
        try:
            tokenizer: Tokenizer = make(
                texts, special=PAIR_SPECIAL, min_count=self.min_count, max_size=self.max_vocab_size
            )
        except UserError as error:
            limit = f"data.max_vocab_size={self.max_vocab_size}: " if self.max_vocab_size is not None else ""
            raise UserError(f"{limit}{error}") from None
        if tokenizer.vocab_size == len(PAIR_SPECIAL):
            pieces = PIECES[tokenizer.kind]
            raise UserError(f"data.min_count={self.min_count} leaves none of the {pieces}; give a smaller one.")
        return tokenizer

    @staticmethod
    def described(tokenizer: Tokenizer) -> str:
        return f"{tokenizer.vocab_size - len(PAIR_SPECIAL):,} {PIECES[tokenizer.kind]}"

    @staticmethod
    def short(cut: Sequence[Sequence[list[int]]], max_len: int | None, notes: list[str]) -> list[int]:
        """Which training pairs, their sides cut into tokens, fit into `max_len`; the others are noted."""
        longest = [max(len(src), len(tgt)) + 1 for src, tgt in zip(*cut, strict=True)]  # with `<eos>`
        kept = [i for i, length in enumerate(longest) if length <= (max_len or length)]
        if len(kept) < len(longest):
            notes.append(
                f"{len(longest) - len(kept):,} of {len(longest):,} training pairs are left out: longer than "
                f"data.max_len={max_len} tokens, {EOS} included"
            )
        if longest and not kept:
            raise UserError(f"data.max_len={max_len} leaves no training pair; give a larger one.")
        return kept

    def make_order(self, dataset: Any, batch_size: int, **options: Any) -> BatchOrder:
        if options.get("shuffle") and self.batch_tokens is not None and not self.overfit:
            return TokenBatches(dataset.lengths, self.batch_tokens, **options)
        return Bucketed(dataset.lengths, batch_size, **options)

    @property
    def train_batch_size(self) -> int:
        """Pairs of a training batch; with `batch_tokens`, on average."""
        if self.batch_tokens is None or self.overfit:
            return super().train_batch_size
        train: Any = self.part("train")
        return max(1, round(len(train) / len(TokenBatches(train.lengths, self.batch_tokens, shuffle=True))))


def column(pairs: Sequence[Pair], side: int) -> list[str]:
    return [pair[side] for pair in pairs]


def without_empty(train: Part, notes: list[str]) -> Part:
    """The training pairs with something on both sides; the others are noted."""
    kept = [pair for pair in train if pair[0].strip() and pair[1].strip()]
    if len(kept) < len(train):
        notes.append(f"{len(train) - len(kept):,} of {len(train):,} training pairs are left out: a side is empty")
    return kept
