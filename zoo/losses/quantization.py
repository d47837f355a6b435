"""Codes out of a codebook: what is minimized beside the error of what is said, and how much of the book is used.

van den Oord, Vinyals, Kavukcuoglu, "Neural discrete representation learning", 2017 (arXiv 1711.00937), equation 3:

    |sg[z_e(x)] - e|^2          the codebook follows the encoder        sg: no gradient flows there
    beta |z_e(x) - sg[e]|^2     the encoder commits itself to the codebook

    perplexity = exp(-sum_k p_k log p_k)        p_k: how often entry k is used; from 1 (one alone) to K (all alike)

Axes: K entries of the codebook
"""

import torch
from torch import Tensor


def codebook_loss(encoded: Tensor, entries: Tensor) -> Tensor:
    """z_e and the entries in its place, both (B, ...) -> (B,), summed over the values of a sample; moves entries."""
    return (encoded.detach() - entries).square().flatten(1).sum(1)


def commitment_loss(encoded: Tensor, entries: Tensor) -> Tensor:
    """The same value; moves what the encoder makes."""
    return (encoded - entries.detach()).square().flatten(1).sum(1)


def usage(numbers: Tensor, num_entries: int) -> Tensor:
    """Numbers of entries, of any shape -> how often each is there (K,), float64."""
    return torch.bincount(numbers.flatten(), minlength=num_entries).double()


def perplexity(counts: Tensor) -> float:
    """How often each entry is used, (K,) -> as how many entries that were used alike; there must be one."""
    share = counts / counts.sum()
    return float(torch.special.entr(share).sum().exp())
