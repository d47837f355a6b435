"""Bounds on the likelihood of models with latent variables, and the densities they are made of. All in nats.

With a prior p(z) = N(0, I), an encoder q(z|x) = N(mean, diag(var)) and z = mean + std * noise,

    ELBO(x)  = E_q log p(x|z) - KL(q(z|x) || p(z))  <=  log p(x)                   Kingma and Welling 2014, equation 3
    KL       = 1/2 sum_j (mean_j^2 + var_j - 1 - log var_j)                         the same, appendix B
    w_k      = p(x|z_k) p(z_k) / q(z_k|x)
    IWAE(x)  = E log 1/K sum_k w_k,  which is the ELBO for K = 1 and log p(x) for K without end    Burda et al. 2016

What is minimized is -E log p(x|z) + weight * KL. A weight above 1 asks for a plainer code (beta-VAE, Higgins et al.
2017); one that grows from 0 (KL warm-up, Bowman et al. 2016; Sonderby et al. 2016) and a part of the KL that costs
nothing (free bits, Kingma et al. 2016, equation 15) keep the code from being given up before it is of any use.

Axes: B batch, K samples of z, Z latent variables, D values of a sample (pixels or columns)
"""

import math
from typing import Any

import torch
from torch import Tensor

FACTORS = 112  # between 1 and 2, whose product a float32 holds


def reparameterize(mean: Tensor, log_var: Tensor, noise: Tensor) -> Tensor:
    """z = mean + std * noise: (B, Z), (B, Z), (B, K, Z) -> (B, K, Z)."""
    return mean[:, None] + (0.5 * log_var).exp()[:, None] * noise


def kl_to_standard_normal(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(0, 1)) of each variable, in the shape of both."""
    # Near the prior, terms that nearly cancel want 32 bits.
    mean, log_var = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (mean, log_var))
    return 0.5 * (mean**2 + log_var.exp() - 1 - log_var)


class _Bernoulli(torch.autograd.Function):
    """sum_d x_d l_d - log(1 + e^l_d), with the gradient x - sigmoid(l).

    log(1 + e^l) = max(l, 0) + log(1 + e^-|l|), and the sum of such logarithms is one logarithm of a product. That,
    and a gradient in two passes over the logits, take a third of the time of `binary_cross_entropy_with_logits`; where
    a batch has many samples of z, the loss is as dear as the network.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(logits, x)
        factors = logits.abs().neg_().exp_().add_(1)  # (B, K, D), in (1, 2]
        parts = factors.tensor_split(-(-factors.shape[-1] // FACTORS), dim=-1)
        logs = torch.stack([part.prod(-1) for part in parts], dim=-1).log_().sum(-1)  # (B, K)
        return torch.einsum("bkd,bd->bk", logits, x) - logits.clamp(min=0).sum(-1) - logs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        logits, x = ctx.saved_tensors
        return (x[:, None] - logits.sigmoid()).mul_(gradients[0][..., None]), None


def bernoulli_log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    """log p(x|z) of values that are 0 or 1, summed over all of a sample: (B, K).

    Grey levels between 0 and 1 are taken as in sum_d x_d log y_d + (1 - x_d) log(1 - y_d), which is usual and no
    likelihood of them.

    Args:
        logits: (B, K, ...), D values in all but the first two axes.
        x: (B, ...), in [0, 1]; gets no gradient.
    """
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    return _Bernoulli.apply(logits.flatten(2), x.flatten(1).to(logits.dtype))


def gaussian_log_likelihood(mean: Tensor, x: Tensor, log_var: Tensor) -> Tensor:
    """log p(x|z) of N(mean, exp(log_var)), summed over all values of a sample: (B, K).

    Args:
        mean: (B, K, ...), D values in all but the first two axes.
        x: (B, ...).
        log_var: (), of each value.
    """
    mean, x = mean.flatten(2), x.flatten(1)  # (B, K, D), (B, D)
    squares = ((x[:, None] - mean) ** 2).sum(-1)  # (B, K)
    return -0.5 * (squares * (-log_var).exp() + mean.shape[-1] * (log_var + math.log(2 * math.pi)))


def log_weights(log_likelihood: Tensor, z: Tensor, noise: Tensor, log_var: Tensor) -> Tensor:
    """log w_k = log p(x|z_k) + log p(z_k) - log q(z_k|x), (B, K).

    Since (z - mean) / std is the noise, log p(z) - log q(z|x) = 1/2 sum_j (noise_j^2 - z_j^2 + log var_j).

    Args:
        log_likelihood: (B, K).
        z, noise: (B, K, Z), see `reparameterize`.
        log_var: (B, Z).
    """
    return log_likelihood + 0.5 * ((noise**2 - z**2).sum(-1) + log_var.sum(-1)[:, None])


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """log 1/K sum_k w_k, (B, K) -> (B,). Burda, Grosse, Salakhutdinov 2016, equation 8."""
    return log_weights.logsumexp(1) - math.log(log_weights.shape[1])


def free_bits(kl: Tensor, over_batch: Tensor, least: float) -> Tensor:
    """sum_j max(least, mean KL_j) (), where a variable below `least` gets no gradient.

    Args:
        kl: (B, Z), of each sample and variable.
        over_batch: (Z,), means over the global batch, which decide.
        least: nats of each variable that cost nothing.
    """
    costs = over_batch > least  # (Z,)
    return (kl.mean(0) * costs).sum() + least * (~costs).sum()


def warmed_up(epochs: float, warmup_epochs: float) -> float:
    """What the weight of the KL is multiplied with after so many epochs: from 0 in a straight line to 1."""
    return min(1.0, epochs / warmup_epochs) if warmup_epochs > 0 else 1.0


def active_units(second: Tensor, first: Tensor, *, least: float = 0.01) -> Tensor:
    """Which latent variables the data moves, (Z,) bool: Var_x E_q[z_j|x] > 0.01 (Burda et al. 2016, section 5.2).

    Args:
        second, first: (Z,), means over the samples of the squares of their posterior means, and of these means.
    """
    return second - first**2 > least
