"""Telling tokens that were hidden, from those on both sides of them.

    loss = -1/N sum log p(x_t | the text as it is seen)      over the N hidden tokens, in nats
    perplexity = e^loss                                      how many tokens the model hesitates between

Devlin et al., "BERT", 2019 (arXiv 1810.04805), section 3.1. Which tokens are hidden is up to the data. Every mean is
over hidden tokens, also where batches hold different numbers of them.

Axes: B rows, T tokens of a window, n hidden tokens, V vocabulary
"""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.pictures.texts import plain
from zoo.tasks.base import Task
from zoo.tasks.language_modeling import LARGEST, as_code, is_best
from zoo.text import Tokenizer

GUESSES = 3  # of each hidden token that is shown
SHOWN = 2  # windows
SPACED = ("word", "wordpiece")  # kinds of tokenizers that put spaces between tokens


class MaskedLanguageModeling(Task):
    """What stood there.

    Args:
        model: (tokens (B, T), mask (B, T)) -> logits (B, T, V); one that takes `at=` (B, T) is asked for the logits of
            these places alone, (n, V), which saves most of the last layer.
        optimizer, scheduler: see `Task`.
    """

    batches = ("MaskedTokenBatch",)
    shows_every_epoch = True

    def __init__(
        self, model: nn.Module, optimizer: Callable[..., Any], scheduler: Callable[..., Any] | None = None
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        self.asks = "at" in inspect.signature(model.forward).parameters

    def logits(self, batch: Any) -> Tensor:
        """(n, V), of the hidden tokens, row by row."""
        if self.asks:
            return self.model(*batch.inputs, at=batch.hidden)
        return self.model(*batch.inputs)[batch.hidden]

    def losses(self, batch: Any) -> dict[str, Tensor]:
        logits, targets = self.logits(batch), batch.targets[batch.hidden]  # (n, V), (n,)
        at_least = torch.promote_types(logits.dtype, torch.float32)  # float64 where the run is
        count = max(1, len(targets))  # a short window may hide nothing in this process
        right = is_best(logits.detach(), targets).to(at_least) if len(targets) else logits.detach().new_zeros(0)
        return {"loss": F.cross_entropy(logits, targets, reduction="sum") / count, "accuracy": right.sum() / count}

    def count_items(self, batch: Any) -> int:
        return int(batch.hidden.sum())

    def derived(self, means: dict[str, float]) -> dict[str, float]:
        if "loss" not in means:
            return {}
        return {"perplexity": math.inf if means["loss"] > LARGEST else math.exp(means["loss"])}

    def show(self, batch: Any) -> dict[str, Any]:
        """Some windows with their hidden tokens numbered, and what the model takes each of these for."""
        tokenizer = getattr(self.trainer.datamodule, "tokenizer", None)
        if tokenizer is None:
            return {}
        few = type(batch)(*(part[:SHOWN] for part in batch))
        with torch.no_grad():
            best = self.logits(few).softmax(1).topk(min(GUESSES, tokenizer.vocab_size))  # (n, guesses)
        guesses = list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return {"hidden_tokens": "\n\n".join(pages(few, guesses, tokenizer))}


def pages(batch: Any, guesses: Sequence[tuple[list[int], list[float]]], tokenizer: Tokenizer) -> Iterator[str]:
    """A window a page, in markdown: the text, and a table of its hidden tokens.

    Args:
        batch: with few windows.
        guesses: of the n hidden tokens, the likeliest tokens and their probabilities.
    """
    following = iter(guesses)
    for targets, mask, hidden in zip(batch.targets.tolist(), batch.mask, batch.hidden, strict=True):
        places = hidden.nonzero().flatten().tolist()
        yield as_code(numbered(targets[: int(mask.sum())], places, tokenizer))
        rows = ["| hidden | it was | the model's guesses |", "|---|---|---|"]
        for number, (place, (tokens, shares)) in enumerate(zip(places, following, strict=False), start=1):
            found = (f"{plain(spelled(i, tokenizer))} {share:.2f}" for i, share in zip(tokens, shares, strict=True))
            sign = " ✓" if tokens[0] == targets[place] else ""
            rows.append(f"| [{number}] | {plain(spelled(targets[place], tokenizer))}{sign} | {', '.join(found)} |")
        yield "\n".join(rows)


def numbered(tokens: Sequence[int], places: Sequence[int], tokenizer: Tokenizer) -> str:
    """The text of tokens, with [1], [2], ... at the places."""
    borders = [-1, *places, len(tokens)]
    pieces = [tokenizer.decode(tokens[before + 1 : after]) for before, after in pairwise(borders)]
    marks = [f"[{number}]" for number in range(1, len(places) + 1)]
    parts = [part for pair in zip_longest(pieces, marks, fillvalue="") for part in pair if part]
    return (" " if tokenizer.kind in SPACED else "").join(parts)


def spelled(token: int, tokenizer: Tokenizer) -> str:
    """The text of one token, with its white space to be seen."""
    text = tokenizer.decode([token]) or tokenizer.tokens[token]
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")
