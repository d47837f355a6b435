"""Alignment: which places of the source a decoder looks at, and the mean of what is there.

    e_ts = score(q_t, m_s)                           how well place s of the source fits the decoder's state q_t
    a_ts = exp(e_ts) / sum over real s' of exp(e_ts')
    c_t  = sum over s of a_ts m_s                    the context

Bahdanau, Cho, Bengio, "Neural machine translation by jointly learning to align and translate", 2015 (arXiv 1409.0473),
section 3.1 and appendix A.1.2:

    additive    v^T tanh(W q + U m)

Luong, Pham, Manning, "Effective approaches to attention-based neural machine translation", 2015 (arXiv 1508.04025),
equation 8:

    dot         q^T m
    general     q^T W m
    concat      v^T tanh(W [q; m])

Where W = [W' U'], W [q; m] = W' q + U' m, so concat is the additive score; what tells the two papers apart is which
state asks (zoo.layers.recurrent_decoder). What the source alone decides (U m, W m) is computed once for all steps.

A constant added to all scores of a step changes nothing, so no map has a bias but that of additive's W.

Axes: B batch, T target steps, S places of the source, Q size of a query, D size of a place, A size of what is scored
"""

import torch
from torch import Tensor, nn

from zoo.errors import UserError, suggest


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Shares of the real places.

    Args:
        scores: (B, T, S).
        mask: (B, S), True where a place is real; None where all are.

    Returns:
        (B, T, S); 0 where a place is not real, so all 0 where none is, and otherwise 1 in sum over S.
    """
    if mask is None:
        return scores.softmax(2)
    padding = ~mask.unsqueeze(1)  # (B, 1, S)
    # The lowest number and not -inf, which gives NaN where nothing is real, and in the gradient too.
    weights = scores.masked_fill(padding, torch.finfo(scores.dtype).min).softmax(2)
    return weights.masked_fill(padding, 0.0)


class Alignment(nn.Module):
    """Base: a score, and what follows from it.

    Args:
        query_size: Q.
        memory_size: D.
    """

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__()
        self.query_size, self.memory_size = query_size, memory_size

    def keys(self, memory: Tensor) -> Tensor:
        """What of the score the source alone decides, (B, S, D) -> (B, S, A)."""
        raise NotImplementedError

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """(B, T, Q), (B, S, A) -> (B, T, S)."""
        raise NotImplementedError

    def forward(
        self, query: Tensor, memory: Tensor, mask: Tensor | None = None, *, keys: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Context (B, T, D) and weights (B, T, S).

        Args:
            query: (B, T, Q), the states that ask.
            memory: (B, S, D), what they look at.
            mask: (B, S), True where a place is real; None where all are.
            keys: `keys(memory)`, where one call a step would compute it again each time.
        """
        scores = self.scores(query, self.keys(memory) if keys is None else keys)  # (B, T, S)
        weights = masked_softmax(scores, mask)  # (B, T, S)
        return torch.bmm(weights, memory), weights  # (B, T, D), (B, T, S)


class Dot(Alignment):
    """q^T m, which asks for Q = D."""

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__(query_size, memory_size)
        if query_size != memory_size:
            raise UserError(
                f"model.attention=dot multiplies a state of {query_size} values with a place of the source that has "
                f"{memory_size}; make them equal, or use model.attention=general."
            )

    def keys(self, memory: Tensor) -> Tensor:
        return memory

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        return torch.bmm(query, keys.transpose(1, 2))


class General(Alignment):
    """q^T W m; A = Q."""

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__(query_size, memory_size)
        self.key = nn.Linear(memory_size, query_size, bias=False)  # W
        nn.init.xavier_uniform_(self.key.weight)

    def keys(self, memory: Tensor) -> Tensor:
        return self.key(memory)

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        return torch.bmm(query, keys.transpose(1, 2))


class Additive(Alignment):
    """v^T tanh(W q + U m); A = Q. For the gradient B T S A values are kept."""

    def __init__(self, query_size: int, memory_size: int, *, bias: bool = True) -> None:
        super().__init__(query_size, memory_size)
        self.query = nn.Linear(query_size, query_size, bias=bias)  # W
        self.key = nn.Linear(memory_size, query_size, bias=False)  # U
        self.score = nn.Linear(query_size, 1, bias=False)  # v
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # Queries and keys of about the same size, and scores near 0: every place is looked at in the beginning.
        for layer in (self.query, self.key, self.score):
            nn.init.xavier_uniform_(layer.weight)
        if self.query.bias is not None:
            nn.init.zeros_(self.query.bias)

    def keys(self, memory: Tensor) -> Tensor:
        return self.key(memory)

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        sums = self.query(query).unsqueeze(2) + keys.unsqueeze(1)  # (B, T, S, A)
        # tanh(x) = 2 sigmoid(2 x) - 1; on a CPU torch's sigmoid takes a fifth of the time that its tanh does.
        # In place, for nobody needs the sums again.
        return 2 * self.score(sums.mul_(2).sigmoid_()).squeeze(3) - self.score.weight.sum()  # (B, T, S)


class Concat(Additive):
    """v^T tanh(W [q; m]) with W = [query.weight key.weight]."""

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__(query_size, memory_size, bias=False)


ALIGNMENTS: dict[str, type[Alignment]] = {"dot": Dot, "general": General, "concat": Concat, "additive": Additive}


def alignment(name: str, query_size: int, memory_size: int) -> Alignment:
    """The alignment of that name. Raises UserError where there is none."""
    if name not in ALIGNMENTS:
        raise UserError(f"There is no model.attention={name}{suggest(name, ALIGNMENTS)}")
    return ALIGNMENTS[name](query_size, memory_size)
