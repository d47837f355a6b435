"""Skip-gram: vectors of words from which the words near them can be told.

Mikolov, Sutskever, Chen, Corrado, Dean, "Distributed representations of words and phrases and their compositionality",
2013 (arXiv 1310.4546). A word w has two vectors: v_w where it stands in the middle, u_w where it stands near another.
A score is their product, and the loss wants it high for words that stood near each other and low for words that are
drawn by chance (negative sampling, equation 4):

    score(w, c) = v_w . u_c        P(c was near w) = sigmoid(score)

Words that have the same words around them get the same vectors; v is what is kept.

Departures from the paper
1. Negative sampling alone, without the hierarchical softmax and without phrases.
2. The vectors u start small and random as v do; at 0, as in the authors' program, v would get no gradient at first.

Axes: B words, N draws by chance for each, V vocabulary, D width of a vector
Trained by: skipgram    Data: words_docs, words_text    Equal to: shifted PMI, gensim's neighbours (tests)
"""

import torch
from torch import Tensor

from zoo.errors import UserError
from zoo.layers.word_vectors import WordVectors


class Skipgram(WordVectors):
    """A word tells those near it.

    Args: see `WordVectors`.
    """

    def forward(self, center: Tensor, context: Tensor, negatives: Tensor) -> Tensor:
        """Words (B,), those near them (B,), those drawn by chance (B, N) -> scores (B, 1 + N), the near one first."""
        if center.ndim != 1:
            raise UserError("model=skipgram reads one word at a time; leave data.bag=true to model=cbow.")
        others = torch.cat([context.unsqueeze(1), negatives], 1)  # (B, 1 + N)
        v, u = self.words(center), self.near(others)  # (B, D), (B, 1 + N, D)
        return torch.einsum("bd,bnd->bn", v, u)  # (B, 1 + N)
