"""What a beam search has to remember: the texts that are still open, and the best of those that have ended.

    score(y) = log p(y) / ((5 + |y|) / 6)^alpha        |y| tokens, the one that ends the text among them

Wu et al., "Google's neural machine translation system: bridging the gap between human and machine translation", 2016
(arXiv 1609.08144), equation 14 without its coverage penalty. With alpha = 0 each token makes a text less likely, so
short ones win; the nearer alpha is to 1, the more the mean over the tokens counts.

The search itself is `zoo.decoding.beam_search`.

Axes: A texts side by side, K beams of each, V vocabulary, n tokens written so far, N tokens at most
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

PIECE = 128  # numbers that `largest` takes the maximum of


class Beams(NamedTuple):
    """What a search found, the best first.

    tokens: (B, K, N) int64, 0 after `eos`.
    scores: (B, K); -inf where there are fewer than K texts, whose tokens are 0.
    """

    tokens: Tensor
    scores: Tensor

    def best(self, k: int, late: Tensor | None = None) -> "Beams":
        """The k best of each text; those that are `late`, (B, K) bool, after all others."""
        scores, order = self.scores.sort(dim=1, descending=True, stable=True)  # (B, K) each
        if late is not None:
            group = late.gather(1, order).long().masked_fill(scores == -torch.inf, 2)
            order = order.gather(1, group.argsort(dim=1, stable=True))
        scores = self.scores.gather(1, order[:, :k])  # (B, k)
        tokens = taken(self.tokens, order[:, :k])  # (B, k, N)
        return Beams(tokens.masked_fill((scores == -torch.inf).unsqueeze(2), 0), scores)


def taken(texts: Tensor, places: Tensor) -> Tensor:
    """(B, K, N) and (B, k) int64 -> (B, k, N), for each text the beams at its places."""
    return texts.gather(1, places.unsqueeze(2).expand(-1, -1, texts.shape[2]))


def largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest numbers of each row, (A, V) -> (A, k) each: themselves, the largest first, and their places.

    The k pieces of a row whose maxima are largest have them all, and a maximum takes a tenth of the time of a search.
    """
    whole = x.shape[1] // PIECE * PIECE  # what pieces cover
    if whole < 4 * k * PIECE:
        values, places = x.topk(k)
        return values, places
    pieces = x[:, :whole].unflatten(1, (-1, PIECE))  # (A, pieces, PIECE)
    best = pieces.amax(2).topk(k).indices.unsqueeze(2)  # (A, k, 1)
    begins, inside = best * PIECE, torch.arange(PIECE, device=x.device)
    rest = torch.arange(whole, x.shape[1], device=x.device).expand(len(x), -1)
    places = torch.cat([(begins + inside).flatten(1), rest], 1)  # (A, k PIECE and the rest)
    values, chosen = x.gather(1, places).topk(k)
    return values, places.gather(1, chosen)


