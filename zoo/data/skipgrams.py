"""Words of running text, each with the words that stand near it: what skip-gram and CBOW learn from.

Mikolov, Sutskever, Chen, Corrado, Dean, "Distributed representations of words and phrases and their compositionality",
2013 (arXiv 1310.4546):

    a word stands near another    not more than b words away, b drawn anew for each from 1 to the window
    frequent words are passed over with probability 1 - sqrt(t / f), f their share of the text (equation 5),
                                  before windows are laid, which so reach further
    negatives are drawn from      count^(3/4), normalized (section 2.2)

Which words are passed over, how far each looks and what is drawn by chance are a pure function of (seed, epoch, place),
so no process needs to tell another, and an interrupted epoch goes on with what it would have had. Pairs are not stored:
pair number i is found where it is asked for.

Departures from the authors' program: signs are left out like rare words; the text is one sentence; a word is kept by
equation 5, there with probability t / f + sqrt(t / f); a negative may be the very word that stood near (equation 4).

Axes: N words of a part, M of them not passed over, P pairs, B batch, C = 2 windows, V vocabulary
"""

import hashlib
import re
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.augment.draws import Draws
from zoo.batches import SkipgramBatch
from zoo.data.base import BatchOrder, Loaded, Loader
from zoo.data.corpus import KIND, PythonDocs, RunningText, TextFile
from zoo.data.images import check_size
from zoo.data.masked import Anew
from zoo.errors import UserError
from zoo.text import PAD, UNKNOWN, Tokenizer

SPECIAL = (PAD, UNKNOWN)  # so padding is 0
NO_WORD = re.compile(r"[^\w\s'’]|(?<!\w)['’]|['’](?!\w)")  # signs; an apostrophe inside a word is none
PASSED, REACH, NEGATIVE = 0, 1, 2  # numbers of the draws


class Rules(NamedTuple):
    """How pairs are made.

    window: the largest b.
    negatives: draws by chance for each sample.
    bag: a sample is a word with all that stand near it, not with one of them.
    keep: (V,) float, the probability that a word is not passed over.
    noise: (V,) float64, sums of the noise distribution up to each word.
    seed: whole number.
    """

    window: int
    negatives: int
    bag: bool
    keep: Tensor
    noise: Tensor
    seed: int


class Reading(NamedTuple):
    """One epoch's way through the text.

    words: (M,) int64, what is not passed over.
    before, after: (M,) int64, how many words each looks back and ahead.
    ends: (M,) int64, the number of pairs up to each word.
    """

    words: Tensor
    before: Tensor
    after: Tensor
    ends: Tensor


def keep_probability(counts: Tensor, threshold: float | None) -> Tensor:
    """min(1, sqrt(t / f)) of each word (equation 5) from its count, (V,) -> (V,); None keeps all."""
    if threshold is None:
        return torch.ones(len(counts))
    share = counts.double() / counts.sum()
    return (threshold / share.clamp(min=torch.finfo(share.dtype).tiny)).sqrt().clamp(max=1).float()


def noise_sums(counts: Tensor, power: float) -> Tensor:
    """Sums up to each word of count^power, as shares, (V,) -> (V,) float64; what never came is never drawn."""
    weights = torch.where(counts > 0, counts.double() ** power, 0.0)
    return (weights / weights.sum()).cumsum(0)


