"""What codes of samples are worth: beside those of PCA, as groups that agree with classes, as a measure of oddness.

    PCA       z = D (x - m),  x' = m + D^T z        D: the directions of greatest variance of the training part
    NMI, ARI  how far groups agree with classes, whatever they are called: 1 is wholly, 0 is what chance gives (ARI)
    AUROC     how often an odd sample has a greater error than one that is not: 1 is always, 0.5 is chance

Pearson, "On lines and planes of closest fit to systems of points in space", 1901; Hotelling 1933. No linear map there
and back through Z numbers has a smaller squared error on the samples that PCA was fitted to (Eckart and Young 1936),
and a linear autoencoder has no other minimum than that (Baldi and Hornik, "Neural networks and principal component
analysis: learning from examples without local minima", 1989).

Axes: N samples, F values of a sample, Z codes, K classes
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.errors import UserError


class PCA(NamedTuple):
    """A fitted principal component analysis, float64.

    mean: (F,).
    directions: (Z, F), orthonormal, that of the greatest variance first.
    """

    mean: Tensor
    directions: Tensor

    def encode(self, x: Tensor) -> Tensor:
        """(N, F) -> (N, Z)."""
        return (x.to(self.mean) - self.mean) @ self.directions.T

    def decode(self, codes: Tensor) -> Tensor:
        """(N, Z) -> (N, F)."""
        return self.mean + codes @ self.directions

    def squared_errors(self, x: Tensor) -> Tensor:
        """(N, F) -> (N,): what is lost of each sample, summed over its values."""
        return (x.to(self.mean) - self.decode(self.encode(x))).square().sum(1)


def fit_mean(chunks: Iterable[Tensor]) -> Tensor:
    """The mean (F,) of the rows of all chunks (n, F), float64; there must be one."""
    total, number = torch.zeros((), dtype=torch.float64), 0
    for chunk in chunks:
        total, number = total + chunk.double().sum(0), number + len(chunk)
    return total / number


def fit_pca(chunks: Iterable[Tensor], num_codes: int) -> PCA:
    """Exact PCA from the covariance, read once.

    Args:
        chunks: rows (n, F) each, all together at least one.
        num_codes: Z, at least 1; more than F would say nothing more.
    """
    # About the first chunk's mean, not about 0: what is far from 0 would drown in its own square.
    near, total, products, number = None, torch.zeros((), dtype=torch.float64), torch.zeros(()), 0
    for chunk in chunks:
        rows = chunk.double()  # (n, F)
        near = rows.mean(0) if near is None else near
        rows = rows - near
        total, products, number = total + rows.sum(0), products + rows.T @ rows, number + len(rows)
    if near is None:
        raise UserError("There is no sample to fit PCA to.")
    mean = total / number  # (F,)
    covariance = products / number - torch.outer(mean, mean)  # (F, F)
    _, vectors = torch.linalg.eigh(covariance)  # columns, the least variance first
    directions = vectors.T.flip(0)[:num_codes]  # (Z, F)
    largest = directions.abs().argmax(1, keepdim=True)
    return PCA(near + mean, directions * directions.gather(1, largest).sign())  # one sign on every machine


def in_the_plane(codes: Tensor) -> Tensor:
    """Codes (N, Z) as points (N, 2): their first two principal components where Z is above 2, a line where it is 1."""
    codes = codes.detach().double().cpu()
    if codes.shape[1] == 1:
        return torch.cat([codes, torch.zeros_like(codes)], dim=1)
    return codes if codes.shape[1] == 2 else fit_pca([codes], 2).encode(codes)


class Agreement(NamedTuple):
    """How far groups of samples agree with their classes; see the top of this file."""

    nmi: float
    ari: float


def clustering(x: Tensor, labels: Tensor, num_clusters: int, *, seed: int = 0) -> Agreement:
    """k-means without labels (best of 10 starts), and how far its groups agree with them.

    Args:
        x: (N, Z) codes, or anything else that says where samples lie.
        labels: (N,) class indices.
        num_clusters: k, from 1 to N.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    if not 1 <= num_clusters <= len(x):
        raise UserError(f"{num_clusters} clusters of {len(x)} samples cannot be; give a number from 1 to {len(x)}.")
    groups = KMeans(num_clusters, n_init=10, random_state=seed).fit_predict(x.double().numpy())
    known = labels.numpy()
    return Agreement(float(normalized_mutual_info_score(known, groups)), float(adjusted_rand_score(known, groups)))


def auroc(errors: Tensor, odd: Tensor) -> float:
    """Area under the ROC curve of an error (N,) as a sign that a sample is `odd` (N,) bool.

    Raises:
        UserError: all samples are odd, or none is.
    """
    from sklearn.metrics import roc_auc_score

    if bool(odd.all()) or not bool(odd.any()):
        raise UserError("The part that is judged must have samples of the odd class and others; choose another part=.")
    return float(roc_auc_score(odd.numpy(), errors.double().numpy()))
