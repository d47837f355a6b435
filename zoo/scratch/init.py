"""Initialization written out: each fills a weight in place and returns it. Equal to torch.nn.init's under one seed.

Random weights keep the size of activations (fan_in) or gradients (fan_out) from layer to layer, if their variance is

    Xavier  2 / (fan_in + fan_out)    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural
                                      networks", 2010, equation 16: for functions that are linear around 0
    He      2 / fan                   He, Zhang, Ren, Sun, "Delving deep into rectifiers", 2015, equations 10 and 14:
                                      a rectifier drops half of the variance; fan_avg, the mean of both, is a variant

A uniform distribution over (-b, b) has the variance b^2 / 3. Orthogonal matrices (Saxe, McClelland, Ganguli, "Exact
solutions to the nonlinear dynamics of learning in deep linear neural networks", 2013) keep every vector's length.

Axes: O outputs, I inputs, *k the kernel of a convolution
"""

import math

import torch
from torch import Tensor


def fans(weight: Tensor, *, groups: int = 1, transposed: bool = False) -> tuple[int, int]:
    """(fan_in, fan_out): how many products an output adds up, and how many outputs an input goes into (at stride 1).

    Args:
        weight: (O, I) of a dense layer, (O, I, *k) of a convolution with I inputs in each group.
        groups: of the convolution. torch.nn.init counts the outputs of all of them for fan_out.
        transposed: it is of a transposed convolution, (I, O, *k) with the outputs of one group. torch.nn.init takes
            each of its fans for the other.
    """
    if weight.ndim < 2:
        raise ValueError("fans are defined for matrices and kernels, which have two axes or more.")
    place = math.prod(weight.shape[2:])
    first, second = weight.shape[0] // groups * place, weight.shape[1] * place  # both of one group
    return (first, second) if transposed else (second, first)


@torch.no_grad()
def zeros_(weight: Tensor) -> Tensor:
    """Makes all units of a layer alike, and they stay so: for biases."""
    return weight.zero_()


@torch.no_grad()
def normal_(weight: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    return weight.normal_(mean, std)


@torch.no_grad()
def uniform_(weight: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    return weight.uniform_(low, high)


def xavier_normal_(weight: Tensor, gain: float = 1.0) -> Tensor:
    fan_in, fan_out = fans(weight)
    return normal_(weight, 0.0, gain * math.sqrt(2 / (fan_in + fan_out)))


def xavier_uniform_(weight: Tensor, gain: float = 1.0) -> Tensor:
    fan_in, fan_out = fans(weight)
    bound = gain * math.sqrt(3 * 2 / (fan_in + fan_out))
    return uniform_(weight, -bound, bound)


def fan(weight: Tensor, mode: str) -> float:
    """The fan of that name: fan_in, fan_out, or fan_avg, the mean of both."""
    fan_in, fan_out = fans(weight)
    return {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]


def he_normal_(weight: Tensor, mode: str = "fan_in", gain: float = math.sqrt(2)) -> Tensor:
    """gain: sqrt(2) for ReLU, sqrt(2 / (1 + a^2)) for a leaky one of slope a."""
    return normal_(weight, 0.0, gain / math.sqrt(fan(weight, mode)))


def he_uniform_(weight: Tensor, mode: str = "fan_in", gain: float = math.sqrt(2)) -> Tensor:
    bound = gain * math.sqrt(3 / fan(weight, mode))
    return uniform_(weight, -bound, bound)


@torch.no_grad()
def orthogonal_(weight: Tensor, gain: float = 1.0) -> Tensor:
    """A random orthogonal matrix: (O, I * k) has orthonormal rows, or columns where there are fewer of them.

    The Q of a QR decomposition of normal numbers, with each column's sign such that R has a positive diagonal: without
    that, Q would depend on the algorithm's choice of signs, and not be spread evenly.
    """
    normal = torch.empty_like(weight).normal_().flatten(1)  # (O, I * k)
    wide = normal.shape[0] < normal.shape[1]
    q, r = torch.linalg.qr(normal.T if wide else normal)
    q = q * r.diagonal().sign()
    return weight.copy_(gain * (q.T if wide else q).reshape(weight.shape))