@dataclass
class Search:
    """K beams of each of A texts that are still searched for.

    Args:
        rows: (A,) which of the B texts they are.
        limits: (A,) the most tokens of each.
        written: (A, J, n) tokens of the open beams, the best first; J is 1 before the first token, and then K.
        sums: (A, J) their log p; -inf where there is none.
        ended: the K best that have ended, (A, K, N) and (A, K).
        num_ended: (A,) how many have ended.
        alpha: the length penalty.
    """

    rows: Tensor
    limits: Tensor
    written: Tensor
    sums: Tensor
    ended: Beams
    num_ended: Tensor
    alpha: float

    @classmethod
    def begin(cls, first: Tensor, limits: Tensor, beams: int, alpha: float, dtype: torch.dtype) -> "Search":
        """A search for texts that come after `first` (B, T), of which nothing is written; see `beam_search`."""
        count, device = len(first), first.device
        nothing = torch.full((count, beams), -torch.inf, dtype=dtype, device=device)
        return cls(
            rows=torch.arange(count, device=device),
            limits=limits,
            written=first.new_zeros(count, 1, 0),
            sums=nothing.new_zeros(count, 1),
            ended=Beams(first.new_zeros(count, beams, int(limits.max())), nothing),
            num_ended=first.new_zeros(count),
            alpha=alpha,
        )

    def score(self, sums: Tensor, length: Any) -> Tensor:
        return sums / ((5 + length) / 6) ** self.alpha

    def with_ended(self, texts: Tensor, scores: Tensor) -> Beams:
        """Texts (A, k, n) and their scores (A, k) beside those that have ended."""
        padded = nn.functional.pad(texts, (0, self.ended.tokens.shape[2] - texts.shape[2]))  # (A, k, N)
        return Beams(torch.cat([self.ended.tokens, padded], 1), torch.cat([self.ended.scores, scores], 1))

    def likeliest(self, logits: Tensor, never: Tensor) -> tuple[Tensor, Tensor]:
        """The best 2 K continuations, fewer if there are not as many: (A, k) log p, and places among (J, V)."""
        most = min(2 * self.ended.scores.shape[1], logits[0].numel())
        log_p = logits.to(self.sums.dtype).log_softmax(2)  # (A, J, V)
        log_p.index_fill_(2, never, -torch.inf).add_(self.sums.unsqueeze(2))
        return largest(log_p.flatten(1), most)

    def advance(self, logits: Tensor, eos: int, never: Tensor) -> Tensor:
        """Writes one token more, given logits (A, J, V) of what may come after each open beam; `never` are banned.

        Among the best 2 K continuations at least K do not end, since each beam ends in one way alone.

        Returns:
            (A, K): which of the J beams each open one goes on from.
        """
        k, size = self.ended.scores.shape[1], logits.shape[2]
        values, places = self.likeliest(logits, never)
        missing = 2 * k - values.shape[1]  # the first steps of many beams
        values = nn.functional.pad(values, (0, missing), value=-torch.inf)  # (A, 2 K)
        places = nn.functional.pad(places, (0, missing))  # (A, 2 K)
        parents, tokens = places // size, places % size
        texts = torch.cat([taken(self.written, parents), tokens.unsqueeze(2)], 2)  # (A, 2 K, n)
        ends = (tokens == eos) & (values > -torch.inf)
        if ends[:, :k].any():
            scores = self.score(values[:, :k], texts.shape[2]).masked_fill(~ends[:, :k], -torch.inf)  # (A, K)
            self.ended = self.with_ended(texts[:, :k], scores).best(k)
            self.num_ended = self.num_ended + ends[:, :k].sum(1)
        self.sums, chosen = values.masked_fill(ends, -torch.inf).topk(k)  # (A, K) each
        self.written = taken(texts, chosen)  # (A, K, n)
        return parents.gather(1, chosen)

    def done(self) -> Tensor:
        """(A,) bool: no open beam can win; or K have ended, none of the open is better so far; or there is no room.

        To stop as soon as K have ended would be wrong: those may be poor ones, beside a good one that is still open.
        """
        n, best = self.written.shape[2], self.ended.scores[:, 0]  # (A,)
        hopeless = best >= self.score(self.sums[:, 0], self.limits)  # each token more makes a sum smaller
        enough = (self.num_ended >= self.sums.shape[1]) & (best >= self.score(self.sums[:, 0], n))
        return hopeless | enough | (self.limits <= n)

    def results(self) -> Beams:
        """The best K, (A, K, N) and (A, K): those that ended, then open ones. What its limit has cut has ended, too."""
        n, k = self.written.shape[2], self.sums.shape[1]
        late = torch.arange(2 * k, device=self.rows.device) >= k  # (2 K,)
        everything = self.with_ended(self.written, self.score(self.sums, n))
        return everything.best(k, late & (self.limits > n).unsqueeze(1))

    def leave(self, done: Tensor, kept: Tensor) -> tuple[Tensor, Beams]:
        """Goes on with those texts alone that are `kept`; returns the rows and results of the others."""
        found = self.results()
        left = self.rows[done], Beams(found.tokens[done], found.scores[done])
        self.rows, self.limits, self.num_ended = self.rows[kept], self.limits[kept], self.num_ended[kept]
        self.written, self.sums = self.written[kept], self.sums[kept]
        self.ended = Beams(self.ended.tokens[kept], self.ended.scores[kept])
        return left
