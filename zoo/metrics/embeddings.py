"""What word vectors say: which words are alike, and what is to one word as a second is to a third.

    cosine(a, b) = a . b / (|a| |b|)
    analogy      a is to b as c is to the word whose vector is nearest to b - a + c, of unit vectors each
                 (Mikolov, Yih, Zweig, "Linguistic regularities in continuous space word representations", 2013)

What skip-gram with k negative samples learns where its vectors have room enough (Levy and Goldberg, "Neural word
embedding as implicit matrix factorization", 2014, equation 11):

    v_w . u_c = PMI(w, c) - log k        PMI(w, c) = log( P(w, c) / (P(w) P(c)) )

Axes: V words, D width of a vector, Q questions, K answers
"""

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.errors import UserError

Found = list[tuple[str, float]]  # words with their cosine, the nearest first
SUGGESTED = 3  # words that a message about an unknown one names


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """(..., D) and (..., D) -> (...), broadcast, from -1 to 1; 0 where a vector is 0."""
    return (F.normalize(a, dim=-1) * F.normalize(b, dim=-1)).sum(-1)


def nearest(vectors: Tensor, questions: Tensor, top: int, leave_out: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """The vectors that point most nearly the same way.

    Args:
        vectors: (V, D).
        questions: (Q, D).
        top: K; fewer where there are not so many.
        leave_out: numbers that are no answer.

    Returns:
        Their numbers (Q, K) int64, the nearest first, those equally near in their own order; and their cosines (Q, K).
    """
    similar = F.normalize(questions, dim=1) @ F.normalize(vectors, dim=1).T  # (Q, V)
    out = torch.tensor(list(leave_out), dtype=torch.long, device=similar.device)
    similar = similar.index_fill(1, out, -torch.inf)
    top = min(top, vectors.shape[0] - len(set(leave_out)))
    found, order = similar.sort(dim=1, descending=True, stable=True)
    return order[:, :top], found[:, :top]


def analogy(vectors: Tensor, a: int, b: int, c: int) -> Tensor:
    """(D,), where the word should be that is to c as b is to a."""
    first, second, third = F.normalize(vectors[[a, b, c]], dim=1)
    return second - first + third


def pmi(counts: Tensor) -> Tensor:
    """Pointwise mutual information of each word and each of its neighbours, in nats; -inf where they never met.

    Args:
        counts: (V, V), how often the second stood near the first.
    """
    counts = counts.double()
    total = counts.sum()
    expected = counts.sum(1, keepdim=True) * counts.sum(0) / total  # (V, V)
    return (counts / expected).log().masked_fill(counts == 0, -torch.inf)


class Words:
    """Word vectors with their words.

    Args:
        words: V texts.
        vectors: (V, D).
        leave_out: words that are no answer and cannot be asked for, such as `<unk>`.
    """

    def __init__(self, words: Sequence[str], vectors: Tensor, leave_out: Sequence[str] = ()) -> None:
        if len(words) != len(vectors):
            raise UserError(f"There are {len(words)} words and {len(vectors)} vectors; they do not belong together.")
        self.words, self.vectors = list(words), vectors.detach().float()
        self.number = {word: i for i, word in enumerate(self.words) if word not in set(leave_out)}
        self.left_out = [i for i, word in enumerate(self.words) if word not in self.number]

    def find(self, word: str) -> int:
        """The number of a word, else of it in lower case. Raises UserError, with what is spelled alike."""
        for spelled in (word, word.lower()):
            if spelled in self.number:
                return self.number[spelled]
        alike = difflib.get_close_matches(word.lower(), self.number, n=SUGGESTED, cutoff=0.6)
        hint = f"did you mean {' or '.join(map(repr, alike))}?" if alike else "and no word there is spelled like it."
        raise UserError(f"'{word}' is not among the {len(self.number):,} words of the vocabulary; {hint}")

    def neighbours(self, word: str, top: int = 10) -> Found:
        """The `top` words nearest to a word, without itself."""
        number = self.find(word)
        return self._answer(self.vectors[number], top, [number])

    def analogy(self, a: str, b: str, c: str, top: int = 10) -> Found:
        """The `top` words that may be to c as b is to a; none of the three is an answer."""
        given = [self.find(word) for word in (a, b, c)]
        return self._answer(analogy(self.vectors, *given), top, given)

    def _answer(self, question: Tensor, top: int, leave_out: Sequence[int]) -> Found:
        numbers, similar = nearest(self.vectors, question.unsqueeze(0), top, [*self.left_out, *leave_out])  # (1, K)
        return [(self.words[i], x) for i, x in zip(numbers[0].tolist(), similar[0].tolist(), strict=True)]
