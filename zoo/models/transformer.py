"""Transformer: a sequence becomes another one by attention alone, without recurrence.

Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin, "Attention is all you need", 2017 (arXiv
1706.03762), figure 1. The encoder's layers let every source token look at all others; the decoder's let a target token
look at those before it, then at what the encoder made of the source (see zoo.layers.transformer):

    memory = encoder(sqrt(D) E_src[src] + PE)
    logits = decoder(sqrt(D) E_tgt[tgt] + PE, memory) E_out^T

Departures from the paper
1. `norm_first` takes the norms to the beginning of each part, and one more to the end of the encoder and of the decoder
   (Xiong et al. 2020, arXiv 2002.04745); the paper's own order is the default and wants a warm-up.
2. Positions may be learned (section 3.5 found no difference), or rotary in self-attention, where they are relative.
3. The paper has one matrix for both embeddings and the output (`tied=all`), which needs one vocabulary; by default
   target embedding and output share theirs (Press and Wolf 2017, arXiv 1608.05859).
4. The published code also has dropout on attention weights and hidden units; here both have their own rates.

Axes: B batch, S source tokens, T target tokens, D model width, H heads, F hidden units of feed-forward, V vocabulary
Trained by: translation    Data: dates, every set of pairs
Equal to: torch.nn.Transformer, forward and backward (tests)
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError, suggest
from zoo.layers.attention import Shared, filled_up, watched
from zoo.layers.positional import LearnedPositions, Rotary, SinusoidalPositions
from zoo.layers.transformer import DecoderLayer, EncoderLayer

POSITIONS = ("sinusoidal", "learned", "rotary")
TIED = ("none", "target", "all")


class Transformer(nn.Module):
    """Encoder and decoder of equally many layers.

    Args:
        src_vocab_size, tgt_vocab_size: V of sources and targets.
        d_model, num_heads, d_ff: D, H, F.
        num_layers: of the encoder, and of the decoder.
        positions: "sinusoidal", "learned" or "rotary".
        max_len: longest sequence for learned positions; the others know no limit.
        tied: what shares a matrix: "none", "target" (its embedding and the output) or "all" (the source's, too).
        norm_first: see above.
        activation: one of `zoo.layers.transformer.ACTIVATIONS`.
        dropout: on embeddings and on what each part of a layer adds, in [0, 1).
        attention_dropout, activation_dropout: on attention weights and on hidden units of feed-forward, in [0, 1).

    Attributes:
        max_len: the longest sequence it takes; None without limit.
    """

    def __init__(
        self,
        *,
        src_vocab_size: int,
        tgt_vocab_size: int,
        d_model: int = 512,
        num_heads: int = 8,
        d_ff: int = 2048,
        num_layers: int = 6,
        positions: str = "sinusoidal",
        max_len: int = 512,
        tied: str = "target",
        norm_first: bool = False,
        activation: str = "relu",
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if positions not in POSITIONS:
            raise UserError(f"There is no model.positions={positions}{suggest(positions, POSITIONS)}")
        self.d_model, self.num_heads = d_model, num_heads
        self.src_embedding = nn.Embedding(src_vocab_size, d_model)
        self.tgt_embedding = nn.Embedding(tgt_vocab_size, d_model)
        self.output = nn.Linear(d_model, tgt_vocab_size, bias=False)
        self.tie(tied)
        self.place(positions, max_len, d_model // num_heads)
        sizes = (d_model, num_heads, d_ff)
        options: dict[str, Any] = {
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "activation_dropout": activation_dropout,
            "activation": activation,
            "norm_first": norm_first,
        }
        self.encoder = nn.ModuleList(EncoderLayer(*sizes, **options) for _ in range(num_layers))
        self.decoder = nn.ModuleList(DecoderLayer(*sizes, **options) for _ in range(num_layers))
        self.encoder_norm = nn.LayerNorm(d_model) if norm_first else nn.Identity()
        self.decoder_norm = nn.LayerNorm(d_model) if norm_first else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def tie(self, tied: str) -> None:
        """Lets matrices be one; raises UserError where they cannot be."""
        if tied not in TIED:
            raise UserError(f"There is no model.tied={tied}{suggest(tied, TIED)}")
        source, target = self.src_embedding.num_embeddings, self.tgt_embedding.num_embeddings
        if tied == "all" and source != target:
            raise UserError(
                f"model.tied=all needs one vocabulary, but sources have {source} tokens and targets {target}; "
                "choose data.shared_vocab=true, or model.tied=target."
            )
        if tied != "none":
            self.output.weight = self.tgt_embedding.weight
        if tied == "all":
            self.src_embedding.weight = self.tgt_embedding.weight

    def place(self, positions: str, max_len: int, head_size: int) -> None:
        """Positions: modules that add them to the embeddings, or one that turns queries and keys."""
        self.max_len = max_len if positions == "learned" else None
        self.src_positions: nn.Module | None = None
        self.tgt_positions: nn.Module | None = None
        self.rotary = Rotary(head_size) if positions == "rotary" else None
        if positions == "sinusoidal":
            self.src_positions = self.tgt_positions = SinusoidalPositions(self.d_model)
        elif positions == "learned":
            self.src_positions = LearnedPositions(max_len, self.d_model)
            self.tgt_positions = LearnedPositions(max_len, self.d_model)

    def reset_parameters(self) -> None:
        # Xavier keeps the scale of what goes through a layer. W_q, W_k and W_v count as one matrix of 3 D units, as in
        # nn.MultiheadAttention: smaller than each by itself, which keeps scores from saturating the softmax early on.
        for parameter in (*self.encoder.parameters(), *self.decoder.parameters(), self.output.weight):
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        # Times sqrt(D), an embedding has variance 1 at the input, about the sinusoids' 1/2 that are added to it. As
        # the output's matrix, the same numbers give logits of variance 1 for normalized states (section 3.4).
        for embedding in (self.src_embedding, self.tgt_embedding):
            nn.init.normal_(embedding.weight, std=self.d_model**-0.5)
        for positions in (self.src_positions, self.tgt_positions):
            if isinstance(positions, LearnedPositions):
                nn.init.normal_(positions.weight, std=math.sqrt(0.5))  # as loud as the sinusoids

    def forward(self, src: Tensor, src_mask: Tensor | None, tgt_in: Tensor) -> Tensor:
        """(B, S), (B, S) bool, (B, T) -> logits (B, T, V)."""
        return self.decode(tgt_in, self.encode(src, src_mask), src_mask)

    def encode(self, src: Tensor, src_mask: Tensor | None) -> Tensor:
        """(B, S) -> memory (B, S, D); `src_mask` (B, S) says what is real, None: all."""
        x = self.read(src, self.src_embedding, self.src_positions)  # (B, S, D)
        for layer in self.encoder:
            x = layer(x, src_mask, rotary=self.rotary)
        return self.encoder_norm(x)

    def decode(self, tgt_in: Tensor, memory: Tensor, src_mask: Tensor | None, teacher_forcing: float = 1.0) -> Tensor:
        """(B, T) and a memory (B, S, D) -> logits (B, T, V). Raises UserError for teacher forcing below 1."""
        if teacher_forcing < 1:
            raise UserError(
                f"task.teacher_forcing={teacher_forcing}: a transformer reads all targets at once; leave it at 1."
            )
        x = self.read(tgt_in, self.tgt_embedding, self.tgt_positions)  # (B, T, D)
        for layer in self.decoder:
            x = layer(x, memory, src_mask, rotary=self.rotary)
        return self.output(self.decoder_norm(x))  # (B, T, V)

    def read(self, tokens: Tensor, embedding: nn.Module, positions: nn.Module | None, offset: int = 0) -> Tensor:
        """(B, T) -> (B, T, D), the first token at place `offset`."""
        x = embedding(tokens) * math.sqrt(self.d_model)
        return self.dropout(x if positions is None else positions(x, offset))

    def start(self, memory: Tensor, src_mask: Tensor | None) -> Any:
        """The state before the first step: keys and values of the targets that each layer has read, which are none; and
        those of the memory with the source's mask, for all beams of a text."""
        none = memory.new_empty(len(memory), self.num_heads, 0, self.d_model // self.num_heads)  # (B, H, 0, D / H)
        memory, src_mask = filled_up(memory, src_mask)
        layers: Any = self.decoder
        # Laid out anew once, keys and values of the memory take a third of the time in each of the many steps.
        memories = (tuple(x.contiguous() for x in layer.cross_attn.keys_values(memory)) for layer in layers)
        return tuple((none, none) for _ in layers), Shared((*memories, src_mask))

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Tokens (B, T) after those that the state has read -> logits (B, V) after the last one, and the state."""
        caches, shared = state
        *memories, src_mask = shared
        x = self.read(tokens, self.tgt_embedding, self.tgt_positions, caches[0][0].shape[2])  # (B, T, D)
        after = []
        for layer, memory, seen in zip(self.decoder, memories, caches, strict=True):
            x, seen = layer(x, memory, src_mask, cache=seen, rotary=self.rotary)
            after.append(seen)
        return self.output(self.decoder_norm(x[:, -1])), (tuple(after), shared)  # (B, V)

    @torch.no_grad()
    def attention(self, src: Tensor, src_mask: Tensor | None, tgt_in: Tensor) -> dict[str, Tensor]:
        """What each target token looks at in the source: {name of the layer: weights (B, H, T, S)}."""
        with watched(self) as found:
            self(src, src_mask, tgt_in)
        return {name: weights for name, weights in found.items() if "cross_attn" in name}
