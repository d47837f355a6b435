"""BERT: an encoder that reads a text in both directions, learnt by telling tokens that were hidden.

Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of deep bidirectional transformers for language understanding", 2019
(arXiv 1810.04805), section 3, on the encoder of Vaswani et al. 2017:

    x = norm(E_token + E_place + E_segment)                        figure 2
    x <- norm(x + attention(x)), x <- norm(x + W_2 gelu(W_1 x))    num_layers times, each token sees all others
    hidden token    logits = E_token norm(gelu(W x)) + b           the decoder is the table of tokens itself
    class of a text logits = W tanh(W_p x_first)                   section 4

Departures from the paper
1. No next-sentence prediction; later work found that it does not help (Liu et al. 2019, RoBERTa, section 4.2).
2. A text has no <cls> of its own. The first token takes its place, or the mean over real tokens (`pooling`).
3. Weights start normal with deviation 0.02, not cut off at two deviations.

Axes: B batch, T tokens, n places that are asked about, D model width, H heads, F width of the feed-forward network,
    V vocabulary, K outputs
Trained by: masked_language_modeling, classification    Data: masked_docs, masked_text, trec, mr, sst2, text_csv
Equal to: the BERT of `transformers`, whose weights `from_transformers` translates (tests)
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UserError, suggest
from zoo.layers.positional import LearnedPositions
from zoo.layers.recurrent import pool
from zoo.layers.transformer import EncoderLayer

HEADS = ("masked", "classifier", "regressor", "encoder")
POOLINGS = ("first", "mean")
EPS = 1e-12  # of the norms

# What `transformers` calls the parts, as patterns of whole names, and what they are here.
NAMES = {
    r"embeddings\.word_embeddings\.": "token_embedding.",
    r"embeddings\.position_embeddings\.": "positions.",
    r"embeddings\.token_type_embeddings\.": "segment_embedding.",
    r"embeddings\.LayerNorm\.": "norm.",
    r"encoder\.layer\.(\d+)\.attention\.output\.dense\.": r"layers.\1.self_attn.out.",
    r"encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\.": r"layers.\1.norm1.",
    r"encoder\.layer\.(\d+)\.intermediate\.dense\.": r"layers.\1.feed_forward.linear1.",
    r"encoder\.layer\.(\d+)\.output\.dense\.": r"layers.\1.feed_forward.linear2.",
    r"encoder\.layer\.(\d+)\.output\.LayerNorm\.": r"layers.\1.norm2.",
    r"pooler\.dense\.": "pooler.",
    r"cls\.predictions\.transform\.dense\.": "masked.dense.",
    r"cls\.predictions\.transform\.LayerNorm\.": "masked.norm.",
    r"cls\.predictions\.(?=bias$)": "masked.",
    r"classifier\.": "output.",
}
QUERY = re.compile(r"encoder\.layer\.(\d+)\.attention\.self\.query\.(weight|bias)")
# Kept by the query, tied to the table of tokens, no weight, or of the next-sentence prediction.
LEFT_OUT = re.compile(r".*\.self\.(key|value)\.|cls\.predictions\.decoder\.|embeddings\.position_ids|cls\.seq_relation")


def from_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a BertModel, BertForMaskedLM or BertForSequenceClassification of `transformers` as ours.

    Raises:
        UserError: a tensor is none of a BERT.
    """
    weights = {plain(name): tensor for name, tensor in weights.items()}
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        query = QUERY.fullmatch(name)
        if query:
            names = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
            if missing := [other for other in names if other not in weights]:
                raise UserError(f"'{missing[0]}' of a BERT is missing beside '{name}'; give whole weights.")
            parts = [weights[other] for other in names]
            found[f"layers.{query[1]}.self_attn.qkv.{query[2]}"] = torch.cat(parts)
            continue
        pattern = next((pattern for pattern in NAMES if re.match(pattern, name)), None)
        if pattern is not None:
            found[re.sub(pattern, NAMES[pattern], name, count=1)] = tensor
        elif not LEFT_OUT.match(name):
            raise UserError(f"'{name}' is no tensor of a BERT; give the state dict of a BertModel of transformers.")
    return found


