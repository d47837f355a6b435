"""What restricted Boltzmann machines are trained and judged by; pure functions of a machine and its units.

A machine has the methods of `zoo.layers.boltzmann.RBMLayer`. Its log-likelihood has the gradient

    d log p(v) / d W = <v h>_data - <v h>_model          and so with <v> for b, <h> for c

whose second mean nobody can sum up but for the smallest machines. Contrastive divergence (Hinton 2002, section 4) takes
it over samples after k steps of a Gibbs chain that starts at the data; persistent contrastive divergence (Tieleman,
"Training restricted Boltzmann machines using approximations to the likelihood gradient", 2008) over chains that go on
from step to step. In both h is replaced by its probability, which has the same mean and less noise.

Pseudo-likelihood (Besag 1975): log p(v_i | all other v) summed over i, in which Z cancels, since a unit's chance is the
sigmoid of how much the free energy falls when it flips.

Axes: B samples, C chains, V visible units, H hidden units
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

MOST_NUMBERS = 2**22  # of one chunk of the exact pseudo-likelihood


class Gradients(NamedTuple):
    """Of the weight (V, H), the visible bias (V,) and the hidden bias (H,), to be followed downhill."""

    weight: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor


def contrast(v: Tensor, h: Tensor, v_model: Tensor, h_model: Tensor) -> Gradients:
    """What is likely under the model less what is in the data.

    Args:
        v, h: (B, V) data and (B, H) the probabilities of hidden units.
        v_model, h_model: (C, V) and (C, H), the same of samples of the model.
    """
    weight = v_model.T @ h_model  # (V, H)
    weight.addmm_(v.T, h, beta=1 / len(v_model), alpha=-1 / max(1, len(v)))  # in place: it is the largest tensor here
    return Gradients(weight, v_model.mean(0) - v.mean(0), h_model.mean(0) - h.mean(0))


def gibbs(machine: Any, v: Tensor, steps: int, noise: Callable[[str, int], Tensor]) -> Tensor:
    """Visible units (C, V) after so many steps of a chain.

    Args:
        noise: (name of the draw, number of units) -> uniform noise (C, units).
    """
    num_visible, num_hidden = machine.weight.shape
    for step in range(steps):
        h = machine.sample_hidden(v, noise(f"hidden {step}", num_hidden))  # (C, H)
        v = machine.sample_visible(h, noise(f"visible {step}", num_visible))  # (C, V)
    return v


class HandedOver(torch.autograd.Function):
    """A number that is shown, and gradients that were computed elsewhere: backward gives them out."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: tuple[Tensor, ...], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        scale, gradients = outputs[0], ctx.gradients
        ctx.gradients = ()  # autograd keeps as .grad, without a copy, what nobody else holds
        unscaled = scale.device.type == "cpu" and scale.item() == 1  # as in nearly every run
        return None, None, *(gradient if unscaled else scale * gradient for gradient in gradients)


def handed_over(value: Tensor, gradients: dict[Tensor, Tensor]) -> Tensor:
    """`value`, () , such that its backward pass gives each parameter its gradient."""
    return HandedOver.apply(value, tuple(gradients.values()), *gradients)


def reconstruction_loss(logits: Tensor, v: Tensor, binary: bool) -> Tensor:
    """-log p(v | h) summed over the units, mean over B; of Gaussian units without its constant.

    Args:
        logits: (B, V) of Bernoulli units, or the means of Gaussian ones.
    """
    logits, v = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (logits, v))  # sums want 32 bits
    if binary:
        # Softplus(x) = max(x, 0) + log(1 + e^-|x|), in a tenth of the time of torch's log1p on a CPU; what 1 + rounds
        # away is below 1e-7 a unit.
        softplus = logits.relu().sum() + (1 + (-logits.abs()).exp()).log().sum()
        return (softplus - torch.dot(v.flatten(), logits.flatten())) / max(1, len(v))
    return 0.5 * F.mse_loss(logits, v, reduction="sum") / max(1, len(v))


def pseudo_likelihood(machine: Any, v: Tensor) -> Tensor:
    """sum_i log p(v_i | the others) of binary units, (B, V) -> (B,), in nats; every unit is flipped once."""
    if len(v) == 0:
        return v.new_zeros(0)
    num_visible, num_hidden = machine.weight.shape
    size = max(1, MOST_NUMBERS // (num_visible * num_hidden))
    return torch.cat([_all_flips(machine, part) for part in v.split(size)])


def _all_flips(machine: Any, v: Tensor) -> Tensor:
    logits, change = machine.hidden_logits(v), 1 - 2 * v  # (B, H), (B, V): +1 where a unit would be switched on
    flipped = logits.unsqueeze(1) + change.unsqueeze(2) * machine.weight  # (B, V, H)
    energy = -change * machine.visible_bias  # (B, V), how much the free energy changes
    energy = energy - F.softplus(flipped).sum(2) + F.softplus(logits).sum(1, keepdim=True)
    return F.logsigmoid(energy).sum(1)


def one_bit_pseudo_likelihood(machine: Any, v: Tensor, noise: Tensor) -> Tensor:
    """V log p(v_i | the others) of one unit i drawn for each sample, (B, V) -> (B,): the same mean, V times faster.

    The Theano deep-learning tutorial watches it, with one unit for all samples of a batch.

    Args:
        noise: (B,) uniform in [0, 1), which draws the unit.
    """
    num_visible = v.shape[1]
    unit = (noise * num_visible).long().clamp(max=num_visible - 1).unsqueeze(1)  # (B, 1)
    flipped = v.scatter(1, unit, 1 - v.gather(1, unit))  # (B, V)
    return num_visible * F.logsigmoid(machine.free_energy(flipped) - machine.free_energy(v))
