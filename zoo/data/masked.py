"""Running text in which some tokens are hidden, to be told from those around them.

Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of deep bidirectional transformers for language understanding", 2019
(arXiv 1810.04805), section 3.1: 15 % of the tokens of a window are chosen, and of these

    80 %    are read as <mask>
    10 %    are read as another token, drawn by chance, so that no token that is read is sure to be right
    10 %    are read as they are, so that what a model makes of a token is of use where nothing is hidden

What is hidden is a pure function of (seed, epoch, window): the same in every process, and in a run that goes on. In
validation and test it is that of epoch 0, always.

Axes: N tokens of a part, B windows, T tokens of a window, V vocabulary
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.augment.draws import Draws
from zoo.batches import MaskedTokenBatch
from zoo.data.base import Augmented, BatchOrder, Loaded, Loader
from zoo.data.corpus import PythonDocs, RunningText, TextFile
from zoo.data.windows import Span, WindowOrder, Windows
from zoo.errors import UserError
from zoo.text import MASK, PAD, UNKNOWN

SPECIAL = (PAD, UNKNOWN, MASK)  # so padding is 0
CHOSEN, READ_AS, OTHER = 0, 1, 2  # numbers of the draws
AS_MASK, AS_OTHER = 0.8, 0.1  # shares of what is hidden; the rest is read as it is


class Hiding(NamedTuple):
    """How tokens are hidden.

    share: of the tokens of a window; at least one is.
    vocab_size: V; the numbers of `SPECIAL` come first.
    seed: whole number.
    """

    share: float
    vocab_size: int
    seed: int


def hide(tokens: Tensor, starts: Tensor, epoch: int, hiding: Hiding) -> tuple[Tensor, Tensor]:
    """Windows as a model sees them (B, T), and which tokens it is to tell (B, T).

    Args:
        tokens: (B, T) int64.
        starts: (B,) int64, the place of each window in its text.
        epoch: whole number.
        hiding: see `Hiding`.
    """
    num_windows, length = tokens.shape
    places = (starts.unsqueeze(1) + torch.arange(length)).flatten()  # (B T,)
    draws, fewest = Draws(places, epoch, hiding.seed), len(SPECIAL)
    chosen, read_as = draws.uniform([CHOSEN, READ_AS]).unflatten(1, (num_windows, length))  # (B, T) each
    other = fewest + draws.below(hiding.vocab_size - fewest, OTHER).view_as(tokens)  # (B, T)
    first = chosen.argsort(dim=1, stable=True)[:, : max(1, round(hiding.share * length))]  # (B, hidden)
    hidden = torch.zeros_like(tokens, dtype=torch.bool).scatter(1, first, True)  # (B, T)
    seen = tokens.masked_fill(hidden & (read_as < AS_MASK), SPECIAL.index(MASK))
    return torch.where(hidden & (read_as >= AS_MASK) & (read_as < AS_MASK + AS_OTHER), other, seen), hidden


class MaskedWindows(Windows):
    """A text of N tokens, read in windows with hidden tokens.

    Args:
        tokens, length: see `Windows`.
        hiding: see `Hiding`.
    """

    def __init__(self, tokens: Tensor, length: int, hiding: Hiding) -> None:
        super().__init__(tokens, length)
        self.hiding = hiding

    @property
    def num_targets(self) -> int:
        return len(self.tokens)  # each token is its own target

    def __getitem__(self, place: Tensor | Span) -> MaskedTokenBatch:  # type: ignore[override]
        return self.of_epoch(place, 0)

    def of_epoch(self, place: Tensor | Span, epoch: int) -> MaskedTokenBatch:
        """The batch of a span, or of window numbers (B,), with the tokens hidden that an epoch hides."""
        if not isinstance(place, Span):
            length = min(self.length, self.num_targets)
            place = Span((place * self.length).clamp(max=self.num_targets - length), length)
        targets = self.tokens.unfold(0, place.length, 1)[place.starts].long()  # (B, T)
        seen, hidden = hide(targets, place.starts, epoch, self.hiding)
        return MaskedTokenBatch(seen, torch.ones_like(hidden), targets, hidden)

    def prefix(self, num_targets: int) -> "MaskedWindows":
        return MaskedWindows(self.tokens[:num_targets], self.length, self.hiding)


class Anew(Augmented):
    """A data set that is another one in each epoch, by its method `of_epoch(place, epoch)`."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, place: tuple[Any, int]) -> Any:
        return self.dataset.of_epoch(*place)


class MaskedText(RunningText):
    """Base of the texts below; windows are shuffled, and each epoch hides other tokens.

    Args:
        window: T.
        hidden_share: of the tokens of a window.
        batching: "windows"; nothing is carried from one to the next.
        settings: see `RunningText`.
    """

    def __init__(
        self, *, window: int = 64, hidden_share: float = 0.15, batching: str = "windows", **settings: Any
    ) -> None:
        super().__init__(window=window, batching=batching, **settings)
        if batching != "windows":
            raise UserError(f"data.batching={batching} carries a state on, and hidden tokens need none; use windows.")
        if not 0 < hidden_share < 1:
            raise UserError(f"data.hidden_share={hidden_share} must be above 0 and below 1.")
        self.hidden_share = hidden_share

    def fit_options(self) -> dict[str, Any]:
        return {"special": SPECIAL}

    def load(self) -> Loaded:
        loaded = super().load()
        hiding = Hiding(self.hidden_share, loaded.facts["vocab_size"], self.seed)
        if self.tokenizer is None or tuple(self.tokenizer.tokens[: len(SPECIAL)]) != SPECIAL:
            raise UserError("The checkpoint was not trained to tell hidden tokens; its vocabulary has no <mask>.")
        for name, windows in loaded.parts.items():
            loaded.parts[name] = MaskedWindows(windows.tokens, self.window, hiding)  # type: ignore[attr-defined]
        loaded.facts.pop("num_characters", None)
        return loaded

    def check_length(self, train: Any) -> None:
        if len(train.tokens) < self.window:
            raise UserError(
                f"The training part has {len(train.tokens)} tokens, fewer than data.window={self.window}; give a "
                "longer text, or a smaller data.window."
            )

    def make_order(self, dataset: Any, batch_size: int, **options: Any) -> BatchOrder:
        return WindowOrder(dataset.num_targets, batch_size, window=self.window, **options)

    def train_dataloader(self) -> Loader:
        plain = self.loader("train", shuffle=True, batch_size=self.train_batch_size)
        return plain if self.overfit else Loader(Anew(plain.dataset), plain.order)


class MaskedDocs(MaskedText, PythonDocs):
    """Python's language reference; see `MaskedText`."""


class MaskedFile(MaskedText, TextFile):
    """A user's own text; see `MaskedText` and `TextFile`."""
