"""Two vectors for each word, which skip-gram and CBOW have in common.

Axes: V vocabulary, D width of a vector
"""

from torch import Tensor, nn


class WordVectors(nn.Module):
    """Vectors v of words, and vectors u of words as those near them see them.

    Args:
        num_words: V.
        embedding_dim: D.
        sparse_embedding: gradients have only the rows that a batch used.
    """

    def __init__(self, *, num_words: int, embedding_dim: int = 200, sparse_embedding: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(num_words, embedding_dim, sparse=sparse_embedding)  # v
        self.near = nn.Embedding(num_words, embedding_dim, sparse=sparse_embedding)  # u
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # Short vectors: all scores start near 0, where the sigmoid is steepest and no pair is preferred. The range is
        # that of the authors' program.
        for table in (self.words, self.near):
            nn.init.uniform_(table.weight, -0.5 / table.embedding_dim, 0.5 / table.embedding_dim)

    @property
    def vectors(self) -> Tensor:
        """(V, D), what is kept."""
        return self.words.weight
