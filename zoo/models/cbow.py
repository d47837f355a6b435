"""Continuous bag of words: vectors of words, whose mean tells the word in the middle.

Mikolov, Chen, Corrado, Dean, "Efficient estimation of word representations in vector space", 2013 (arXiv 1301.3781),
section 3.1, with the negative sampling of Mikolov, Sutskever et al., 2013 (arXiv 1310.4546), equation 4. The order of
the words around does not count, hence a bag:

    h = mean of v_c over the words c around        score(w) = h . u_w        P(w was in the middle) = sigmoid(score)

Next to skip-gram it makes one sample of all the words around instead of one of each, so it is faster and averages out
what a single rare word could teach.

Departures from the paper
1. Negative sampling in place of the hierarchical softmax.
2. The gradient of the mean is shared out among its words; the authors' program gives all of it to each.
3. The vectors u start small and random as v do, not at 0.

Axes: B words, C words around each, N draws by chance for each, V vocabulary, D width of a vector
Trained by: skipgram    Data: words_docs, words_text    Equal to: skip-gram where one word stands around (tests)
"""

import torch
from torch import Tensor

from zoo.errors import UserError
from zoo.layers.word_vectors import WordVectors

PADDING = 0  # of a bag with fewer words


class CBOW(WordVectors):
    """The mean of the words around tells the one in the middle.

    Args: see `WordVectors`.
    """

    def forward(self, around: Tensor, word: Tensor, negatives: Tensor) -> Tensor:
        """Words around (B, C), those in the middle (B,), those drawn by chance (B, N) -> scores (B, 1 + N)."""
        if around.ndim != 2:
            raise UserError("model=cbow reads the words around at once; it needs data.bag=true, which it sets itself.")
        real = (around != PADDING).unsqueeze(2)  # (B, C, 1)
        h = (self.words(around) * real).sum(1) / real.sum(1).clamp(min=1)  # (B, D)
        candidates = torch.cat([word.unsqueeze(1), negatives], 1)  # (B, 1 + N)
        return torch.einsum("bd,bnd->bn", h, self.near(candidates))  # (B, 1 + N)