class Nearby(Dataset):
    """Pairs of words that stand near each other, or words with their bag; an index tensor gives a batch.

    Args:
        tokens: (N,) numbers of the vocabulary, N > 1.
        rules: see `Rules`.
        limit: samples, at most; None for all.
    """

    def __init__(self, tokens: Tensor, rules: Rules, limit: int | None = None) -> None:
        self.tokens, self.rules, self.limit = tokens, rules, limit
        self.newest: tuple[int, Reading] | None = None
        total = self.total(self.reading(0))
        self.size = total if limit is None else min(limit, total)

    def __len__(self) -> int:
        """As many as the first epoch has; another one, with a few more or less, leaves some out or begins again."""
        return self.size

    def total(self, reading: Reading) -> int:
        return len(reading.words) if self.rules.bag else int(reading.ends[-1])

    def reading(self, epoch: int) -> Reading:
        """That of an epoch; the newest one is kept."""
        if self.newest is None or self.newest[0] != epoch:
            self.newest = epoch, self._read(epoch)
        return self.newest[1]

    def _read(self, epoch: int) -> Reading:
        tokens, rules = self.tokens.long(), self.rules
        draws = Draws(torch.arange(len(tokens)), epoch, rules.seed)
        kept = draws.uniform(PASSED) < rules.keep[tokens]  # (N,)
        if int(kept.sum()) < 2:
            kept = torch.ones_like(kept)  # a text of hardly more than one word
        words, reach = tokens[kept], 1 + draws.below(rules.window, REACH)[kept]  # (M,) each
        places = torch.arange(len(words))
        before, after = reach.minimum(places), reach.minimum(len(words) - 1 - places)  # (M,) each
        return Reading(words, before, after, (before + after).cumsum(0))

    def __getitem__(self, indices: Tensor) -> SkipgramBatch:
        return self.of_epoch(indices, 0)

    def of_epoch(self, indices: Tensor, epoch: int) -> SkipgramBatch:
        """The samples (B,) as they are in an epoch."""
        reading = self.reading(epoch)
        numbers = indices % self.total(reading)  # (B,)
        near, word = bags(reading, numbers, self.rules.window) if self.rules.bag else pairs(reading, numbers)
        draws = Draws(indices, epoch, self.rules.seed).uniform(range(NEGATIVE, NEGATIVE + self.rules.negatives))
        noise = self.rules.noise
        # The first sum above the draw is that of a word whose share is not 0.
        drawn = torch.searchsorted(noise, draws.double().T.contiguous() * noise[-1], right=True)  # (B, negatives)
        return SkipgramBatch(near, word, drawn)

    def prefix(self, num_words: int) -> "Nearby":
        """The beginning of the text."""
        return Nearby(self.tokens[:num_words], self.rules)


