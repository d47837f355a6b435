"""How well an input is said again, what is asked of codes beside it, and how inputs are spoilt on the way.

Of a sample x of F values and what a network says of it:

    squared error    sum_i (x_i - x'_i)^2                              a sum over values, not their mean
    cross-entropy    -sum_i x_i log s(a_i) + (1 - x_i) log(1 - s(a_i))   of logits a, for x in [0, 1], in nats

Of its codes z of Z units:

    sparsity, KL     sum_j rho log(rho / r_j) + (1 - rho) log((1 - rho) / (1 - r_j))    r_j: mean of z_j over samples
    sparsity, L1     sum_j |z_j|
    contraction      sum_j sum_i (dz_j / dx_i)^2                       the squared Frobenius norm of the Jacobian

KL: Andrew Ng, "Sparse autoencoder", CS294A lecture notes, 2011, section 3. Contraction: Rifai, Vincent, Muller, Glorot,
Bengio, "Contractive auto-encoders: explicit invariance during feature extraction", 2011, equations 1 to 5. Noise:
Vincent, Larochelle, Lajoie, Bengio, Manzagol, "Stacked denoising autoencoders", JMLR 2010, section 3.3.

Axes: B batch, F values of a sample, Z codes
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST = 2**24  # numbers of a Jacobian that are held at once
NEVER, ALWAYS = 1e-6, 1 - 1e-6  # of a unit that never fires, the logarithm would be infinite


def squared_errors(said: Tensor, x: Tensor) -> Tensor:
    """Both (B, ...) -> (B,), summed over the values of a sample."""
    return (said - x).square().flatten(1).sum(1)


def cross_entropies(logits: Tensor, x: Tensor) -> Tensor:
    """Logits (B, ...) and x (B, ...) in [0, 1] -> (B,), in nats, summed over the values of a sample."""
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)


def kl_sparsity(activity: Tensor, target: float) -> Tensor:
    """Mean activities (Z,) in [0, 1] -> (), 0 where each of them is the target."""
    r = activity.to(torch.promote_types(activity.dtype, torch.float32)).clamp(NEVER, ALWAYS)
    return (target * (target / r).log() + (1 - target) * ((1 - target) / (1 - r)).log()).sum()


def l1_sparsity(codes: Tensor) -> Tensor:
    """(B, Z) -> (B,)."""
    return codes.abs().sum(1)


def contraction(encode: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(B, ...) -> (B,): the squared Frobenius norm of each sample's Jacobian, exactly, by a gradient for each code.

    Args:
        encode: (B, ...) -> (B, Z), each sample for itself. Gradients flow on to its parameters.
    """
    if len(x) == 0:
        return x.flatten(1).sum(1)
    pulled: Any = torch.func.vjp(encode, x)
    codes, pull = pulled
    wanted = torch.eye(codes.shape[1], dtype=codes.dtype, device=codes.device)[:, None]  # (Z, 1, Z)
    some = max(1, LARGEST // x.numel())
    gradients = torch.func.vmap(pull, chunk_size=some)(wanted.expand(-1, len(x), -1))[0]  # (Z, B, ...)
    return gradients.flatten(2).square().sum((0, 2))


def contraction_of_sigmoids(codes: Tensor, weight: Tensor) -> Tensor:
    """The same of codes = sigmoid(W x + b), in closed form: sum_j (z_j (1 - z_j))^2 sum_i W_ji^2.

    Args:
        codes: (B, Z).
        weight: W, (Z, F).
    """
    return (codes * (1 - codes)).square() @ weight.square().sum(1)


def with_gaussian(x: Tensor, drawn: Tensor, level: float) -> Tensor:
    """Normal noise of deviation `level` added to each value; `drawn` is standard normal, of x's shape."""
    return x + level * drawn


def with_masking(x: Tensor, drawn: Tensor, level: float) -> Tensor:
    """Each value 0 with probability `level`; `drawn` is uniform in [0, 1), of x's shape."""
    return x.masked_fill(drawn < level, 0.0)


def with_salt_and_pepper(x: Tensor, drawn: Tensor, level: float) -> Tensor:
    """Each value 0 or 1 with probability `level` / 2 each; `drawn` is uniform in [0, 1), of x's shape."""
    return x.masked_fill(drawn < level, 1.0).masked_fill(drawn < level / 2, 0.0)


# Name: what is drawn, and what is done with it.
NOISE: dict[str, tuple[str, Callable[[Tensor, Tensor, float], Tensor]]] = {
    "gaussian": ("normal", with_gaussian),
    "masking": ("uniform", with_masking),
    "salt_and_pepper": ("uniform", with_salt_and_pepper),
}
