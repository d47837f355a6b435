"""Captioner: a convolutional network looks at an image, a recurrent one says what is to be seen, place by place.

Xu et al., "Show, attend and tell: neural image caption generation with visual attention", 2015 (arXiv 1502.03044),
section 3.1 and soft attention (section 4.2); without attention Vinyals et al., "Show and tell", 2015 (arXiv 1411.4555):

    a_1 ... a_L = CNN(image)                                     one vector for each place of the last feature map
    h_0 = tanh(W_h mean(a)),  c_0 = W_c mean(a)                  where the decoder starts
    e_ti = v^T tanh(W h_(t-1) + U a_i),  z_t = sum of softmax(e_t)_i a_i
    h_t, c_t = LSTM([y_(t-1); z_t], h_(t-1), c_(t-1));           the word from h_t, y_(t-1) and z_t

The decoder is that of seq2seq, zoo.layers.recurrent_decoder, with all its kinds of attention.

Departures from the papers
1. A small network that is trained along, in place of one that was trained on ImageNet.
2. The maxout of Bahdanau et al. before the output layer, where Xu et al. add three linear maps; no gate on the context
   (their beta) and no penalty that asks every place to be looked at once in all (equation 14).
3. Without attention the image sets the first state; Vinyals et al. show it as if it were the first word.

Axes: B batch, C channels, H W height and width, S places of the last feature map, D its channels, T steps of the
sentence, N hidden size, L layers, V vocabulary
Trained by: translation    Data: captions    Equal to: the equations step by step; all steps at once (tests)
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.errors import UserError
from zoo.layers.recurrent_decoder import Hidden, RecurrentDecoder, State


class ImageEncoder(nn.Sequential):
    """(B, C, H, W) -> (B, D, H', W'): 3x3 convolutions, each with a rectifier, and halving between them.

    Args:
        in_channels: C.
        channels: maps of each convolution; the last one's are D.
    """

    def __init__(self, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        for i, (before, after) in enumerate(zip([in_channels, *channels], channels, strict=False)):
            if i > 0:
                self.append(nn.MaxPool2d(2))
            self.append(nn.Conv2d(before, after, kernel_size=3, padding=1))
            self.append(nn.ReLU())
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # Keeps the variance from layer to layer, of which the rectifier drops half.
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


class Captioner(nn.Module):
    """Image encoder and recurrent decoder.

    Args:
        image_shape: (C, H, W).
        tgt_vocab_size: V.
        channels: maps of each convolution; between them H and W are halved. With dot the last one is N.
        embedding_dim: of words.
        hidden_size: N.
        num_layers: L, of the decoder.
        cell: "rnn", "lstm" or "gru".
        attention: "none", "context" (the first state at every step), "dot", "general", "concat" or "additive".
        input_feeding, maxout_size: see `RecurrentDecoder`.
        dropout: on embeddings and places, between layers, and before the output layer.
        recurrent_init: "orthogonal", "identity" or "uniform", see zoo.layers.recurrent.

    Attributes:
        max_len: None, for sentences may be of any length.
        places: (H', W') of the last feature map; S = H' W', row by row.
    """

    max_len: int | None = None

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        tgt_vocab_size: int,
        channels: Sequence[int] = (32, 64, 128),
        embedding_dim: int = 64,
        hidden_size: int = 128,
        num_layers: int = 1,
        cell: str = "lstm",
        attention: str = "additive",
        input_feeding: bool = False,
        maxout_size: int | None = None,
        dropout: float = 0.0,
        recurrent_init: str = "orthogonal",
    ) -> None:
        super().__init__()
        in_channels, *size = image_shape
        if not channels:
            raise UserError("model.channels needs a number of maps for each convolution, for instance [32,64,128].")
        halvings = len(channels) - 1
        self.places = (size[0] >> halvings, size[1] >> halvings)
        if min(self.places) < 1:
            raise UserError(
                f"Images of {size[0]} x {size[1]} pixels cannot be halved {halvings} times; use model.channels with "
                "fewer numbers, or larger images."
            )
        self.encoder = ImageEncoder(in_channels, channels)
        self.drop = nn.Dropout(dropout)
        parts = 2 if cell == "lstm" else 1
        self.first = nn.ModuleList(nn.Linear(channels[-1], hidden_size) for _ in range(parts * num_layers))
        self.decoder = RecurrentDecoder(
            vocab_size=tgt_vocab_size,
            memory_size=channels[-1],
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
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # Keeps the size of the states; encoder and decoder have started for themselves.
        for layer in self.first:
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def encode(self, src: Tensor, src_mask: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) -> places (B, S, D), row by row; a mask there is none."""
        return self.drop(self.encoder(src).flatten(2).transpose(1, 2).contiguous())

    def decode(self, tgt_in: Tensor, memory: Tensor, src_mask: Tensor | None, teacher_forcing: float = 1.0) -> Tensor:
        """(B, T) -> logits (B, T, V); see `RecurrentDecoder.decoded` for teacher forcing."""
        return self.decoder(tgt_in, self.start(memory, src_mask), teacher_forcing)

    def forward(self, src: Tensor, src_mask: Tensor | None, tgt_in: Tensor) -> Tensor:
        """(B, C, H, W), None, (B, T) -> logits (B, T, V)."""
        return self.decode(tgt_in, self.encode(src, src_mask), src_mask)

    def start(self, memory: Tensor, src_mask: Tensor | None) -> State:
        """The state before the first word; all its tensors have the batch first."""
        return self.decoder.start(self.first_state(memory), memory, src_mask)

    def first_state(self, memory: Tensor) -> Hidden:
        """(B, S, D) -> h_0, and c_0 of an LSTM, (B, L, N) each."""
        mean = memory.mean(1)  # (B, D)
        mapped = [layer(mean) for layer in self.first]  # of h and then of c, layer by layer, (B, N) each
        num_layers = self.decoder.layers.num_layers
        h, c = torch.tanh(torch.stack(mapped[:num_layers], 1)), mapped[num_layers:]  # (B, L, N)
        return (h, torch.stack(c, 1)) if c else (h,)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T) -> logits (B, V) of what comes after the last of them, and the state there."""
        return self.decoder.step(tokens, state)

    @torch.no_grad()
    def attention(self, src: Tensor, src_mask: Tensor | None, tgt_in: Tensor) -> dict[str, Tensor]:
        """{"alignment": (B, 1, T, S)}: how much each word looked at each place; {} where none does."""
        return self.decoder.looked(tgt_in, self.start(self.encode(src, src_mask), src_mask))
