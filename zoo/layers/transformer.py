"""Layers of a transformer: attention, then a small network for each place, each added to what it was given.

Vaswani et al., "Attention is all you need", 2017 (arXiv 1706.03762), figure 1 and section 3:

    post-norm (2017)    x <- norm(x + drop(f(x)))        f: self-attention, attention to a memory, feed-forward
    pre-norm            x <- x + drop(f(norm(x)))        (Xiong et al. 2020, arXiv 2002.04745: trains without warm-up)
    feed-forward(x) = W_2 act(W_1 x + b_1) + b_2         (equation 2)

Names and, with equal rates of dropout, equations are those of `nn.TransformerEncoderLayer` and `...DecoderLayer`.

Axes: B batch, T tokens, S tokens of a memory, D model width, F width of the feed-forward network
"""

from typing import Any

from torch import Tensor, nn

from zoo.errors import UserError, suggest
from zoo.layers.attention import Cache, MultiHeadAttention

ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu")


def activation_of(name: str) -> nn.Module:
    """One of `ACTIVATIONS`; gelu_tanh is GPT-2's approximation."""
    if name not in ACTIVATIONS:
        raise UserError(f"There is no model.activation={name}{suggest(name, ACTIVATIONS)}")
    if name == "gelu_tanh":
        return nn.GELU(approximate="tanh")
    return {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}[name]()


class FeedForward(nn.Module):
    """Equation 2, the same at each place, (B, T, D) -> (B, T, D).

    Args:
        d_model: D.
        d_ff: F.
        activation: one of `ACTIVATIONS`.
        dropout: on the F hidden units, in [0, 1).
        bias: of both maps.
    """

    def __init__(
        self, d_model: int, d_ff: int, *, activation: str = "relu", dropout: float = 0.0, bias: bool = True
    ) -> None:
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff, bias=bias)
        self.activation = activation_of(activation)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.activation(self.linear1(x)))  # (B, T, F)
        return self.linear2(hidden)  # (B, T, D)


class Layer(nn.Module):
    """Base: where the norms stand.

    Args:
        norm_first: pre-norm; else post-norm.
        dropout: on what each part adds.
    """

    def __init__(self, *, norm_first: bool, dropout: float) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.dropout = nn.Dropout(dropout)

    def before(self, norm: nn.Module, x: Tensor) -> Tensor:
        return norm(x) if self.norm_first else x

    def after(self, norm: nn.Module, x: Tensor) -> Tensor:
        return x if self.norm_first else norm(x)


class EncoderLayer(Layer):
    """Self-attention and feed-forward; with `is_causal` it is the layer of a decoder without memory, as in GPT.

    Args:
        d_model, num_heads, d_ff: D, H, F.
        dropout: on what each part adds (section 5.4), in [0, 1).
        attention_dropout: on the weights of attention, which the paper does not have.
        activation_dropout: on the hidden units of the feed-forward network, which the paper does not have.
        activation: one of `ACTIVATIONS`.
        norm_first: pre-norm; else post-norm.
        layer_norm_eps: added to the variances of the norms.
        bias: of the linear maps and norms.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        activation: str = "relu",
        norm_first: bool = False,
        layer_norm_eps: float = 1e-5,
        bias: bool = True,
    ) -> None:
        super().__init__(norm_first=norm_first, dropout=dropout)
        self.self_attn = MultiHeadAttention(d_model, num_heads, dropout=attention_dropout, bias=bias)
        self.feed_forward = FeedForward(d_model, d_ff, activation=activation, dropout=activation_dropout, bias=bias)
        self.norm1 = nn.LayerNorm(d_model, eps=layer_norm_eps, bias=bias)
        self.norm2 = nn.LayerNorm(d_model, eps=layer_norm_eps, bias=bias)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        is_causal: bool = False,
        cache: Cache | None = None,
        rotary: nn.Module | None = None,
    ) -> Any:
        """(B, T, D) -> (B, T, D), or that and the new cache where one is given; see `MultiHeadAttention.forward`."""
        found = self.self_attn(
            self.before(self.norm1, x), mask=mask, is_causal=is_causal, cache=cache, rotary=rotary
        )  # (B, T, D)
        found, new = found if cache is not None else (found, None)
        x = self.after(self.norm1, x + self.dropout(found))
        x = self.after(self.norm2, x + self.dropout(self.feed_forward(self.before(self.norm2, x))))
        return x if cache is None else (x, new)


class DecoderLayer(Layer):
    """Causal self-attention, attention to a memory, feed-forward.

    Args: see `EncoderLayer`.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        activation: str = "relu",
        norm_first: bool = False,
        layer_norm_eps: float = 1e-5,
        bias: bool = True,
    ) -> None:
        super().__init__(norm_first=norm_first, dropout=dropout)
        self.self_attn = MultiHeadAttention(d_model, num_heads, dropout=attention_dropout, bias=bias)
        self.cross_attn = MultiHeadAttention(d_model, num_heads, dropout=attention_dropout, bias=bias)
        self.feed_forward = FeedForward(d_model, d_ff, activation=activation, dropout=activation_dropout, bias=bias)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(d_model, eps=layer_norm_eps, bias=bias) for _ in range(3))

    def forward(
        self,
        x: Tensor,
        memory: Tensor | tuple[Tensor, Tensor],
        memory_mask: Tensor | None = None,
        *,
        cache: Cache | None = None,
        rotary: nn.Module | None = None,
    ) -> Any:
        """(B, T, D) -> (B, T, D), or that and the new cache of self-attention where one is given.

        Args:
            x: (B, T, D), targets. No token sees a later one, so padding that comes last needs no mask.
            memory: (B, S, D), or what `self.cross_attn.keys_values` made of it; a row of it may serve several of x, see
                `MultiHeadAttention.forward`.
            memory_mask: (B, S) bool, True where the memory is real.
            cache, rotary: see `MultiHeadAttention.forward`.
        """
        found = self.self_attn(self.before(self.norm1, x), is_causal=True, cache=cache, rotary=rotary)  # (B, T, D)
        found, new = found if cache is not None else (found, None)
        x = self.after(self.norm1, x + self.dropout(found))
        found = self.cross_attn(self.before(self.norm2, x), memory, mask=memory_mask)  # (B, T, D)
        x = self.after(self.norm2, x + self.dropout(found))
        x = self.after(self.norm3, x + self.dropout(self.feed_forward(self.before(self.norm3, x))))
        return x if cache is None else (x, new)