def plain(name: str) -> str:
    """A tensor's name without that of the whole, and as it is today: the first BERTs had gamma and beta in a norm."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


class MaskedHead(nn.Module):
    """Logits of each token of the vocabulary, (..., D) -> (..., V), by the table that tokens are read by."""

    def __init__(self, d_model: int, vocab_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        self.norm = nn.LayerNorm(d_model, eps=EPS)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        return F.linear(self.norm(F.gelu(self.dense(x))), table, self.bias)  # (..., V)


class BERT(nn.Module):
    """Encoder layers over a text, and a head.

    Args:
        vocab_size: V.
        num_outputs: K of a classifier or regressor.
        head: "masked" (logits of each token of the vocabulary), "classifier" or "regressor" (one answer for the text),
            or "encoder" (the vectors of the last layer, contextual ones).
        max_len: tokens of the longest text.
        num_segments: kinds of `token_types`.
        d_model, num_heads, num_layers, d_ff: D, H, number of layers, F. The paper's base model has 768, 12, 12, 3072.
        dropout: on the embeddings, on what each part of a layer adds, on attention weights and before the last layer.
        pooling: what stands for a text: "first", the first token, through a dense layer and tanh; "mean", of real ones.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        num_outputs: int | None = None,
        head: str = "masked",
        max_len: int = 512,
        num_segments: int = 2,
        d_model: int = 128,
        num_heads: int = 4,
        num_layers: int = 4,
        d_ff: int = 512,
        dropout: float = 0.1,
        pooling: str = "mean",
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise UserError(f"model=bert sees what is to come and has no model.head={head}{suggest(head, HEADS)}")
        if pooling not in POOLINGS:
            raise UserError(f"There is no model.pooling={pooling}{suggest(pooling, POOLINGS)}")
        self.head, self.pooling, self.max_len = head, pooling, max_len
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.positions = LearnedPositions(max_len, d_model)
        self.segment_embedding = nn.Embedding(num_segments, d_model)
        self.norm = nn.LayerNorm(d_model, eps=EPS)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(
                d_model,
                num_heads,
                d_ff,
                dropout=dropout,
                attention_dropout=dropout,
                activation="gelu",
                layer_norm_eps=EPS,
            )
            for _ in range(num_layers)
        )
        if head == "masked":
            self.masked = MaskedHead(d_model, vocab_size)
        elif head != "encoder":
            if num_outputs is None:
                raise UserError(f"model.head={head} needs model.num_outputs, the number of its answers.")
            if pooling == "first":
                self.pooler = nn.Linear(d_model, d_model)
            self.output = nn.Linear(d_model, num_outputs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # 0.02 is about 1 / sqrt(D) for the sizes of the paper: what is added to a token stays small beside it, so a
        # stack of post-norm layers begins near the identity, and the tied decoder with nearly even guesses.
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    @staticmethod
    def published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of `transformers`' layout as a `BERT` has them, and all others as they are: for `pretrained=`."""
        return from_transformers(weights) if any(map(QUERY.search, weights)) else dict(weights)

    @property
    def vectors(self) -> Tensor:
        """(V, D), of tokens without context."""
        return self.token_embedding.weight

    def encode(self, tokens: Tensor, mask: Tensor | None = None, token_types: Tensor | None = None) -> Tensor:
        """Tokens (B, T) -> a vector of each in its context (B, T, D); see `forward`."""
        segments = self.segment_embedding.weight[0] if token_types is None else self.segment_embedding(token_types)
        x = self.positions(self.token_embedding(tokens) + segments)  # (B, T, D)
        x = self.dropout(self.norm(x))
        for layer in self.layers:
            x = layer(x, mask)
        return x

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        token_types: Tensor | None = None,
        *,
        at: Tensor | None = None,
    ) -> Tensor:
        """See the head: logits (B, T, V), answers (B, K) or vectors (B, T, D).

        Args:
            tokens: (B, T), T up to max_len.
            mask: (B, T), True where a token is real; None: everywhere. Where it is False the answer means nothing.
            token_types: (B, T), the segment of each token, from 0; None: all of the first.
            at: (B, T) bool, the n places whose logits are wanted, (n, V); only of the masked head.
        """
        x = self.encode(tokens, mask, token_types)  # (B, T, D)
        if self.head == "encoder":
            return x
        if self.head == "masked":
            return self.masked(x if at is None else x[at], self.token_embedding.weight)  # (B, T, V) or (n, V)
        first = self.pooling == "first"
        pooled = torch.tanh(self.pooler(x[:, 0])) if first else pool(x, mask, "mean")  # (B, D)
        return self.output(self.dropout(pooled))  # (B, K)
