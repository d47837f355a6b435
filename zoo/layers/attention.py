"""Attention: each query takes a mixture of values, weighted by how well it matches their keys.

Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin, "Attention is all you need", 2017 (arXiv
1706.03762), sections 3.2.1 and 3.2.2:

    attention(q, k, v) = softmax(q k^T / sqrt(d)) v                                   (equation 1)
    heads: q W_q, k W_k, v W_v are cut into H parts, each attends by itself, and W_o mixes what they found

What is computed is up to torch's fused kernel, which never has the weights as a whole: its memory is linear in T and S
(Dao, Fu, Ermon, Rudra, Re, "FlashAttention", 2022, arXiv 2205.14135). Weights are computed beside it, for pictures,
within `watched` alone. On a CPU, torch has no fused kernel with dropout on the weights; training with it needs the
memory of all weights.

A mask says True where a query may attend. A query that may attend to nothing gets 0, and gives no gradient.

Axes: B batch, A rows of a memory (B, if nothing else is said), T queries, S keys and values, P of them seen in earlier
calls, D model width, H heads, d = D / H
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UserError

Cache = tuple[Tensor, Tensor] | tuple[()]  # keys and values, each (B, H, P, d); empty before the first call
LANES = 16  # floats in the widest register of a CPU


def causal_mask(num_queries: int, num_keys: int, device: torch.device | None = None) -> Tensor:
    """(T, S) bool: the queries are the newest T of S places, and each sees those up to its own."""
    return torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril(num_keys - num_queries)


def allowed(q: Tensor, k: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor | None:
    """Mask and causality in one, to be broadcast to (B, H, T, S); None where everything may be seen."""
    num_queries = q.shape[2]
    if not is_causal or num_queries == 1:  # a single newest query sees all
        return mask
    causal = causal_mask(num_queries, k.shape[2], q.device)  # (T, S)
    return causal if mask is None else mask & causal


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool = False, dropout: float = 0.0
) -> Tensor:
    """Equation 1 by the fused kernel.

    Args:
        q: (B, H, T, d).
        k, v: (B, H, S, d).
        mask: bool, True where a query may attend, to be broadcast to (B, H, T, S); None: everywhere.
        is_causal: the queries are the newest T of S places, and none sees a later place than its own.
        dropout: share of the weights that are set to 0; give 0 outside of training.

    Returns:
        (B, H, T, d).
    """
    if is_causal and mask is None and q.shape[2] == k.shape[2]:  # the kernel skips what lies ahead
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed(q, k, mask, is_causal), dropout_p=dropout)


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
    """The weights (B, H, T, S) that `attend` uses; they sum to 1, or to 0 where nothing may be seen."""
    scores = q @ k.mT / math.sqrt(q.shape[3])  # (B, H, T, S)
    seen = allowed(q, k, mask, is_causal)
    if seen is None:
        return scores.softmax(3)
    # The least number, not -inf: a row of -inf would be NaN, and so would its gradient.
    return scores.masked_fill(~seen, torch.finfo(scores.dtype).min).softmax(3).masked_fill(~seen, 0.0)


def filled_up(memory: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """A memory (B, S, D) and its mask (B, S), filled up to a multiple of `LANES` places, of which none is seen.

    A CPU takes so many numbers at once, and one by one those that are left. So 14 places take twice the time of 16.
    """
    missing = -memory.shape[1] % LANES
    if not missing:
        return memory, mask
    mask = memory.new_ones(memory.shape[:2], dtype=torch.bool) if mask is None else mask
    return F.pad(memory, (0, 0, 0, missing)), F.pad(mask, (0, missing))


class Shared(tuple):
    """What a decoder's state has once for each text, whatever the number of its beams; see `zoo.states`."""

    shared = True


