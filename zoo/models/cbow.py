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
from torch import Tensor, nn

from zoo.errors import UserError

PADDING = 0  # of a bag with fewer words


class CBOW(nn.Module):
    """Two vectors for each word.

    Args:
        num_words: V.
        embedding_dim: D.
        sparse_embedding: gradients have only the rows that a batch used.
    """

    def __init__(self, *, num_words: int, embedding_dim: int = 200, sparse_embedding: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(num_words, embedding_dim, sparse=sparse_embedding)  # v
        self.middle = nn.Embedding(num_words, embedding_dim, sparse=sparse_embedding)  # u
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # Short vectors: all scores start near 0, where the sigmoid is steepest and no word is preferred.
        for table in (self.words, self.middle):
            nn.init.uniform_(table.weight, -0.5 / table.embedding_dim, 0.5 / table.embedding_dim)

    @property
    def vectors(self) -> Tensor:
        """(V, D), what is kept."""
        return self.words.weight

    def forward(self, around: Tensor, word: Tensor, negatives: Tensor) -> Tensor:
        """Words around (B, C), those in the middle (B,), those drawn by chance (B, N) -> scores (B, 1 + N)."""
        if around.ndim != 2:
            raise UserError("model=cbow reads the words around at once; it needs data.bag=true, which it sets itself.")
        real = (around != PADDING).unsqueeze(2)  # (B, C, 1)
        h = (self.words(around) * real).sum(1) / real.sum(1).clamp(min=1)  # (B, D)
        candidates = torch.cat([word.unsqueeze(1), negatives], 1)  # (B, 1 + N)
        return torch.einsum("bd,bnd->bn", h, self.middle(candidates))  # (B, 1 + N)
