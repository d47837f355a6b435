"""Bars and stripes: small black and white images whose columns, or whose rows, are each all of one colour.

MacKay, "Information theory, inference, and learning algorithms", 2003, exercise 43.3. Of side S there are 2^(S+1) - 2
different ones, and all are as likely, so the greatest log-likelihood that a model can have is -ln(2^(S+1) - 2).

Axes: P patterns, S side
"""

import torch
from torch import Tensor

from zoo.data.images import Images, Part, check_size
from zoo.errors import UserError

LARGEST = 10  # side: 2,046 patterns


def patterns(side: int) -> tuple[Tensor, Tensor]:
    """All patterns, (P, S, S) of 0 and 1, and whether each has stripes (1) or bars (0); plain ones count as bars."""
    lines = torch.arange(2**side).unsqueeze(1) >> torch.arange(side - 1, -1, -1) & 1  # (2^S, S)
    bars = lines.unsqueeze(1).expand(-1, side, -1)  # columns of one colour
    stripes = lines[1:-1].unsqueeze(2).expand(-1, -1, side)  # rows; the plain ones are there already
    labels = torch.cat([torch.zeros(len(bars)), torch.ones(len(stripes))]).long()
    return torch.cat([bars, stripes]), labels


class BarsAndStripes(Images):
    """Images (1, S, S), each pattern so often in the training part, and once in validation and test.

    Args:
        image_size: S, from 2 to 10.
        copies: how often a pattern is in an epoch.
        normalize, batch_size, eval_batch_size, seed, fraction, overfit: see `Images`.
    """

    class_names = ("bars", "stripes")

    def __init__(
        self,
        *,
        image_size: int = 4,
        copies: int = 100,
        normalize: bool = False,
        batch_size: int | str = 100,
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
        if not 2 <= image_size <= LARGEST:
            raise UserError(f"data.image_size={image_size} must be a whole number from 2 to {LARGEST}.")
        check_size("copies", copies, 1)
        self.copies = copies

    def read(self) -> dict[str, Part]:
        found, labels = patterns(self.image_size)
        images = (255 * found).to(torch.uint8).unsqueeze(1)  # (P, 1, S, S)
        many = images.repeat(self.copies, 1, 1, 1), labels.repeat(self.copies)
        return {"train": many, "val": (images, labels), "test": (images, labels)}
