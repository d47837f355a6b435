"""How good generated samples are, each in numbers that can be checked: pure functions of samples and data.

Parzen window   mean over test points x of log 1/N sum_i N(x; y_i, sigma^2 I); the centres y_i are generated samples
Frechet         |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)) of two Gaussians fitted to features
modes           how many Gaussians of a known mixture have a sample within three deviations, and the share of such ones
transport       min over pairings of the mean |x_i - y_i|, which the value of a Wasserstein critic is a lower bound of

The Parzen likelihood is a weak judge: it hardly sees whether an image looks right, and centres of clusters score higher
than real images do (Theis, van den Oord, Bethge, "A note on the evaluation of generative models", 2016, arXiv
1511.01844, section 3.2). It is here because it is what was published in 2014, and real training images as samples stand
beside it.

Axes: N samples, M points of the data, D values of each, K modes
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from zoo.layers.depth import entering

# Ten widths from 0.1 to 1 with equal steps of their logarithm, as the authors of 2014 tried them (parzen_ll.py).
SIGMAS = tuple(float(sigma) for sigma in np.logspace(-1, 0, 10))
FOR_SIGMA = 1000  # validation points that choose the width, as there
CHUNK = 500  # points whose distances to all samples are held at a time
HIGH_QUALITY = 3.0  # deviations from the nearest centre


class Parzen(NamedTuple):
    """A Parzen-window estimate in nats a point: its mean over the points, the standard error of that, the width."""

    mean: float
    standard_error: float
    sigma: float


def squared_distances(points: Tensor, samples: Tensor) -> Tensor:
    """(M, D) and (N, D) -> (M, N), each summed over D; in float64, where what cancels leaves enough digits."""
    points, samples = points.double(), samples.double()
    lengths = points.square().sum(1, keepdim=True) + samples.square().sum(1)  # (M, N)
    return torch.addmm(lengths, points, samples.T, alpha=-2).clamp_(min=0)


def parzen_log_likelihoods(samples: Tensor, points: Tensor, sigmas: Sequence[float]) -> Tensor:
    """log 1/N sum_i N(x; y_i, sigma^2 I) of each point and width: (S, M) float64 for S widths.

    Args:
        samples: (N, D), the centres y.
        points: (M, D), the x.
    """
    number, size = samples.shape
    found = []
    for chunk in points.split(CHUNK):
        distances = squared_distances(chunk, samples)  # (m, N)
        rows = []
        for sigma in sigmas:
            constant = math.log(number) + 0.5 * size * math.log(2 * math.pi * sigma**2)
            rows.append(torch.logsumexp(distances / (-2 * sigma**2), 1) - constant)  # (m,)
        found.append(torch.stack(rows))  # (S, m)
    return torch.cat(found, 1)


def best_sigma(samples: Tensor, validation: Tensor, sigmas: Sequence[float] = SIGMAS) -> float:
    """The width under which the first 1,000 validation points (M, D) are likeliest."""
    means = parzen_log_likelihoods(samples, validation[:FOR_SIGMA], sigmas).mean(1)  # (S,)
    return sigmas[int(means.argmax())]


def parzen(samples: Tensor, validation: Tensor, points: Tensor, sigmas: Sequence[float] = SIGMAS) -> Parzen:
    """The estimate for `points`, with the width that suits `validation`: Goodfellow et al. 2014, section 5.

    Args:
        samples, validation, points: one row each of generated samples, validation and test data; images are flattened.
    """
    samples, validation, points = (x.flatten(1).cpu() for x in (samples, validation, points))
    sigma = best_sigma(samples, validation, sigmas)
    found = parzen_log_likelihoods(samples, points, [sigma])[0]  # (M,)
    error = float(found.std(correction=0)) / math.sqrt(len(points))
    return Parzen(float(found.mean()), error, sigma)


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Between Gaussians fitted to two sets of features, (N, D) and (M, D).

    Dowson and Landau, "The Frechet distance between multivariate normal distributions", 1982; as a measure of
    generators Heusel et al. 2017 (arXiv 1706.08500). It grows with fewer samples, so only equal numbers can be
    compared.
    """
    (mean_1, cov_1), (mean_2, cov_2) = (gaussian(features) for features in (first, second))
    # tr (C_1 C_2)^(1/2) = tr (R C_2 R)^(1/2) with R^2 = C_1, and R C_2 R is symmetric: its eigenvalues are real.
    values, vectors = torch.linalg.eigh(cov_1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # (D, D)
    cross = torch.linalg.eigvalsh(root @ cov_2 @ root).clamp(min=0).sqrt().sum()
    distance = (mean_1 - mean_2).square().sum() + cov_1.trace() + cov_2.trace() - 2 * cross
    return max(0.0, float(distance))


def gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of features (N, D), in float64."""
    features = features.double()
    return features.mean(0), torch.cov(features.T).reshape(features.shape[1], features.shape[1])


@torch.no_grad()
def penultimate(model: nn.Module, x: Tensor, *, chunk: int = CHUNK) -> Tensor:
    """What goes into the last dense layer of a classifier: (N, ...) -> features (N, D). It is put into evaluation mode.

    Raises:
        ValueError: the model has no dense layer, or calls its last one more than once.
    """
    dense = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not dense:
        raise ValueError("the model has no dense layer to take features from")
    return torch.cat([entering(model.eval(), dense[-1], part).flatten(1) for part in x.split(chunk)])


class Quality(NamedTuple):
    """Samples of a known mixture.

    Args:
        modes: how many of the K have a sample of high quality, one within three deviations of the centre.
        high_quality: share of all samples that lie so.
        counts: (K,) samples of high quality of each mode.
    """

    modes: int
    high_quality: float
    counts: Tensor


def mixture_quality(samples: Tensor, centers: Tensor, std: float) -> Quality:
    """Samples (N, D) against centres (K, D), as Srivastava et al. 2017 (VEEGAN), section 4.1, count them."""
    distances = squared_distances(samples, centers.to(samples.device)).sqrt()  # (N, K)
    nearest, mode = distances.min(1)  # (N,), (N,)
    good = nearest <= HIGH_QUALITY * std
    counts = torch.bincount(mode[good], minlength=len(centers))  # (K,)
    return Quality(int((counts > 0).sum()), float(good.double().mean()), counts)


def transport_cost(first: Tensor, second: Tensor) -> float:
    """The least mean distance |x_i - y_p(i)| over all pairings p of two sets of as many points, (N, D) each.

    That is the Wasserstein-1 distance of the two samples, which is above that of the distributions they come from: two
    samples of one distribution have a cost of their own.
    """
    from scipy.optimize import linear_sum_assignment

    cost = squared_distances(first.flatten(1), second.flatten(1)).sqrt().cpu().numpy()  # (N, N)
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean())
