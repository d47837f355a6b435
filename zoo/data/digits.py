"""Handwritten digits of scikit-learn: 1,797 images of 8x8 pixels, no download.

The test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998, UCI), 17 grey levels.
"""

from collections.abc import Sequence

import numpy as np
import torch

from zoo.data.base import split_indices
from zoo.data.images import Images, Part

SHARES = (0.70, 0.15, 0.15)  # of train, val and test


class Digits(Images):
    """Images (1, S, S) of the digits 0 to 9, split 70/15/15 by the seed, each class alike.

    Args:
        image_size: S; 8 is what there is, above that the images are scaled up.
        normalize, classes, leave_out, batch_size, eval_batch_size, seed, fraction, overfit: see `Images`.
    """

    class_names = tuple("0123456789")

    def __init__(
        self,
        *,
        image_size: int = 8,
        normalize: bool = True,
        classes: Sequence[int | str] | None = None,
        leave_out: Sequence[int | str] | None = None,
        batch_size: int | str = 64,
        eval_batch_size: int = 512,
        seed: int = 0,
        fraction: float = 1.0,
        overfit: bool = False,
    ) -> None:
        super().__init__(
            image_size=image_size,
            normalize=normalize,
            classes=classes,
            leave_out=leave_out,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            fraction=fraction,
            overfit=overfit,
        )

    imports = ("sklearn.datasets",)

    def read(self) -> dict[str, Part]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = (digits.images * (255 / 16)).round().astype(np.uint8)  # (N, 8, 8), 0..16 -> 0..255
        return {"train": (torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(digits.target).long())}

    def cut(self, parts: dict[str, Part]) -> dict[str, Part]:
        images, labels = parts["train"]
        split = split_indices(len(images), SHARES, seed=self.seed, labels=labels.numpy())
        return {name: (images[indices], labels[indices]) for name, indices in split._asdict().items()}
