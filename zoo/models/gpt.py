"""GPT: a transformer's decoder without anything to translate, which learns what comes next in a text.

Radford, Narasimhan, Salimans, Sutskever, "Improving language understanding by generative pre-training", 2018; Radford,
Wu, Child, Luan, Amodei, Sutskever, "Language models are unsupervised multitask learners", 2019 (GPT-2), section 2.3,
whose layout this is:

    x = E[tokens] + P[places]
    x <- x + attention(norm(x)),  x <- x + W_2 gelu(W_1 norm(x))      N times; no token sees a later one
    logits = norm(x) E^T

Departures from the paper
1. Positions may be rotary instead of learned.
2. Dropout on the attention weights has its own rate, 0 by default: on a CPU torch's fused kernel is without it.
3. The activation is GELU itself; GPT-2's is the approximation by tanh (`activation=gelu_tanh`), slower on a CPU.
4. Any sizes; the paper's smallest has 12 layers, 768 wide, 12 heads and 1,024 places.

Axes: B batch, T tokens, P tokens read in earlier calls, D model width, H heads, V vocabulary, N layers
Trained by: language_modeling    Data: python_docs, tiny_shakespeare, text_file
Equal to: a GPT-2 of the `transformers` package (tests)
"""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from zoo.errors import UserError, suggest
from zoo.layers.positional import LearnedPositions, Rotary
from zoo.layers.transformer import EncoderLayer

POSITIONS = ("learned", "rotary")
State = tuple[tuple[Tensor, Tensor], ...]  # of each layer keys and values, (B, H, P, D / H) each
# Where the parts of GPT-2's state dict are to be found in ours; those with a star are stored transposed.
LAYOUT = {
    "ln_1": "norm1",
    "attn.c_attn": "self_attn.qkv*",
    "attn.c_proj": "self_attn.out*",
    "ln_2": "norm2",
    "mlp.c_fc": "feed_forward.linear1*",
    "mlp.c_proj": "feed_forward.linear2*",
}


class GPT(nn.Module):
    """N pre-norm layers between an embedding and its transpose.

    Args:
        vocab_size: V.
        head: "next_step", the only one it has.
        max_len: tokens that it can look back over, itself included.
        d_model, num_heads, num_layers: D, H, N.
        d_ff: hidden units of the feed-forward networks; None is 4 D.
        positions: "learned" or "rotary".
        activation: one of `zoo.layers.transformer.ACTIVATIONS`; "gelu_tanh" for weights of GPT-2.
        dropout: on embeddings and on what each part of a layer adds, in [0, 1).
        attention_dropout: on attention weights, in [0, 1).
        bias: of linear maps and norms.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        head: str = "next_step",
        max_len: int = 64,
        d_model: int = 128,
        num_heads: int = 4,
        num_layers: int = 4,
        d_ff: int | None = None,
        positions: str = "learned",
        activation: str = "gelu",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if head != "next_step":
            raise UserError(f"GPT tells the next token, and this task needs a {head}; use model=gru, for instance.")
        if positions not in POSITIONS:
            raise UserError(f"There is no model.positions={positions}{suggest(positions, POSITIONS)}")
        self.max_len = max_len
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.positions = LearnedPositions(max_len, d_model) if positions == "learned" else None
        self.rotary = Rotary(d_model // num_heads) if positions == "rotary" else None
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(
                d_model,
                num_heads,
                4 * d_model if d_ff is None else d_ff,
                dropout=dropout,
                attention_dropout=attention_dropout,
                activation=activation,
                norm_first=True,
                bias=bias,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, bias=bias)
        self.output = nn.Linear(d_model, vocab_size, bias=False)
        self.output.weight = self.embedding.weight
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)  # GPT, section 4.1
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        # 2 N parts add to the same stream; so scaled, their sum begins no louder than one of them (GPT-2, section 2.3).
        for name, parameter in self.layers.named_parameters():
            if name.endswith(("out.weight", "linear2.weight")):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * len(self.layers)))

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """(B, T) -> logits (B, T, V) of what comes after each token, and the state to go on with.

        Args:
            tokens: those that come after the P tokens of the state.
            state: what an earlier call returned; None: nothing was read yet.

        Raises:
            UserError: P + T is above `max_len`.
        """
        offset = state[0][0].shape[2] if state else 0
        self.check_length(offset + tokens.shape[1])
        x = self.embedding(tokens)  # (B, T, D)
        x = self.dropout(x if self.positions is None else self.positions(x, offset))
        after = []
        for layer, seen in zip(self.layers, state or [()] * len(self.layers), strict=True):
            x, seen = layer(x, is_causal=True, cache=seen, rotary=self.rotary)
            after.append(seen)
        return self.output(self.norm(x)), tuple(after)  # (B, T, V)

    def check_length(self, length: int) -> None:
        if length > self.max_len:
            raise UserError(
                f"{length} tokens are more than model.max_len={self.max_len} lets it look back over; give it shorter "
                "windows (data.window), each for itself (data.batching=windows), or train one with a larger max_len."
            )

    def load_gpt2(self, state_dict: Mapping[str, Tensor]) -> None:
        """Takes over the weights of a GPT-2 of these sizes, with the names that OpenAI and `transformers` give them."""
        self.load_state_dict(from_gpt2(state_dict))

    @staticmethod
    def published(weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """Weights of GPT-2's layout as a `GPT` has them, and all others as they are: for `pretrained=`."""
        return from_gpt2(weights) if any(".attn.c_attn." in name for name in weights) else dict(weights)


def from_gpt2(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """A state dict of GPT-2, renamed for `GPT`.

    GPT-2 keeps a linear map as (inputs, units), torch as (units, inputs). Its causal masks are left out, and what is no
    part of it keeps its name.
    """
    found: dict[str, Any] = {}
    for key, value in state_dict.items():
        name = key.removeprefix("transformer.")
        if name in ("wte.weight", "lm_head.weight"):
            found["embedding.weight"] = found["output.weight"] = value
        elif name == "wpe.weight":
            found["positions.weight"] = value
        elif name.startswith("ln_f."):
            found[name.replace("ln_f.", "norm.")] = value
        elif not name.startswith("h."):
            found[key] = value
        else:
            _, number, part = name.split(".", 2)  # h.<number>.<part>
            part, _, kind = part.rpartition(".")  # kind: weight, bias or, of a mask, something else
            ours = LAYOUT.get(part)
            if ours is not None:
                value = value.T if ours.endswith("*") and kind == "weight" else value
                found[f"layers.{number}.{ours.rstrip('*')}.{kind}"] = value
    return found
