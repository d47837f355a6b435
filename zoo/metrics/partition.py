"""How likely data really are to a restricted Boltzmann machine: its partition function, exact or estimated.

    log p(v) = -F(v) - log Z

Exact where one side has few units: Z = sum over all states h of e^-F(h) has 2^H terms, or 2^V over v.

Annealed importance sampling (Neal 2001; Salakhutdinov and Murray, "On the quantitative analysis of deep belief
networks", 2008, sections 3 and 4.1.3) goes from a machine without weights, whose Z is known, to the one at hand through
distributions in between,

    p_t(v) ~ exp(-(1 - t) E_A(v) - t E_B(v)) prod_j (1 + e^(t (c_j + v W_j)))        t from 0 to 1

with E the energies of visible units alone. Each run moves a sample through all of them by Gibbs sampling and gathers a
weight w, the product of p_t(v) / p_t'(v) of neighbours; the mean of w is an unbiased estimate of Z_B / Z_A.

A machine has the methods of `zoo.layers.boltzmann.RBMLayer`.

Axes: V visible units, H hidden units, R runs, S states
"""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

FEW_UNITS = 16  # on the smaller side, at most, for the exact sum
CHUNK = 12  # bits: 4,096 states at a time


def binary_states(number: int, **options: Any) -> Tensor:
    """All states of so many units, (2^number, number), the first unit changing last."""
    places = torch.arange(number - 1, -1, -1, device=options.get("device"))
    return (torch.arange(2**number, device=options.get("device")).unsqueeze(1) >> places & 1).to(**options)


def can_be_summed(machine: Any) -> bool:
    """Whether one side, that of binary units, is small enough."""
    num_visible, num_hidden = machine.weight.shape
    return num_hidden <= FEW_UNITS or (machine.is_binary and num_visible <= FEW_UNITS)


@torch.no_grad()
def log_partition(machine: Any) -> Tensor:
    """log Z, (), summed over all states of the smaller side in float64. Its cost doubles with each unit."""
    num_visible, num_hidden = machine.weight.shape
    over_hidden = num_hidden <= num_visible or not machine.is_binary
    number = num_hidden if over_hidden else num_visible
    energy = machine.hidden_free_energy if over_hidden else machine.free_energy
    options = {"dtype": machine.weight.dtype, "device": machine.weight.device}
    last = binary_states(min(number, CHUNK), **options)  # (S, last units)
    sums = []
    for first in binary_states(max(0, number - CHUNK), **options):
        states = torch.cat([first.expand(len(last), -1), last], 1)  # (S, H or V)
        sums.append(torch.logsumexp(-energy(states).double(), 0))
    return torch.logsumexp(torch.stack(sums), 0)


class Estimate(NamedTuple):
    """Of log Z, in nats.

    log_partition: the estimate.
    low, high: where Z lies within three deviations of the mean of the weights; low is -inf where they do not say.
    log_weights: (R,) of each run.
    """

    log_partition: float
    low: float
    high: float
    log_weights: Tensor


@torch.no_grad()
def annealed_importance(
    machine: Any, *, runs: int, steps: int, generator: torch.Generator, base: Tensor | None = None
) -> Estimate:
    """Estimates log Z.

    Args:
        runs: R, independent samples; their spread gives the interval.
        steps: distributions from one end to the other; more of them make every weight more certain.
        generator: on the CPU.
        base: (V,) visible biases of the machine without weights. The log odds of the data's mean start near the data.
    """
    weight = machine.weight
    num_visible, num_hidden = weight.shape
    base = torch.zeros_like(machine.visible_bias) if base is None else base.to(weight)

    def noise(size: int) -> Tensor:
        return torch.rand(runs, size, generator=generator).to(weight)

    def log_unnormalized(v: Tensor, hidden: Tensor, t: float) -> Tensor:
        energies = (1 - t) * machine.visible_energy(v, base) + t * machine.visible_energy(v, machine.visible_bias)
        return (F.softplus(t * hidden).sum(1) - energies).double()  # (R,)

    v = machine.drawn(machine.means(base.expand(runs, -1)), noise(num_visible))  # (R, V)
    log_weights = torch.zeros(runs, dtype=torch.float64, device=weight.device)
    places = torch.linspace(0, 1, steps + 1, dtype=torch.float64).tolist()
    for before, t in pairwise(places):
        hidden = machine.hidden_logits(v)  # (R, H)
        log_weights += log_unnormalized(v, hidden, t) - log_unnormalized(v, hidden, before)
        if t < 1:
            h = (noise(num_hidden) < (t * hidden).sigmoid()).to(weight)  # (R, H)
            logits = (1 - t) * base + t * machine.visible_logits(h)  # (R, V)
            v = machine.drawn(machine.means(logits), noise(num_visible))
    known = num_hidden * math.log(2) + _log_partition_of_base(machine, base)
    return estimate(log_weights, known)


def _log_partition_of_base(machine: Any, base: Tensor) -> float:
    """Of the visible units alone, without weights."""
    return float(F.softplus(base.double()).sum()) if machine.is_binary else len(base) * math.log(math.tau) / 2


def estimate(log_weights: Tensor, known: float) -> Estimate:
    """From the weights (R,) of the runs and the log Z that they start from; section 4.1 of the paper."""
    runs = len(log_weights)
    largest = log_weights.max()
    weights = (log_weights - largest).exp()  # (R,)
    mean = weights.mean()
    spread = 3 * weights.std() / math.sqrt(runs) if runs > 1 else torch.tensor(math.inf)
    middle, high = float(mean.log() + largest) + known, float((mean + spread).log() + largest) + known
    low = float((mean - spread).log() + largest) + known if mean > spread else -math.inf
    return Estimate(middle, low, high, log_weights)
