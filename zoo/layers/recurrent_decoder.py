"""Recurrent decoder: says a sequence token by token, from a state, and from a source that it may look at.

    none        h_t = f(h_(t-1), y_(t-1));           logits of h_t. All it knows of the source is h_0
                Sutskever, Vinyals, Le, "Sequence to sequence learning with neural networks", 2014 (arXiv 1409.3215)
    context     h_t = f(h_(t-1), y_(t-1), c);        logits of maxout(h_t, y_(t-1), c), c a summary of the source
                Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014 (arXiv 1406.1078),
                section 2.2 and appendix A
    additive    c_t by h_(t-1); h_t = f(h_(t-1), y_(t-1), c_t);    logits of maxout(h_t, y_(t-1), c_t)
                Bahdanau, Cho, Bengio, 2015 (arXiv 1409.0473), section 3.1 and appendix A.2.2
    dot, general, concat
                h_t = f(h_(t-1), y_(t-1)); c_t by h_t; h~_t = tanh(W_c [c_t; h_t]);    logits of h~_t
                with input feeding h_t = f(h_(t-1), y_(t-1), h~_(t-1)), and h~_0 = 0
                Luong, Pham, Manning, 2015 (arXiv 1508.04025), sections 3 and 3.3

y_(t-1) is the embedding of the token before, f are layers of torch.nn (RNN, LSTM or GRU), and c_t is the context of
zoo.layers.alignment; of several layers the last one asks. What the logits are an affine map of are the features.

Where no state waits for what was looked at, and every token is given, torch's layers read all steps at once. Otherwise
the same weights are used step by step, by the equations of the cells; what needs no state is computed for all steps
before the loop, and what no state needs after it. Both ways are equal (tests/models/test_seq2seq.py).

The state is nested tuples of tensors with the batch first, so that a search can reorder it: (source, hidden, fed).
The source is what is looked at, hidden is (h,) or (h, c) with (B, L, H) each, and fed is h~ (B, H) of input feeding.

Axes: B batch, T target steps, S places of the source, E embedding, H hidden size, D size of a place, F features, L
layers, G values of all gates, V vocabulary
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UserError, suggest
from zoo.layers.alignment import ALIGNMENTS, alignment
from zoo.layers.real_steps import over_all_steps
from zoo.layers.recurrent import init_recurrent

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
ATTENTIONS = ("none", "context", *ALIGNMENTS)
FEEDABLE = ("dot", "general", "concat")
Hidden: TypeAlias = tuple[Tensor, ...]  # (h,), or (h, c) of an LSTM
State: TypeAlias = tuple[Any, Hidden, Tensor | None]


def recurrent_layers(
    cell: str,
    *,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    dropout: float,
    init: str,
    bidirectional: bool = False,
) -> nn.RNNBase:
    """torch.nn's layers, batch first, filled by `init_recurrent`; the forget gates of an LSTM start with bias 1."""
    if cell not in CELLS:
        raise UserError(f"There is no model.cell={cell}{suggest(cell, CELLS)}")
    layers = CELLS[cell](
        input_size=input_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        dropout=dropout if num_layers > 1 else 0.0,
        bidirectional=bidirectional,
        batch_first=True,
    )
    init_recurrent(layers, init)
    for name, bias in layers.named_parameters():
        if cell == "lstm" and name.startswith("bias_ih"):  # of the gates i, f, g, o
            nn.init.constant_(bias[hidden_size : 2 * hidden_size], 1.0)
    return layers


# One step of a cell: x = W x_t + b and u = U h_(t-1) + b', (B, G) each, and the state before -> the state after it.


def elman(x: Tensor, u: Tensor, h: Tensor) -> Hidden:
    return (torch.tanh(x + u),)


def lstm(x: Tensor, u: Tensor, h: Tensor, c: Tensor) -> Hidden:
    i, f, g, o = (x + u).chunk(4, 1)  # (B, H) each
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru(x: Tensor, u: Tensor, h: Tensor) -> Hidden:
    sizes = [2 * h.shape[1], h.shape[1]]
    (x_rz, x_n), (u_rz, u_n) = x.split(sizes, 1), u.split(sizes, 1)  # (B, 2 H), (B, H)
    r, z = torch.sigmoid(x_rz + u_rz).chunk(2, 1)  # (B, H) each
    n = torch.tanh(torch.addcmul(x_n, r, u_n))  # (B, H)
    return (torch.lerp(n.to(h.dtype), h, z.to(h.dtype)),)  # (1 - z) n + z h; in mixed precision the state keeps its own


