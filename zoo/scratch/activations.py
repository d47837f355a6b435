"""Activations written out: twins of torch.nn's, and the step that has no useful derivative.

Where a function has a kink, its derivative there is a choice; these make torch's: relu'(0) = 0, hardtanh'(-1) =
hardtanh'(1) = 0, leaky_relu'(0) = the slope. They write `where` with the same side of the kink, and let autograd do
the rest. What is not a number stays so.
"""

import math

import torch
from torch import Tensor, nn


class Sigmoid(nn.Sigmoid):
    """1 / (1 + e^-x), in (0, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1 / (1 + torch.exp(-x.clamp(min=-80)))  # further out exp overflows, and its gradient is no number


class Tanh(nn.Tanh):
    """(e^x - e^-x) / (e^x + e^-x) = -e / (2 + e) with e = e^(-2x) - 1, in (-1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        e = torch.expm1(-2 * x.clamp(min=-40))  # further out it overflows
        return -e / (2 + e)


class Hardtanh(nn.Hardtanh):
    """x between `min_val` and `max_val`, and those beyond."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x <= self.min_val, self.min_val, torch.where(x >= self.max_val, self.max_val, x))


class ReLU(nn.ReLU):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x <= 0, 0.0, x)


class ReLU6(nn.ReLU6):
    """min(max(x, 0), 6), for arithmetic of few bits (Howard et al. 2017)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x <= 0, 0.0, torch.where(x >= 6, 6.0, x))


class LeakyReLU(nn.LeakyReLU):
    """x above 0 and `negative_slope` x below."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.negative_slope * x)


class ELU(nn.ELU):
    """x above 0 and alpha (e^x - 1) below (Clevert et al. 2015)."""

    def forward(self, x: Tensor) -> Tensor:
        below = torch.expm1(torch.where(x > 0, 0.0, x))  # above, it would overflow and spoil the gradient
        return torch.where(x > 0, x, self.alpha * below)


class GELU(nn.GELU):
    """x Phi(x) with the normal distribution function Phi, or its form with tanh (Hendrycks and Gimpel 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        if self.approximate == "tanh":
            return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


class SiLU(nn.SiLU):
    """x sigmoid(x), also called swish (Elfwing et al. 2017)."""

    def forward(self, x: Tensor) -> Tensor:
        return x / (1 + torch.exp(-x.clamp(min=-80)))


class Softmax(nn.Softmax):
    """e^(x_k) / sum_j e^(x_j) over the axis `dim`: positive, and 1 in sum. Of two classes it is a sigmoid."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.dim is not None
        e = torch.exp(x - x.detach().amax(self.dim, keepdim=True))  # the largest is e^0, so nothing overflows
        return e / e.sum(self.dim, keepdim=True)


class LogSoftmax(nn.LogSoftmax):
    """x_k - log sum_j e^(x_j) over the axis `dim`; the logarithm of a softmax would be that of 0 for small shares."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.dim is not None
        x = x - x.detach().amax(self.dim, keepdim=True)
        return x - torch.log(torch.exp(x).sum(self.dim, keepdim=True))


def heaviside(x: Tensor) -> Tensor:
    """1 above 0, else 0: the threshold unit's step. Its derivative is 0 wherever there is one, so nothing is learnt."""
    return torch.floor((torch.sign(x) + 1) / 2)  # autograd goes through both, and takes 0 for the derivative of each
