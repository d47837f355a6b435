"""Points of a plane around a few centres: what a generator has to find all of, and a classifier tells apart.

Both are made from the seed, and the distribution that they come from is known.

Axes: N points, B batch, K modes
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.batches import TableBatch
from zoo.data.base import Loaded
from zoo.data.images import check_size, fingerprint
from zoo.data.memory import Made
from zoo.errors import UserError


class Mixture(Made):
    """Gaussians of one width with equal shares; the label is the number of the Gaussian.

    Args:
        centers: K points of the plane.
        std: of each coordinate around a centre.
        num_train, num_val, num_test, batch_size, eval_batch_size, seed, fraction, overfit: see `Made`.

    Attributes:
        centers: (K, 2) float32.
    """

    def __init__(
        self,
        centers: Sequence[tuple[float, float]],
        std: float,
        *,
        num_train: int,
        num_val: int,
        num_test: int,
        batch_size: int | str,
        eval_batch_size: int,
        seed: int,
        fraction: float,
        overfit: bool,
    ) -> None:
        super().__init__(
            num_train=num_train,
            num_val=num_val,
            num_test=num_test,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            fraction=fraction,
            overfit=overfit,
        )
        if std <= 0:
            raise UserError(f"data.std={std} must be above 0.")
        self.centers, self.std = torch.tensor(centers, dtype=torch.float32), std

    def sequences(self, num_sequences: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Points (N, 2) float32 and the numbers of their Gaussians (N,) int64."""
        modes = torch.randint(len(self.centers), (num_sequences,), generator=generator)  # (N,)
        return self.centers[modes] + self.std * torch.randn(num_sequences, 2, generator=generator), modes

    def load(self) -> Loaded:
        parts = self.made(TableBatch)  # type: ignore[arg-type]
        labels = parts["train"].tensors[1]
        counts = torch.bincount(labels, minlength=len(self.centers)).tolist()
        return Loaded(
            parts=dict(parts),
            facts={
                "kind": "multiclass",
                "num_features": 2,
                "num_classes": len(self.centers),
                "label_counts": counts,
            },
            preprocessing={"kind": "mixture"},
            class_names=[f"({x:g}, {y:g})" for x, y in self.centers.double().mul(100).round().div(100).tolist()],
            train_labels=labels,
            fingerprint=fingerprint(tensor for part in parts.values() for tensor in part.tensors),
        )


class Ring(Mixture):
    """Gaussians evenly spread on a circle.

    Metz, Poole, Pfau, Sohl-Dickstein, "Unrolled generative adversarial networks", 2017 (arXiv 1611.02163), section 3.1
    and appendix A: 8 of them, radius 2, standard deviation 0.02. The first lies at (radius, 0).

    Args:
        num_modes: K.
        radius: of the circle.
        std, num_train, num_val, num_test, batch_size, eval_batch_size, seed, fraction, overfit: see `Mixture`.
    """

    number = 2

    def __init__(
        self,
        *,
        num_modes: int = 8,
        radius: float = 2.0,
        std: float = 0.02,
        num_train: int = 50_000,
        num_val: int = 2500,
        num_test: int = 2500,
        batch_size: int | str = 256,
        eval_batch_size: int = 2500,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        check_size("num_modes", num_modes, 2)
        angles = [2 * math.pi * mode / num_modes for mode in range(num_modes)]
        super().__init__(
            [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles],
            std,
            num_train=num_train,
            num_val=num_val,
            num_test=num_test,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            fraction=fraction,
            overfit=overfit,
        )


class Grid(Mixture):
    """Gaussians on a square grid around 0.

    Srivastava, Valkov, Russell, Gutmann, Sutton, "VEEGAN: reducing mode collapse in GANs using implicit variational
    learning", 2017 (arXiv 1705.07761), section 4.1: 5 x 5 of them, 2 apart, standard deviation 0.05.

    Args:
        side: Gaussians of a row; K is their square.
        spacing: between neighbours.
        std, num_train, num_val, num_test, batch_size, eval_batch_size, seed, fraction, overfit: see `Mixture`.
    """

    number = 3

    def __init__(
        self,
        *,
        side: int = 5,
        spacing: float = 2.0,
        std: float = 0.05,
        num_train: int = 50_000,
        num_val: int = 2500,
        num_test: int = 2500,
        batch_size: int | str = 256,
        eval_batch_size: int = 2500,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        check_size("side", side, 2)
        steps = [spacing * (place - (side - 1) / 2) for place in range(side)]
        super().__init__(
            [(x, y) for y in steps for x in steps],
            std,
            num_train=num_train,
            num_val=num_val,
            num_test=num_test,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            fraction=fraction,
            overfit=overfit,
        )
