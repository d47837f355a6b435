"""The digits of scikit-learn, each also moved by a pixel to all four sides: 8,985 images of 8x8 pixels.

The data of scikit-learn's example "Restricted Boltzmann machine features for digit classification", where features that
do not mind the nudge help a linear classifier a lot. As there, a fifth is drawn for the test without looking at which
images are copies of one another, so most test images have a sibling in training: numbers of this set say how good
features are beside other features, and nothing about unseen handwriting. As there, each pixel is divided by its
greatest value.

Axes: N images
"""

import torch
from torch import Tensor

from zoo.data.base import split_indices
from zoo.data.digits import Digits
from zoo.data.images import Part

SHARES = (0.8, 0.0, 0.2)  # of train and test


def nudged(images: Tensor) -> Tensor:
    """(N, 1, H, W) -> (5 N, 1, H, W): as they are, then moved up, left, right and down; what comes in is 0."""
    empty = torch.zeros_like(images)
    moved = [images] + [empty.clone() for _ in range(4)]
    moved[1][..., :-1, :] = images[..., 1:, :]
    moved[2][..., :-1] = images[..., 1:]
    moved[3][..., 1:] = images[..., :-1]
    moved[4][..., 1:, :] = images[..., :-1, :]
    return torch.cat(moved)


class NudgedDigits(Digits):
    """Images (1, S, S) of the digits 0 to 9; 80 % to learn from, no validation part. Arguments as in `Digits`."""

    def read(self) -> dict[str, Part]:
        images, labels = super().read()["train"]
        images = nudged(images).float()
        images = images / images.amax(0).clamp(min=1)  # pixel by pixel
        return {"train": ((255 * images).round().to(torch.uint8), labels.repeat(5))}

    def cut(self, parts: dict[str, Part]) -> dict[str, Part]:
        images, labels = parts["train"]
        split = split_indices(len(images), SHARES, seed=self.seed)
        return {name: (images[getattr(split, name)], labels[getattr(split, name)]) for name in ("train", "test")}
