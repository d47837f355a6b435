"""Sequence to sequence: one recurrent network reads the source, another one says the target, with or without attention.

    encoder     m_1 ... m_S = RNN(source), in both directions if wanted
    decoder     starts from the encoder's last states, says one token after another, and may look back at m_1 ... m_S

The decoder, with the equation of each `attention`, is zoo.layers.recurrent_decoder:

    none                    Sutskever, Vinyals, Le 2014 (arXiv 1409.3215), with `reverse_source`
    context                 Cho et al. 2014 (arXiv 1406.1078)
    additive                Bahdanau, Cho, Bengio 2015 (arXiv 1409.0473), with `bidirectional`
    dot, general, concat    Luong, Pham, Manning 2015 (arXiv 1508.04025), with `input_feeding`

Departures from the papers
1. Where the encoder reads in both directions, every layer of the decoder starts from tanh(W [h forward; h backward]) of
   the encoder's, for an LSTM's cell without the tanh; Bahdanau et al. take the backward one of a single layer.
2. The output layer sees the state after the step (their equation 4); appendix A.2.2 has the one before it.
3. The units of torch.nn: the GRU's reset gate acts after its matrix, not before.
4. Luong et al. begin with matrices within 0.1 and Bahdanau et al. with normal ones of deviation 0.01; here matrices
   of the state are orthogonal, forget gates begin with a bias of 1, an output layer over features below 1 is normal
   with deviation 2 / sqrt(F) (`RecurrentDecoder.reset_parameters` says why), and all others are Xavier's.
5. The end of the source stays at the end when the source is reversed.

Axes: B batch, S source steps, T target steps, E embedding, H hidden size, L layers, D = H, or 2 H of two directions
Trained by: translation    Data: dates, every set of pairs
Equal to: the equations step by step; all steps at once (tests)
"""

import torch
from torch import Tensor, nn

from zoo.layers.real_steps import over_all_steps, over_real_steps
from zoo.layers.recurrent import unpadded
from zoo.layers.recurrent_decoder import Hidden, RecurrentDecoder, State, recurrent_layers

Memory = tuple[Tensor, Hidden]


class Encoder(nn.Module):
    """Reads the source.

    Args:
        vocab_size, embedding_dim, hidden_size, num_layers, cell, bidirectional, dropout, recurrent_init,
        reverse_source: see `Seq2Seq`.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        embedding_dim: int,
        hidden_size: int,
        num_layers: int,
        cell: str,
        bidirectional: bool,
        dropout: float,
        recurrent_init: str,
        reverse_source: bool,
    ) -> None:
        super().__init__()
        self.reverse_source = reverse_source
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.drop = nn.Dropout(dropout)
        self.layers = recurrent_layers(
            cell,
            input_size=embedding_dim,
            hidden_size=hidden_size,
            num_layers=num_layers,
            dropout=dropout,
            init=recurrent_init,
            bidirectional=bidirectional,
        )
        parts = 2 if cell == "lstm" else 1
        bridges = parts * num_layers if bidirectional else 0
        self.bridges = nn.ModuleList(nn.Linear(2 * hidden_size, hidden_size) for _ in range(bridges))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # Keeps the size of the states; the layers have started for themselves.
        for bridge in self.bridges:
            assert isinstance(bridge, nn.Linear)
            nn.init.xavier_uniform_(bridge.weight)
            nn.init.zeros_(bridge.bias)

    def forward(self, src: Tensor, mask: Tensor | None) -> Memory:
        """(B, S) -> places (B, S, D), 0 where padded, and the decoder's first h (and c), (B, L, H) each."""
        order = reversing(src, mask) if self.reverse_source else None  # (B, S)
        x = self.drop(self.embedding(src if order is None else src.gather(1, order)))  # (B, S, E)
        if mask is None or unpadded(mask):
            places, state = over_all_steps(self.layers, x)  # (B, S, D)
        else:
            # A row without anything real, which no data has, is read as one step that nobody may look at.
            places, state = over_real_steps(self.layers, x, mask.sum(1).clamp(min=1))  # (B, S, D)
        if order is not None:
            places = places.gather(1, order.unsqueeze(2).expand_as(places))  # where they stand in the source
        return places, self.bridged(state)

    def bridged(self, state: Tensor | tuple[Tensor, ...]) -> Hidden:
        """Last states, (L directions, B, H) each -> (B, L, H) each."""
        directions, num_layers = (2 if self.layers.bidirectional else 1), self.layers.num_layers
        # By layer, both directions side by side: (B, L, directions H).
        parts = tuple(
            part.unflatten(0, (num_layers, directions)).permute(2, 0, 1, 3).flatten(2)
            for part in (state if isinstance(state, tuple) else (state,))
        )
        if directions == 1:
            return parts
        ends = [end for part in parts for end in part.unbind(1)]  # of h and then of c, layer by layer, (B, 2 H) each
        mapped = [bridge(end) for bridge, end in zip(self.bridges, ends, strict=True)]  # (B, H) each
        h, c = torch.tanh(torch.stack(mapped[:num_layers], 1)), mapped[num_layers:]  # (B, L, H)
        return (h, torch.stack(c, 1)) if c else (h,)


