"""Negative sampling: a word and one that stood near it are told from the word and others that were drawn by chance.

    loss = -log s(v . u_near) - sum_n log s(-v . u_n)        with the sigmoid s

Mikolov, Sutskever, Chen, Corrado, Dean, "Distributed representations of words and phrases and their compositionality",
2013 (arXiv 1310.4546), equation 4. No softmax over the vocabulary is needed, so a step costs the same for any number of
words.

Axes: B words, N draws for each
"""

from torch import Tensor
from torch.nn import functional as F


def negative_sampling(scores: Tensor) -> Tensor:
    """The loss above, the sum over the draws, mean over B.

    Args:
        scores: (B, 1 + N), v . u of the word that stood near, then of the N that were drawn.
    """
    return -(F.logsigmoid(scores[:, 0]) + F.logsigmoid(-scores[:, 1:]).sum(1)).mean()
