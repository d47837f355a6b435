"""VQ-VAE: an autoencoder whose code is a small map of words from a learned codebook.

van den Oord, Vinyals, Kavukcuoglu, "Neural discrete representation learning", 2017 (arXiv 1711.00937), section 3:

    z_e = encoder(x)            at each place of a small map a vector of D numbers
    k = argmin_j |z_e - e_j|    e_1 ... e_K: the codebook; the code is the number k               equation 1
    x' = decoder(e_k)           the gradient of e_k goes on to z_e as it is ("straight through")

Departures from the paper
1. Smaller: `len(channels)` convolutions of stride 2 for the paper's two, and no residual blocks, for images of 8 and 28
   pixels; the paper's have 256 maps and K = 512.
2. Batch normalization ends the encoder (Lancucki et al., "Robust training of vector quantized bottleneck models",
   2020), and the codebook starts as draws of the standard normal distribution: both lie in one place from the start,
   else few entries are ever the nearest. The codebook learns by the gradient of its loss.
3. An entry has few numbers, where the paper has 64 (Yu et al., "Vector-quantized image modeling with improved VQGAN",
   2022, section 3.2): of 16 numbers, few of 32 entries would ever be used on digits; of 4, nearly all are (tests).
4. No prior over the codes is learned afterwards (the paper: a PixelCNN), so nothing new is drawn.

Axes: B batch, C channels, H height, W width, h x w the map of codes, D size of an entry, K entries
Trained by: quantization    Data: digits, mnist, fashion_mnist, cifar10
Equal to: the nearest of torch.cdist, and the same layers in torch.nn (tests)
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zoo.errors import UserError


class Quantized(NamedTuple):
    """What a VQ-VAE makes of images.

    said: (B, C, H, W).
    encoded: z_e, (B, D, h, w).
    entries: e_k in its place, (B, D, h, w), with the gradient of the codebook.
    numbers: k, (B, h, w) int64.
    """

    said: Tensor
    encoded: Tensor
    entries: Tensor
    numbers: Tensor


class VQVAE(nn.Module):
    """Convolutions down to a map of vectors, the nearest entries of a codebook, transposed convolutions up again.

    Args:
        image_shape: (C, H, W); H and W are multiples of 2 ** len(channels).
        channels: maps of each convolution of stride 2.
        num_entries: K.
        entry_size: D.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        channels: Sequence[int] = (32, 64),
        num_entries: int = 32,
        entry_size: int = 4,
    ) -> None:
        super().__init__()
        depth, height, width = image_shape
        stride = 2 ** len(channels)
        if not channels or height % stride or width % stride:
            raise UserError(
                f"model.channels={list(channels)} halves images {len(channels)} times, and {height}x{width} pixels "
                "cannot be; use another number of layers, or data.image_size."
            )
        self.num_entries = num_entries
        depths = [depth, *channels]
        down: list[nn.Module] = []
        up: list[nn.Module] = [nn.Conv2d(entry_size, channels[-1], kernel_size=3, padding=1), nn.ReLU()]
        for before, after in pairwise(depths):
            down += [nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1), nn.ReLU()]
        for i in reversed(range(len(channels))):
            up.append(nn.ConvTranspose2d(depths[i + 1], depths[i], kernel_size=4, stride=2, padding=1))
            up += [nn.ReLU()] if i else []
        down += [nn.Conv2d(channels[-1], entry_size, kernel_size=1), nn.BatchNorm2d(entry_size)]
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up)
        self.codebook = nn.Parameter(torch.empty(num_entries, entry_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # Layers keep torch's own start. The codebook: see departure 2.
        nn.init.normal_(self.codebook)

    def nearest(self, encoded: Tensor) -> Tensor:
        """(B, D, h, w) -> numbers of entries (B, h, w)."""
        vectors = encoded.movedim(1, -1)[..., None, :]  # (B, h, w, 1, D)
        return (vectors - self.codebook).square().sum(-1).argmin(-1)  # (B, h, w, K) -> (B, h, w)

    def entries(self, numbers: Tensor) -> Tensor:
        """(B, h, w) -> (B, D, h, w)."""
        return self.codebook[numbers].movedim(-1, 1)

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the code: numbers of entries (B, h, w)."""
        return self.nearest(self.encoder(x))

    def decode(self, numbers: Tensor) -> Tensor:
        """(B, h, w) -> (B, C, H, W)."""
        return self.decoder(self.entries(numbers))

    def quantize(self, x: Tensor) -> Quantized:
        """(B, C, H, W) -> all that training needs."""
        encoded = self.encoder(x)  # (B, D, h, w)
        numbers = self.nearest(encoded)  # (B, h, w)
        entries = self.entries(numbers)  # (B, D, h, w)
        through = encoded + (entries - encoded).detach()  # the value of the entries, the gradient of what was encoded
        return Quantized(self.decoder(through), encoded, entries, numbers)

    def forward(self, x: Tensor) -> Tensor:
        """Like x: what is left of it."""
        return self.quantize(x).said