def reversing(src: Tensor, mask: Tensor | None) -> Tensor:
    """(B, S), where to take each token from to turn a source round, its last real token and padding left in place.

    Done twice it is undone.
    """
    place = torch.arange(src.shape[1], device=src.device).expand_as(src)  # (B, S)
    ends = src.shape[1] - 1 if mask is None else mask.sum(1, keepdim=True) - 1  # (B, 1)
    return torch.where(place < ends, ends - 1 - place, place)


class Seq2Seq(nn.Module):
    """Encoder and decoder.

    Args:
        src_vocab_size, tgt_vocab_size: tokens of each side.
        embedding_dim: E.
        hidden_size: H, of each direction of the encoder and of the decoder.
        num_layers: L, of the encoder and of the decoder.
        cell: "rnn", "lstm" or "gru".
        attention: "none", "context", "dot" (needs D = H), "general", "concat" or "additive".
        input_feeding: of dot, general and concat: the next step is told what this one has looked at.
        maxout_size: width before the output layer of context and additive; None is H / 2.
        bidirectional: the encoder reads in both directions.
        reverse_source: the source is read from its end.
        dropout: on embeddings, between layers, and before the output layer.
        recurrent_init: "orthogonal", "identity" or "uniform", see zoo.layers.recurrent.

    Attributes:
        max_len: None, for sequences may be of any length.
    """

    max_len: int | None = None

    def __init__(
        self,
        *,
        src_vocab_size: int,
        tgt_vocab_size: int,
        embedding_dim: int = 128,
        hidden_size: int = 128,
        num_layers: int = 1,
        cell: str = "gru",
        attention: str = "additive",
        input_feeding: bool = False,
        maxout_size: int | None = None,
        bidirectional: bool = True,
        reverse_source: bool = False,
        dropout: float = 0.0,
        recurrent_init: str = "orthogonal",
    ) -> None:
        super().__init__()
        self.encoder = Encoder(
            vocab_size=src_vocab_size,
            embedding_dim=embedding_dim,
            hidden_size=hidden_size,
            num_layers=num_layers,
            cell=cell,
            bidirectional=bidirectional,
            dropout=dropout,
            recurrent_init=recurrent_init,
            reverse_source=reverse_source,
        )
        self.decoder = RecurrentDecoder(
            vocab_size=tgt_vocab_size,
            memory_size=hidden_size * (2 if bidirectional else 1),
            embedding_dim=embedding_dim,
            hidden_size=hidden_size,
            num_layers=num_layers,
            cell=cell,
            attention=attention,
            input_feeding=input_feeding,
            maxout_size=maxout_size,
            dropout=dropout,
            recurrent_init=recurrent_init,
        )

    def encode(self, src: Tensor, src_mask: Tensor | None) -> Memory:
        """(B, S), True where real (B, S) -> places (B, S, D) and the decoder's first h (and c), (B, L, H) each."""
        return self.encoder(src, src_mask)

    def decode(self, tgt_in: Tensor, memory: Memory, src_mask: Tensor | None, teacher_forcing: float = 1.0) -> Tensor:
        """(B, T) -> logits (B, T, V); see `RecurrentDecoder.decoded` for teacher forcing."""
        return self.decoder(tgt_in, self.start(memory, src_mask), teacher_forcing)

    def forward(self, src: Tensor, src_mask: Tensor | None, tgt_in: Tensor) -> Tensor:
        """(B, S), (B, S), (B, T) -> logits (B, T, V)."""
        return self.decode(tgt_in, self.encode(src, src_mask), src_mask)

    def start(self, memory: Memory, src_mask: Tensor | None) -> State:
        """The state before the first token; all its tensors have the batch first."""
        places, hidden = memory
        return self.decoder.start(hidden, places, src_mask)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T) -> logits (B, V) of what comes after the last of them, and the state there."""
        return self.decoder.step(tokens, state)

    @torch.no_grad()
    def attention(self, src: Tensor, src_mask: Tensor | None, tgt_in: Tensor) -> dict[str, Tensor]:
        """{"alignment": (B, 1, T, S)}: how much each step of the target looked at each of the source; {} where none."""
        return self.decoder.looked(tgt_in, self.start(self.encode(src, src_mask), src_mask))