STEPS: dict[str, Callable[..., Hidden]] = {"RNN_TANH": elman, "LSTM": lstm, "GRU": gru}


class Decoded(NamedTuple):
    """What was made of tokens: features (B, T, F), weights (B, T, S) where the source is looked at, the state after."""

    features: Tensor
    weights: Tensor | None
    state: State


class RecurrentDecoder(nn.Module):
    """See above.

    Args:
        vocab_size: V.
        memory_size: D.
        embedding_dim: E.
        hidden_size: H.
        num_layers: L.
        cell: "rnn", "lstm" or "gru".
        attention: one of `ATTENTIONS`.
        input_feeding: of "dot", "general" and "concat".
        maxout_size: F of "context" and "additive"; None is H / 2, as in both papers. The others have F = H.
        dropout: on the embeddings, between layers, and before the output layer, in [0, 1).
        recurrent_init: see `init_recurrent`.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        memory_size: int,
        embedding_dim: int = 128,
        hidden_size: int = 128,
        num_layers: int = 1,
        cell: str = "gru",
        attention: str = "additive",
        input_feeding: bool = False,
        maxout_size: int | None = None,
        dropout: float = 0.0,
        recurrent_init: str = "orthogonal",
    ) -> None:
        super().__init__()
        check_attention(attention, input_feeding)
        self.attention, self.input_feeding = attention, input_feeding
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        beside = {"context": hidden_size, "additive": memory_size}.get(attention, hidden_size if input_feeding else 0)
        self.layers = recurrent_layers(
            cell,
            input_size=embedding_dim + beside,
            hidden_size=hidden_size,
            num_layers=num_layers,
            dropout=dropout,
            init=recurrent_init,
        )
        if attention in ALIGNMENTS:
            self.alignment = alignment(attention, hidden_size, memory_size)
        num_features = hidden_size
        if attention in FEEDABLE:
            self.combine = nn.Linear(memory_size + hidden_size, hidden_size, bias=False)  # W_c
        elif attention != "none":
            num_features = max(1, hidden_size // 2) if maxout_size is None else maxout_size
            self.combine = nn.Linear(hidden_size + embedding_dim + beside, 2 * num_features)
        self.drop = nn.Dropout(dropout)
        self.output = nn.Linear(num_features, vocab_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # The layers have started for themselves.
        bounded = self.attention == "none" or self.attention in FEEDABLE
        if self.attention != "none":
            nn.init.xavier_uniform_(self.combine.weight)
            if not bounded:
                nn.init.zeros_(self.combine.bias)
        nn.init.zeros_(self.output.bias)
        if bounded:
            # Xavier's weights are the smaller the more words there are. Features below 1 cannot grow to make up for it:
            # how often each word is said would drive them to 1 and -1, and leave attention without a gradient.
            nn.init.normal_(self.output.weight, std=2 / math.sqrt(self.output.in_features))
        else:
            nn.init.xavier_uniform_(self.output.weight)

    def start(self, hidden: Hidden, memory: Tensor, mask: Tensor | None) -> State:
        """The state before the first token.

        Args:
            hidden: h_0, and c_0 of an LSTM, (B, L, H) each.
            memory: (B, S, D).
            mask: (B, S), True where a place of the source is real; None where all are.
        """
        source: Any = None
        if self.attention == "context":
            source = (hidden[0][:, -1],)  # (B, H)
        elif self.attention != "none":
            source = (memory, self.alignment.keys(memory), mask)
        fed = memory.new_zeros(memory.shape[0], self.layers.hidden_size) if self.input_feeding else None
        return source, hidden, fed

    def forward(self, tokens: Tensor, state: State, teacher_forcing: float = 1.0) -> Tensor:
        """(B, T) -> logits (B, T, V); see `decoded`."""
        features = self.decoded(tokens, state, teacher_forcing).features  # (B, T, F)
        return self.output(self.drop(features))  # (B, T, V)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T) -> logits (B, V) of what comes after the last of them, and the state there; a `zoo.decoding.Step`."""
        features, _, state = self.one_by_one(tokens, state)
        return self.output(self.drop(features[:, -1])), state  # (B, V)

    def looked(self, tokens: Tensor, state: State) -> dict[str, Tensor]:
        """{"alignment": (B, 1, T, S)} of the tokens (B, T); {} where the source is not looked at."""
        weights = self.decoded(tokens, state).weights
        return {} if weights is None else {"alignment": weights.unsqueeze(1)}

    def decoded(self, tokens: Tensor, state: State, teacher_forcing: float = 1.0) -> Decoded:
        """Goes on from a state with the tokens (B, T), or with its own.

        Args:
            teacher_forcing: the chance, drawn for each step but the first and for the whole batch, that a step reads
                the given token and not the one that the step before made the likeliest. Between 0 and 1 torch's global
                generator of the CPU gives T - 1 numbers.
        """
        if teacher_forcing >= 1 and self.attention != "additive" and not self.input_feeding:
            return self.at_once(tokens, state)
        return self.one_by_one(tokens, state, teacher_forcing)

    def at_once(self, tokens: Tensor, state: State) -> Decoded:
        """All steps by torch's layers."""
        source, hidden, fed = state
        x = self.drop(self.embedding(tokens))  # (B, T, E)
        inputs = torch.cat([x, same_context(source, x)], 2) if self.attention == "context" else x  # (B, T, E + H)
        parts = tuple(part.transpose(0, 1).contiguous() for part in hidden)  # (L, B, H) each
        states, last = over_all_steps(self.layers, inputs, parts if len(parts) > 1 else parts[0])  # (B, T, H)
        hidden = tuple(part.transpose(0, 1) for part in (last if isinstance(last, tuple) else (last,)))
        features, weights = self.look(states, x, source)
        return Decoded(features, weights, (source, hidden, fed))

    def one_by_one(self, tokens: Tensor, state: State, teacher_forcing: float = 1.0) -> Decoded:
        """Step by step; see `Loop`."""
        loop = Loop(self, state)
        xs = self.drop(self.embedding(tokens.t()))  # (T, B, E)
        steps = zip(xs.unbind(0), loop.gates(xs).unbind(0), given_steps(len(xs), teacher_forcing), strict=True)
        for x, gates, is_given in steps:  # (B, E), (B, G)
            if is_given:
                loop.read(x, gates)
            else:
                own = self.drop(self.embedding(loop.likeliest()))  # (B, E)
                loop.read(own, loop.gates(own))
        return loop.decoded()

    def look(
        self, states: Tensor, x: Tensor, source: Any, contexts: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Features (B, T, F) of states (B, T, H) that have read x (B, T, E), and the weights with which they looked.

        Args:
            contexts: (B, T, D), of additive attention, which looks before the step.
        """
        if self.attention == "none":
            return states, None
        if self.attention in FEEDABLE:
            memory, keys, mask = source
            found, weights = self.alignment(states, memory, mask, keys=keys)  # (B, T, D), (B, T, S)
            return torch.tanh(self.combine(torch.cat([found, states], 2))), weights  # (B, T, H)
        seen = torch.cat([states, x, same_context(source, x) if contexts is None else contexts], 2)
        return torch.maximum(*self.combine(seen).chunk(2, 2)), None  # (B, T, F)


def check_attention(attention: str, input_feeding: bool) -> None:
    """Raises UserError where there is no such attention, or where it has nothing to feed."""
    if attention not in ATTENTIONS:
        raise UserError(f"There is no model.attention={attention}{suggest(attention, ATTENTIONS)}")
    if input_feeding and attention not in FEEDABLE:
        raise UserError(
            f"model.input_feeding=true goes with model.attention={', '.join(FEEDABLE)}; for {attention} leave it false."
        )


def same_context(source: tuple[Tensor], x: Tensor) -> Tensor:
    """The summary (B, H) of a source beside every step of x (B, T, E), (B, T, H)."""
    return source[0].unsqueeze(1).expand(-1, x.shape[1], -1)


def given_steps(num_steps: int, teacher_forcing: float) -> list[bool]:
    """Which steps read the token that is given: the first one always, each other one with that chance."""
    if not 0 < teacher_forcing < 1:
        return [True] + [teacher_forcing >= 1] * (num_steps - 1)
    return [True, *(torch.rand(num_steps - 1) < teacher_forcing).tolist()]


class Loop:
    """Steps of a decoder one after another, from a state; what they share is computed once."""

    def __init__(self, decoder: RecurrentDecoder, state: State) -> None:
        self.decoder = decoder
        self.source, hidden, self.fed = state
        self.cells: list[Hidden] = list(zip(*(part.unbind(1) for part in hidden), strict=True))  # L of (B, H) each
        layers = decoder.layers
        names = ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
        self.maps = [[getattr(layers, f"{name}_l{i}") for name in names] for i in range(layers.num_layers)]
        size = decoder.embedding.embedding_dim
        self.of_token, self.of_fed = self.maps[0][0].split([size, layers.input_size - size], 1)  # (G, E), (G, rest)
        self.cell = STEPS[layers.mode]
        self.xs: list[Tensor] = []
        self.states: list[Tensor] = []
        self.contexts: list[Tensor] = []
        self.features: list[Tensor] = []
        self.weights: list[Tensor] = []

    def gates(self, x: Tensor) -> Tensor:
        """(..., B, E) -> (..., B, G): what the first layer makes of the tokens, and of a context that stays."""
        gates = F.linear(x, self.of_token, self.maps[0][1])
        return gates + F.linear(self.source[0], self.of_fed) if self.decoder.attention == "context" else gates

    def read(self, x: Tensor, gates: Tensor) -> None:
        """One step, of embeddings (B, E) and what `gates` made of them."""
        decoder = self.decoder
        if decoder.attention == "additive":
            memory, keys, mask = self.source
            context, weights = decoder.alignment(self.cells[-1][0].unsqueeze(1), memory, mask, keys=keys)  # (B, 1, D)
            self.fed = context.squeeze(1)
            self.contexts.append(self.fed)
            self.weights.append(weights)
        if self.fed is not None:
            gates = torch.addmm(gates, self.fed, self.of_fed.t())  # (B, G)
        for i, (w_ih, b_ih, w_hh, b_hh) in enumerate(self.maps):
            if i > 0:
                below = F.dropout(self.cells[i - 1][0], decoder.layers.dropout, decoder.training)  # as torch's layers
                gates = F.linear(below, w_ih, b_ih)
            self.cells[i] = self.cell(gates, F.linear(self.cells[i][0], w_hh, b_hh), *self.cells[i])
        self.xs.append(x)
        self.states.append(self.cells[-1][0])
        if decoder.input_feeding:
            features, looked = self.look(-1)  # (B, 1, H), (B, 1, S)
            assert looked is not None
            self.fed = features.squeeze(1)
            self.features.append(self.fed)
            self.weights.append(looked)

    def look(self, first: int) -> tuple[Tensor, Tensor | None]:
        """Features and weights of the steps from `first` on."""
        states, xs = torch.stack(self.states[first:], 1), torch.stack(self.xs[first:], 1)  # (B, T, H), (B, T, E)
        contexts = torch.stack(self.contexts[first:], 1) if self.contexts else None  # (B, T, D)
        return self.decoder.look(states, xs, self.source, contexts)

    def likeliest(self) -> Tensor:
        """(B,), the tokens that the last step's logits are highest for; dropout before the output layer is left out."""
        with torch.no_grad():
            features = self.features[-1] if self.features else self.look(-1)[0].squeeze(1)  # (B, F)
            return self.decoder.output(features).argmax(1)

    def decoded(self) -> Decoded:
        """All that was read."""
        features, weights = (torch.stack(self.features, 1), None) if self.features else self.look(0)  # (B, T, F)
        weights = torch.cat(self.weights, 1) if self.weights else weights  # (B, T, S)
        hidden = tuple(torch.stack(part, 1) for part in zip(*self.cells, strict=True))  # (B, L, H) each
        return Decoded(features, weights, (self.source, hidden, self.fed if self.decoder.input_feeding else None))
