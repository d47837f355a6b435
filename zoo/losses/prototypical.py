"""Prototypical networks: a class is where its few examples lie on average, and a sample is of the nearest one.

Snell, Swersky, Zemel, "Prototypical networks for few-shot learning", 2017 (arXiv 1703.05175), equations 1 and 2:

    c_k = 1/|S_k| sum_(x in S_k) f(x)                          the prototype of a class, from its few examples S_k
    p(y = k | x) = softmax_k(-|f(x) - c_k|^2)                  f: what a network, or nobody, makes of an input

An episode has N classes ("N-way"), K examples of each ("K-shot"), and queries that are to be told apart.

Axes: N classes, K examples of each, Q queries, F features
"""

import torch
from torch import Tensor
from torch.nn import functional


def prototypes(examples: Tensor) -> Tensor:
    """(N, K, F) -> (N, F)."""
    return examples.mean(1)


def nearness(queries: Tensor, centres: Tensor) -> Tensor:
    """Queries (Q, F) and prototypes (N, F) -> logits (Q, N): minus the squared distance."""
    return -(queries[:, None] - centres).square().sum(2)  # (Q, N, F) -> (Q, N)


def split_episode(labels: Tensor, shots: int) -> tuple[Tensor, Tensor, Tensor]:
    """A labelled batch as an episode: of each class its first samples are the examples, the others are queries.

    A class with too few samples for both takes no part, and one class alone is no episode.

    Args:
        labels: (B,) class indices.
        shots: K.

    Returns:
        Numbers of the samples that are examples (N, K) and queries (Q,), and which of the N classes a query is of (Q,).
    """
    examples: list[Tensor] = []
    queries, right = [], []
    for k in labels.unique():
        (members,) = torch.nonzero(labels == k, as_tuple=True)
        if len(members) > shots:
            right.append(torch.full_like(members[shots:], len(examples)))
            examples.append(members[:shots])
            queries.append(members[shots:])
    if len(examples) < 2:
        return labels.new_empty(0, shots), labels.new_empty(0), labels.new_empty(0)
    return torch.stack(examples), torch.cat(queries), torch.cat(right)


def episode_loss(embedded: Tensor, labels: Tensor, shots: int) -> tuple[Tensor, Tensor]:
    """Cross-entropy and accuracy of a batch as an episode, means over its queries; 0 where it has none.

    Args:
        embedded: f(x), (B, F).
        labels: (B,) class indices.
    """
    examples, queries, right = split_episode(labels, shots)
    if not len(queries):
        return 0.0 * embedded.sum(), embedded.new_zeros(())
    logits = nearness(embedded[queries], prototypes(embedded[examples]))  # (Q, N)
    hits = (logits.detach().argmax(1) == right).to(torch.promote_types(embedded.dtype, torch.float32))
    return functional.cross_entropy(logits, right), hits.mean()