class MultiHeadAttention(nn.Module):
    """Attention of H heads: to itself, or to a memory.

    W_q, W_k and W_v are one matrix, `qkv`, so that self-attention is a single product. Equal to torch's
    `nn.MultiheadAttention`, whose `in_proj_weight` it is.

    Args:
        d_model: D.
        num_heads: H, a divisor of D.
        dropout: on the weights in training, in [0, 1).
        bias: of all maps.
    """

    def __init__(self, d_model: int, num_heads: int, *, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        if num_heads < 1 or d_model % num_heads:
            raise UserError(f"model.d_model={d_model} cannot be cut into model.num_heads={num_heads} equal parts.")
        self.d_model, self.num_heads, self.dropout = d_model, num_heads, dropout
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=bias)
        self.out = nn.Linear(d_model, d_model, bias=bias)
        self.watcher: Any = None  # is given the weights; see `watched`

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, dropout={self.dropout}"

    def forward(
        self,
        query: Tensor,
        memory: Tensor | tuple[Tensor, Tensor] | None = None,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        cache: Cache | None = None,
        rotary: nn.Module | None = None,
    ) -> Any:
        """(B, T, D) -> (B, T, D), or that and the new cache where one is given.

        Args:
            query: (B, T, D).
            memory: (B, S, D), what is attended to, or what `keys_values` made of it; None: the query itself. Of fewer,
                A rows each is for B / A rows of the query, which stand side by side, such as the beams of a text.
            mask: (B, S) or (B, T, S) bool, True where a query may attend; S includes what is in the cache. Beside a
                memory of A rows it is (A, S).
            is_causal: no query sees a later place than its own.
            cache: of self-attention: keys and values of P earlier places, which come first; () for none yet.
            rotary: of self-attention: turns queries and keys by their places; see `zoo.layers.positional`.
        """
        if memory is None:
            q, k, v = self.own(query, cache, rotary)  # (B, H, T, d), twice (B, H, P + T, d)
        else:
            k, v = memory if isinstance(memory, tuple) else self.keys_values(memory)  # (A, H, S, d) each
            together = query.reshape(k.shape[0], -1, self.d_model)  # (A, B / A T, D)
            q = self.heads(self.project(together, 0, 1))  # (A, H, B / A T, d)
        if mask is not None:
            mask = mask[:, None, None] if mask.ndim == 2 else mask[:, None]  # (B, 1, 1 or T, S)
        if self.watcher is not None:
            self.watcher(attention_weights(q.detach(), k.detach(), mask, is_causal=is_causal))
        found = attend(q, k, v, mask, is_causal=is_causal, dropout=self.dropout if self.training else 0.0)
        answer = self.out(found.transpose(1, 2).reshape(query.shape))  # (A, H, B / A T, d) -> (B, T, D)
        return answer if cache is None else (answer, (k, v))

    def own(self, x: Tensor, cache: Cache | None, rotary: nn.Module | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, d) of self-attention, and keys and values (B, H, P + T, d), the cached ones first."""
        q, k, v = (self.heads(part) for part in self.qkv(x).chunk(3, 2))  # (B, H, T, d) each
        if rotary is not None:
            offset = cache[0].shape[2] if cache else 0
            q, k = rotary(q, offset), rotary(k, offset)
        if cache:
            k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
        return q, k, v

    def heads(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, d), a view."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def project(self, x: Tensor, first: int, last: int) -> Tensor:
        """(B, T, D) -> (B, T, (last - first) D), by some of W_q, W_k and W_v, which are numbered from 0."""
        rows = slice(first * self.d_model, last * self.d_model)
        return F.linear(x, self.qkv.weight[rows], None if self.qkv.bias is None else self.qkv.bias[rows])

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` takes in place of a memory (B, S, D) that many calls attend to: (B, H, S, d) each."""
        keys, values = self.project(memory, 1, 3).chunk(2, 2)
        return self.heads(keys), self.heads(values)


@contextmanager
def watched(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Within it, every attention of the model leaves its weights: {name: (B, H, T, S)}, of its newest call.

    The answers stay as they are; weights are without dropout and without gradient.
    """
    found: dict[str, Tensor] = {}
    layers = {name: m for name, m in model.named_modules() if isinstance(m, MultiHeadAttention)}
    before = {name: layer.watcher for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.watcher = partial(found.__setitem__, name)
    try:
        yield found
    finally:
        for name, layer in layers.items():
            layer.watcher = before[name]
