"""TextCNN: phrases found anywhere in a sentence decide its class.

Kim, "Convolutional Neural Networks for Sentence Classification", 2014 (arXiv 1408.5882), section 2: each word becomes
a vector, each kernel looks at h words in a row (equation 2), only its strongest answer in the sentence counts
(max over time, equation 3), and the answers of all kernels go through dropout into a dense layer (equation 5).

    c_i = relu(w . x_(i:i+h-1) + b)        z = [max_i c_i of each kernel]        y = W drop(z) + b

Departures from the paper
1. Words start at random and are learned, the paper's CNN-rand; its other forms need vectors that were trained before.
2. A kernel may hang over both ends of a sentence, over zeros: the author's code and its reimplementations pad by the
   largest kernel less one. So a sentence shorter than a kernel has an answer, too. Windows of padding alone do not
   count here, so neither padding nor the rest of a batch can change an answer.
3. Dropout scales while training and not while testing (`regularizer=classic_dropout` has the paper's way).
4. The bound on the length of the output layer's rows (section 3.1) is no part of the network.

Axes: B batch, T words, D width of a word, h words of a kernel, C kernels of a size, K classes
Trained by: classification    Data: mr, trec, sst2, text_csv    Equal to: one sentence and one window at a time (tests)
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.errors import UserError


class MaxOverTime(nn.Module):
    """The strongest answer of C kernels of `kernel_size` words anywhere in a sentence, (B, D, T) -> (B, C)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.overhang = kernel_size - 1
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, padding=self.overhang)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """`words` are 0 where `mask` (B, T) says padding, which comes last."""
        answers = self.conv(words)  # (B, C, T + h - 1)
        # Window i begins h - 1 places before word i: it ends with a real word, or holds some that came before.
        places = torch.arange(answers.shape[2], device=mask.device)  # (T + h - 1,)
        real = places < mask.sum(1, keepdim=True) + self.overhang  # (B, T + h - 1)
        # relu after the maximum is the same as before it, and has less to do.
        return answers.masked_fill(~real.unsqueeze(1), -torch.inf).amax(2).relu()  # (B, C)


class TextCNN(nn.Module):
    """Convolutions of several sizes over the words of a sentence.

    Args:
        vocab_size: V.
        num_outputs: K.
        embedding_dim: D.
        kernel_sizes: h of each kind of kernel.
        channels: C, kernels of each size.
        dropout: before the dense layer, in [0, 1).
        sparse_embedding: the gradient of the embedding has only the rows that a batch used.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        num_outputs: int,
        embedding_dim: int = 300,
        kernel_sizes: Sequence[int] = (3, 4, 5),
        channels: int = 100,
        dropout: float = 0.5,
        sparse_embedding: bool = False,
    ) -> None:
        super().__init__()
        if not kernel_sizes or not all(isinstance(size, int) and size > 0 for size in kernel_sizes):
            raise UserError(f"model.kernel_sizes={list(kernel_sizes)} must be whole numbers from 1 on, one at least.")
        self.embedding = nn.Embedding(vocab_size, embedding_dim, sparse=sparse_embedding)
        self.phrases = nn.ModuleList(MaxOverTime(embedding_dim, channels, size) for size in kernel_sizes)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(len(kernel_sizes) * channels, num_outputs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # About the deviation of word vectors that were trained before, which the paper chose its range to match
        # (section 3.3). Torch's own, 1, would leave rare words as loud as they were drawn.
        nn.init.uniform_(self.embedding.weight, -0.25, 0.25)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens (B, T), T from 1 on, and what of them is real (B, T; None: all) -> logits (B, K)."""
        words = self.embedding(tokens)  # (B, T, D)
        if mask is None:
            mask = torch.ones_like(tokens, dtype=torch.bool)
        words = words * mask.unsqueeze(2)  # (B, T, D), 0 where padded
        words = words.transpose(1, 2).contiguous()  # (B, D, T); laid out anew, a step takes a tenth less
        found = torch.cat([phrase(words, mask) for phrase in self.phrases], 1)  # (B, sizes C)
        return self.output(self.dropout(found))  # (B, K)
