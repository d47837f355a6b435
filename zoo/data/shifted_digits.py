"""Two domains of handwritten digits: as they are, with labels; and faded copies of others, without.

A copy is of faint ink on grey and grainy paper, pixels from 0 (white) to 1 (black):

    paper + ink * digit + grain * noise             noise: standard normal, of each pixel

No digit is in both domains. Labels of the target are used in the test alone, so there is no validation part: what would
be chosen by it would be chosen by labels that nobody has. The last epoch is the result.

Axes: N images, S pixels a side
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.batches import DomainBatch
from zoo.data.base import InMemory, Loaded, split_indices
from zoo.data.digits import Digits
from zoo.data.images import ImagePreprocessing, fingerprint, image_facts, resize
from zoo.errors import UserError

SHARES = (0.4, 0.4, 0.2)  # of the source, of the target without labels, and of the target's test


@dataclass(frozen=True)
class MakeDomainBatch:
    """(source images uint8, labels, target images uint8) -> `DomainBatch`."""

    prepare: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor, labels: Tensor, targets: Tensor) -> DomainBatch:
        return DomainBatch(self.prepare(images), labels, self.prepare(targets))


def faded(images: Tensor, paper: float, ink: float, grain: float, *, seed: int) -> Tensor:
    """(N, 1, S, S) uint8 -> the same, faded."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return (255 * (paper + grain * noise) + ink * images).round().clamp(0, 255).to(torch.uint8)


class ShiftedDigits(Digits):
    """Images (1, S, S) of the digits 0 to 9: train of both domains, test of the target. No validation part.

    Args:
        paper: how grey the paper of the target is, from 0 to 1.
        ink: how dark its ink is beside that, from 0 to 1.
        grain: deviation of the noise. paper=0, ink=1 and grain=0 leave the target as the source.
        image_size, normalize, batch_size, eval_batch_size, seed, fraction, overfit: see `Images`; mean and deviation
            are those of the source.
    """

    def __init__(
        self,
        *,
        paper: float = 0.4,
        ink: float = 0.3,
        grain: float = 0.08,
        image_size: int = 8,
        normalize: bool = True,
        batch_size: int | str = 64,
        eval_batch_size: int = 512,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            image_size=image_size,
            normalize=normalize,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            fraction=fraction,
            overfit=overfit,
        )
        for name, value in (("paper", paper), ("ink", ink), ("grain", grain)):
            if not 0 <= value <= 1:
                raise UserError(f"data.{name}={value} must be a number from 0 to 1.")
        self.paper, self.ink, self.grain = paper, ink, grain

    def load(self) -> Loaded:
        images, labels = self.read()["train"]
        split = split_indices(len(images), SHARES, seed=self.seed, labels=labels.numpy())
        others = faded(images, self.paper, self.ink, self.grain, seed=self.seed)
        images, others = resize(images, self.image_size), resize(others, self.image_size)
        number = min(len(split.train), len(split.val))  # a row has an image of each domain
        order = torch.randperm(number, generator=torch.Generator().manual_seed(self.seed))
        source, target = split.train[:number], split.val[:number][order]
        preprocessing = (
            ImagePreprocessing.from_dict(self.earlier)
            if self.earlier is not None
            else ImagePreprocessing.fit(images[source])
            if self.normalize
            else ImagePreprocessing.plain(*images.shape[1:])
        )
        preprocessing.check(images)
        make = MakeDomainBatch(preprocessing)
        return Loaded(
            parts={
                "train": InMemory(make, images[source], labels[source], others[target]),
                "test": InMemory(preprocessing.batch, others[split.test], labels[split.test]),
            },
            facts=image_facts(preprocessing, labels[source], len(self.names)),
            preprocessing=preprocessing.to_dict(),
            class_names=self.names,
            train_labels=labels[source],
            fingerprint=fingerprint((images, others, labels)),
        )
