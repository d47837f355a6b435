"""What recurrent networks have in common: what a step of the input is, how padding is passed over, and the last layer.

A network of this house reads its input step by step, whatever the data gives:

    tokens (B, T) of a vocabulary      an embedding of each
    vectors (B, T, F)                  as they are
    images (B, C, H, W)                row by row, H steps of C W values, or pixel by pixel, H W steps of C values
    rows of a table (B, F)             F steps of one value

and answers by its head:

    classifier, regressor    one answer for the whole sequence, from the states of its real steps: (B, K)
    next_step                one answer at each step, and the state to go on with: (B, T, K), state
    forecaster               the H steps after the last one, at once: (B, H, K)

Axes: B batch, T steps, F values of a step, D width of a step, H hidden size or horizon, K outputs
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError, suggest
from zoo.layers.real_steps import over_all_steps, over_real_steps

HEADS = ("classifier", "regressor", "next_step", "forecaster")
POOLINGS = ("last", "mean", "max")
READINGS = ("rows", "pixels")


class Steps(nn.Module):
    """Any input as a sequence of vectors (B, T, D).

    Args:
        vocab_size: V; given, the input is tokens (B, T).
        input_size: F; given (and no vocabulary), the input is vectors (B, T, F).
        image_shape: (C, H, W); given (and none of the above), the input is images.
        num_features: F; given (and none of the above), the input is rows of a table (B, F).
        embedding_dim: D of tokens.
        reading: of images, "rows" or "pixels".
        sparse: the gradient of the embedding has only the rows that a batch used.

    Attributes:
        size: D.
    """

    def __init__(
        self,
        *,
        vocab_size: int | None = None,
        input_size: int | None = None,
        image_shape: Sequence[int] | None = None,
        num_features: int | None = None,
        embedding_dim: int = 128,
        reading: str = "rows",
        sparse: bool = False,
    ) -> None:
        super().__init__()
        if reading not in READINGS:
            raise UserError(f"There is no model.reading={reading}{suggest(reading, READINGS)}")
        self.reading = reading
        self.embedding: nn.Embedding | None = None
        if vocab_size is not None:
            self.embedding = nn.Embedding(vocab_size, embedding_dim, sparse=sparse)
            self.size = embedding_dim
        elif input_size is not None:
            self.size = input_size
        elif image_shape is not None:
            channels, _, width = image_shape
            self.size = channels * width if reading == "rows" else channels
        elif num_features is not None:
            self.size = 1
        else:
            raise UserError("A recurrent network needs to know its input: a vocabulary, vectors, images or rows.")

    def forward(self, x: Tensor) -> Tensor:
        if self.embedding is not None:
            return self.embedding(x)  # (B, T, D)
        if x.ndim == 4:
            rows = x.permute(0, 2, 3, 1)  # (B, H, W, C)
            return rows.flatten(2) if self.reading == "rows" else rows.flatten(1, 2)  # (B, H, W C) or (B, H W, C)
        return x.unsqueeze(2) if x.ndim == 2 else x  # (B, T, D)


def unpadded(mask: Tensor | None) -> bool:
    """Whether no step is padding."""
    return mask is None or bool(mask.all())


def pool(outputs: Tensor, mask: Tensor | None, how: str, directions: int = 1) -> Tensor:
    """(B, T, H) -> (B, H), over real steps alone.

    Args:
        mask: (B, T), True where a step is real; padding comes last; None where all are.
        how: "last" (each direction's own last step: the first one of the backward direction), "mean" or "max".
        directions: 2 where the second half of H was read backwards.
    """
    if how == "last":
        if mask is None:
            last = outputs[:, -1]  # (B, H)
        else:
            places = mask.sum(1).clamp(min=1) - 1  # (B,)
            last = outputs[torch.arange(len(outputs), device=outputs.device), places]  # (B, H)
        if directions == 1:
            return last
        half = outputs.shape[2] // 2
        return torch.cat([last[:, :half], outputs[:, 0, half:]], 1)  # (B, H)
    if mask is None:
        return outputs.mean(1) if how == "mean" else outputs.amax(1)
    real = mask.unsqueeze(2)  # (B, T, 1)
    if how == "max":
        return outputs.masked_fill(~real, -torch.inf).amax(1)
    return (outputs * real).sum(1) / real.sum(1).clamp(min=1)


class RecurrentNetwork(nn.Module):
    """Base of `rnn`, `lstm` and `gru`: they say which layers of torch.nn are in the middle, and how these start.

    Args:
        num_outputs: K.
        head: one of `HEADS`.
        horizon: H of a forecaster.
        pooling: what a head for the whole sequence sees: "last", "mean" or "max".
        dropout: on the steps, between layers, and before the last layer, in [0, 1).
        input_dropout: on the steps, where it is to be another one; None: `dropout`.
        hidden_size, num_layers, bidirectional: as in torch.nn.LSTM.
        recurrent_init: "orthogonal", "identity" (of a ReLU network, Le et al. 2015) or "uniform" (torch's own).
        input_std: standard deviation at which the weights of the first layer's input start; None: by `recurrent_init`,
            whose ranges are made for inputs of which most are not 0. Where k of F values are 1 and the others 0,
            1 / sqrt(k) gives the sums that reach a gate a variance of 1.
        vocab_size, input_size, image_shape, num_features, embedding_dim, reading, sparse_embedding: see `Steps`.
    """

    def __init__(
        self,
        *,
        num_outputs: int,
        head: str = "classifier",
        horizon: int | None = None,
        vocab_size: int | None = None,
        input_size: int | None = None,
        image_shape: Sequence[int] | None = None,
        num_features: int | None = None,
        embedding_dim: int = 128,
        reading: str = "rows",
        sparse_embedding: bool = False,
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        input_dropout: float | None = None,
        pooling: str = "last",
        recurrent_init: str = "orthogonal",
        input_std: float | None = None,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise UserError(f"There is no model.head={head}{suggest(head, HEADS)}")
        if pooling not in POOLINGS:
            raise UserError(f"There is no model.pooling={pooling}{suggest(pooling, POOLINGS)}")
        if head == "next_step" and bidirectional:
            raise UserError("model.bidirectional=true would see the next step it is to predict; leave it false.")
        if input_std is not None and not input_std > 0:
            raise UserError(f"model.input_std={input_std} must be a positive number.")
        if head == "forecaster" and horizon is None:
            raise UserError("A forecaster needs model.horizon, the number of steps to predict.")
        self.head, self.pooling, self.horizon = head, pooling, horizon
        self.directions = 2 if bidirectional else 1
        self.steps = Steps(
            vocab_size=vocab_size,
            input_size=input_size,
            image_shape=image_shape,
            num_features=num_features,
            embedding_dim=embedding_dim,
            reading=reading,
            sparse=sparse_embedding,
        )
        self.layers = self.make_layers(
            input_size=self.steps.size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            dropout=dropout if num_layers > 1 else 0.0,
            batch_first=True,
        )
        self.drop = nn.Dropout(dropout)
        self.drop_steps = nn.Dropout(dropout if input_dropout is None else input_dropout)
        self.output = nn.Linear(self.directions * hidden_size, num_outputs * (horizon or 1))
        self.reset_parameters(recurrent_init)
        if input_std is not None:
            for name, parameter in self.layers.named_parameters():
                if name.startswith("weight_ih_l0"):
                    nn.init.normal_(parameter, std=input_std)

    @abstractmethod
    def make_layers(self, **sizes: Any) -> nn.RNNBase:
        """torch's fused layers."""

    def reset_parameters(self, recurrent_init: str) -> None:
        init_recurrent(self.layers, recurrent_init)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, state: Any = None) -> Any:
        """See the head; `state` is what an earlier call of a next_step network returned."""
        steps = self.drop_steps(self.steps(x))  # (B, T, D)
        outputs, state = self.read(steps, mask, state)  # (B, T, H)
        if self.head == "next_step":
            return self.output(self.drop(outputs)), state  # (B, T, K)
        pooled = pool(outputs, mask, self.pooling, self.directions)  # (B, H)
        answer = self.output(self.drop(pooled))  # (B, K) or (B, H K)
        return answer.unflatten(1, (self.horizon, -1)) if self.head == "forecaster" else answer

    def read(self, steps: Tensor, mask: Tensor | None, state: Any) -> tuple[Tensor, Any]:
        """(B, T, D) -> states (B, T, H) of the last layer, 0 where the mask says padding, and the final state."""
        if unpadded(mask):
            return over_all_steps(self.layers, steps, state)
        assert mask is not None
        return over_real_steps(self.layers, steps, mask.sum(1), state)


def init_recurrent(layers: nn.RNNBase, how: str) -> None:
    """Fills the matrices of every layer, each gate for itself; biases become 0.

    Args:
        how: "orthogonal": an orthogonal map of the state keeps its norm from step to step, whatever their number (Saxe
            et al. 2014), and inputs by Xavier; "identity": a state without input stays as it is (Le, Jaitly, Hinton
            2015, arXiv 1504.00941), inputs normal with deviation 0.001; "uniform": torch's own.
    """
    if how not in ("orthogonal", "identity", "uniform"):
        raise UserError(f"There is no model.recurrent_init={how}{suggest(how, ('orthogonal', 'identity', 'uniform'))}")
    if how == "uniform":
        return
    for name, parameter in layers.named_parameters():
        if name.startswith("bias"):
            nn.init.zeros_(parameter)
            continue
        for gate in parameter.split(layers.hidden_size):
            if name.startswith("weight_ih"):
                nn.init.xavier_uniform_(gate) if how == "orthogonal" else nn.init.normal_(gate, std=0.001)
            else:
                nn.init.orthogonal_(gate) if how == "orthogonal" else nn.init.eye_(gate)


def start_gate(layers: nn.RNNBase, place: int, bias: float) -> None:
    """Where one gate of every layer and direction starts: the sum of its two biases.

    Args:
        place: of the gate among those of torch's layers, from 0.
    """
    rows = slice(place * layers.hidden_size, (place + 1) * layers.hidden_size)
    for name, parameter in layers.named_parameters():
        if name.startswith("bias_"):
            nn.init.constant_(parameter[rows], bias if name.startswith("bias_ih") else 0.0)


@torch.no_grad()
def start_memory(layers: nn.RNNBase, places: dict[int, float], longest: int) -> None:
    """Units that remember for different times, from a step to `longest`, in every layer and direction.

    A gate whose bias is b keeps a share sigmoid(b) of a state from step to step, so for about 1 + exp(b) steps: b is
    ln u, u uniform from 1 to longest - 1 (chrono initialization, Tallec and Ollivier 2018, arXiv 1804.11188).

    Args:
        places: of the gates that keep among those of torch's layers, from 0, with 1; of those that take in, with -1.
        longest: in steps, at least 3.
    """
    if longest < 3:
        raise UserError(f"model.longest_memory={longest}: it is a number of steps from 3 on, or null.")
    size = layers.hidden_size
    for name, parameter in layers.named_parameters():
        if name.startswith("bias_"):
            spread = (
                torch.empty(size).uniform_(1, longest - 1).log() if name.startswith("bias_ih") else torch.zeros(size)
            )
            for place, sign in places.items():
                parameter[place * size : (place + 1) * size] = sign * spread
