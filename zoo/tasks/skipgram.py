"""Word vectors by negative sampling: words that stood near each other are told from words drawn by chance.

Skip-gram and CBOW (Mikolov et al. 2013) differ in what the data pairs and in how a model reads it; what is learnt is
the same: see `zoo.losses.embeddings`. Beside the loss, `near` is how probable the model finds a pair that did stand
together, `by_chance` how probable one that was drawn: 1 and 0 would be perfect, and cannot both be reached, since what
is drawn by chance stands together at times.

Axes: B words, N draws for each, V vocabulary, D width of a vector
"""

from typing import Any

from torch import Tensor

from zoo.losses.embeddings import negative_sampling
from zoo.metrics.embeddings import Words
from zoo.tasks.base import Task
from zoo.text import PAD, UNKNOWN

SHOWN, NEIGHBOURS = 12, 6  # words, and neighbours of each
LETTERS = 4  # that a word has at least which is shown: shorter ones are mostly "the", "of", ...


class Skipgram(Task):
    """Word vectors.

    Args:
        model: (center, context, negatives) -> scores (B, 1 + N), the first of the pair that stood together; its
            attribute `vectors` (V, D) is what is learnt.
        optimizer, scheduler: see `Task`.
    """

    batches = ("SkipgramBatch",)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        scores = self.model(*batch.inputs)  # (B, 1 + N)
        probable = scores.detach().sigmoid()  # (B, 1 + N)
        return {
            "loss": negative_sampling(scores),
            "near": probable[:, 0].mean(),
            "by_chance": probable[:, 1:].mean(),
        }

    def show(self, batch: Any) -> dict[str, Any]:
        """The words nearest to some frequent ones."""
        tokenizer = getattr(self.trainer.datamodule, "tokenizer", None)
        vectors: Any = getattr(self.model, "vectors", None)
        if tokenizer is None or vectors is None:
            return {}
        words = Words(tokenizer.tokens, vectors.cpu(), leave_out=(PAD, UNKNOWN))
        frequent = [word for word in words.number if len(word) >= LETTERS and word.isalpha()] or list(words.number)
        rows = ["| word | nearest words, with their cosine |", "|---|---|"]
        for word in frequent[:SHOWN]:
            found = (f"{near} {similar:.2f}" for near, similar in words.neighbours(word, NEIGHBOURS))
            rows.append(f"| **{word}** | {', '.join(found)} |".replace("_", "\\_"))
        return {"neighbours": "\n".join(rows)}
