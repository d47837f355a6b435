"""What a discriminator and a generator minimize, from the logits D(x) of real samples x and D(G(z)) of generated ones.

    name            discriminator or critic                               generator
    minimax         -E log s(D(x)) - E log(1 - s(D(G(z))))                E log(1 - s(D(G(z))))      s: sigmoid
    non_saturating  as minimax                                            -E log s(D(G(z)))
    least_squares   1/2 E (D(x) - 1)^2 + 1/2 E D(G(z))^2                  1/2 E (D(G(z)) - 1)^2
    hinge           E max(0, 1 - D(x)) + E max(0, 1 + D(G(z)))            -E D(G(z))
    wasserstein     E D(G(z)) - E D(x)                                    -E D(G(z))

Goodfellow et al. 2014 (arXiv 1406.2661), section 3, have the first two; Mao et al. 2017 (arXiv 1611.04076), equation 9,
the third; Lim and Ye 2017 (arXiv 1705.02894) and Miyato et al. 2018 (arXiv 1802.05957), equations 16 and 17, the
fourth; Arjovsky, Chintala, Bottou 2017 (arXiv 1701.07875), equations 2 and 3, the last, where D has to be 1-Lipschitz:
by clipping its weights, or by the penalty of Gulrajani et al. 2017 (arXiv 1704.00028), equation 3, which may also go
with the others.

`LOSSES` names those that `task.loss=` can choose.

Axes: B batch
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy_of_both(real: Tensor, fake: Tensor, smoothing: float = 0.0) -> Tensor:
    """The discriminator of `minimax` and `non_saturating`: logits (B,), (B,) -> ().

    Args:
        smoothing: real samples have the target 1 - smoothing (Salimans et al. 2016, arXiv 1606.03498, section 3.4).
            Those that are generated keep the target 0, or the best D would have peaks where p_G is, not where p is.
    """
    # -log s(a) is softplus(-a), which neither overflows nor rounds to 0.
    on_real = (1 - smoothing) * F.softplus(-real) + smoothing * F.softplus(real)
    return on_real.mean() + F.softplus(fake).mean()


def least_squares_of_both(real: Tensor, fake: Tensor, smoothing: float = 0.0) -> Tensor:
    """The discriminator of `least_squares`; arguments as in `cross_entropy_of_both`."""
    return 0.5 * (real - (1 - smoothing)).square().mean() + 0.5 * fake.square().mean()


def hinge_of_both(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator of `hinge`: (B,), (B,) -> ()."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def difference(real: Tensor, fake: Tensor) -> Tensor:
    """The critic of `wasserstein`: (B,), (B,) -> ()."""
    return fake.mean() - real.mean()


def minimax_generator(fake: Tensor) -> Tensor:
    """(B,) -> (). Its slope fades where the discriminator is sure of itself."""
    return -F.softplus(fake).mean()


def non_saturating_generator(fake: Tensor) -> Tensor:
    """(B,) -> ()."""
    return F.softplus(-fake).mean()


def least_squares_generator(fake: Tensor) -> Tensor:
    """(B,) -> ()."""
    return 0.5 * (fake - 1).square().mean()


def mean_score_generator(fake: Tensor) -> Tensor:
    """(B,) -> (), of `hinge` and `wasserstein`."""
    return -fake.mean()


@dataclass(frozen=True)
class AdversarialLoss:
    """A pair of losses, and what is known of it.

    Args:
        discriminator: (real, fake) -> (); with `smoothing=` where `can_smooth`.
        generator: fake -> ().
        probability: from D(x) to the probability that it gives to "real"; None where it gives none.
        can_smooth: real samples have a target that can be smoothed.
    """

    discriminator: Callable[..., Tensor]
    generator: Callable[[Tensor], Tensor]
    probability: Callable[[Tensor], Tensor] | None = None
    can_smooth: bool = False


def as_is(value: Tensor) -> Tensor:
    return value


LOSSES = {
    "minimax": AdversarialLoss(cross_entropy_of_both, minimax_generator, torch.sigmoid, can_smooth=True),
    "non_saturating": AdversarialLoss(cross_entropy_of_both, non_saturating_generator, torch.sigmoid, can_smooth=True),
    # Its best D is p / (p + p_G), too, without a sigmoid (Mao et al. 2017, equation 5 with a = 0 and b = 1).
    "least_squares": AdversarialLoss(least_squares_of_both, least_squares_generator, as_is, can_smooth=True),
    "hinge": AdversarialLoss(hinge_of_both, mean_score_generator),
    "wasserstein": AdversarialLoss(difference, mean_score_generator),
}


def as_float(logits: Tensor) -> Tensor:
    """At least 32 bits, where a network computes in 16."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def between(real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """share * real + (1 - share) * fake, all (B, ...); share (B,) in [0, 1)."""
    share = share.view(-1, *[1] * (real.ndim - 1))  # (B, 1, ...)
    return share * real + (1 - share) * fake


def slopes(discriminator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(B,) length of the gradient of D at each x (B, ...); itself differentiable in what D depends on."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        # The logit of a sample depends on that sample alone, so the gradient of their sum has a row for each.
        (gradient,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return gradient.flatten(1).norm(dim=1)


def gradient_penalty(slope: Tensor) -> Tensor:
    """Mean of (|gradient| - 1)^2 from `slopes` (B,) at points `between` real and generated samples."""
    return (slope - 1).square().mean()


def r1_penalty(slope: Tensor) -> Tensor:
    """Half the mean of |gradient|^2 from `slopes` (B,) at real samples.

    Mescheder, Geiger, Nowozin, "Which training methods for GANs do actually converge?", 2018 (arXiv 1801.04406),
    equation 9.
    """
    return 0.5 * slope.square().mean()


@torch.no_grad()
def clip(parameters: Iterable[Tensor], largest: float) -> None:
    """Moves every weight into [-largest, largest], in place (Arjovsky et al. 2017, algorithm 1)."""
    for parameter in parameters:
        parameter.clamp_(-largest, largest)