def pairs(reading: Reading, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs (B,) of a reading: a word (B,), and one that stands near it (B,)."""
    place = torch.searchsorted(reading.ends, numbers, right=True)  # (B,)
    before, after = reading.before[place], reading.after[place]  # (B,) each
    which = numbers - (reading.ends[place] - before - after)  # (B,), from 0 to before + after - 1
    other = place - before + which + (which >= before)  # (B,), the place itself is left out
    return reading.words[place], reading.words[other]


def bags(reading: Reading, place: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Words (B,) of a reading by their place: all that stand near each (B, C), 0 where there are fewer, and itself."""
    away = torch.cat([torch.arange(-window, 0), torch.arange(1, window + 1)])  # (C,)
    seen = (-reading.before[place].unsqueeze(1) <= away) & (away <= reading.after[place].unsqueeze(1))  # (B, C)
    others = (place.unsqueeze(1) + away).clamp(0, len(reading.words) - 1)  # (B, C)
    return reading.words[others].masked_fill(~seen, 0), reading.words[place]


class WordsInText(RunningText):
    """Base of the texts below.

    Args:
        window: how far a word looks at most, in words, to both sides.
        negatives: draws by chance for each sample.
        subsample: t of equation 5, the share of the text from which on a word is passed over; None passes over none.
        min_count: how often a word must stand in the training part to be in the vocabulary; others are left out.
        noise_power: power of the counts in the noise distribution.
        bag: for CBOW, which reads all words near another at once.
        batch_size, eval_batch_size: samples of a batch.
        settings: see `RunningText`.
    """

    def __init__(
        self,
        *,
        window: int = 5,
        negatives: int = 5,
        subsample: float | None = 1e-3,
        min_count: int = 5,
        noise_power: float = 0.75,
        bag: bool = False,
        batch_size: int | str = 1024,
        eval_batch_size: int = 4096,
        **settings: Any,
    ) -> None:
        super().__init__(
            window=window,
            tokenizer="word",
            batching="windows",
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            **settings,
        )
        check_size("negatives", negatives, 1)
        check_size("min_count", min_count, 1)
        if subsample is not None and not 0 < subsample <= 1:
            raise UserError(f"data.subsample={subsample} must be above 0 and at most 1, or null.")
        self.negatives, self.subsample, self.min_count = negatives, subsample, min_count
        self.noise_power, self.bag = noise_power, bag

    def fit_options(self) -> dict[str, Any]:
        return {"special": SPECIAL, "min_count": self.min_count}

    def load(self) -> Loaded:
        text = NO_WORD.sub(" ", self.read())
        pieces = self.cut(text)
        self.tokenizer = tokenizer = self.vocabulary(pieces["train"])
        if tokenizer.vocab_size < len(SPECIAL) + 2:
            raise UserError(f"data.min_count={self.min_count} leaves fewer than two words; give a smaller one.")
        words, notes = {}, self.remarks()
        for name, piece in pieces.items():
            words[name], note = known_words(name, piece, tokenizer)
            notes += note
        counts = self.counts(words["train"], tokenizer.vocab_size)
        rules = Rules(
            window=self.window,
            negatives=self.negatives,
            bag=self.bag,
            keep=keep_probability(counts, self.subsample),
            noise=noise_sums(counts, self.noise_power),
            seed=self.seed,
        )
        parts = {name: Nearby(found, rules) for name, found in words.items() if len(found) > 1}
        if "train" not in parts:
            raise UserError("The training part has fewer than two words of the vocabulary; give a longer text.")
        notes.append(f"train: {len(words['train']):,} words, {len(parts['train']):,} samples an epoch")
        return Loaded(
            parts=dict(parts),
            facts={"num_words": tokenizer.vocab_size, "num_targets": 1 + self.negatives},
            preprocessing={"kind": KIND, "tokenizer": tokenizer.to_dict(), "counts": counts.tolist()},
            notes=notes,
            fingerprint=hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16],
        )

    def counts(self, train: Tensor, num_words: int) -> Tensor:
        """(V,) how often each word stands in the training part, of an earlier run where there was one."""
        if self.earlier is None:
            return torch.bincount(train.long(), minlength=num_words)
        if "counts" not in self.earlier:
            raise UserError("The checkpoint was not trained on words and those near them; it counts none.")
        return torch.tensor(self.earlier["counts"])

    def check_length(self, train: Any) -> None:
        """A short text only has few samples."""

    def _cut(self, loaded: Loaded) -> None:
        train: Any = loaded.parts["train"]
        if self.fraction < 1:
            train = train.prefix(max(2, round(len(train.tokens) * self.fraction)))
        if self.overfit:
            train = Nearby(train.tokens, train.rules, None if self.batch_size == "full" else int(self.batch_size))
            loaded.parts["val"] = loaded.parts["test"] = train
        loaded.parts["train"] = train

    def make_order(self, dataset: Any, batch_size: int, **options: Any) -> BatchOrder:
        return BatchOrder(len(dataset), batch_size, **options)

    def train_dataloader(self) -> Loader:
        plain = self.loader("train", shuffle=True, batch_size=self.train_batch_size)
        return plain if self.overfit else Loader(Anew(plain.dataset), plain.order)


def known_words(name: str, piece: str, tokenizer: Tokenizer) -> tuple[Tensor, list[str]]:
    """The words (N,) int32 of a piece that are in the vocabulary, and a line on how many are not."""
    numbers = torch.tensor(tokenizer.encode(piece), dtype=torch.int32)
    known = numbers[numbers >= len(SPECIAL)]
    missing = len(numbers) - len(known)
    return known, [f"{name}: {missing:,} of {len(numbers):,} words are not in the vocabulary and are left out"] * (
        missing > 0
    )


class DocsWords(WordsInText, PythonDocs):
    """The words of Python's language reference; see `WordsInText`."""


class FileWords(WordsInText, TextFile):
    """The words of a user's own text; see `WordsInText` and `TextFile`."""
