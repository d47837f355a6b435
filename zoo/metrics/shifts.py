"""What a shift of its input changes in what a function says of an image."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class ShiftEffect(NamedTuple):
    """What a shift of the images does to a function of them.

    change: mean |f(shifted) - f(x)| over mean |f(x)|, 0 for a function that does not see the shift at all.
    unchanged: share of the images whose largest output is the same one as before, 1 for such a function.
    """

    change: float
    unchanged: float


@torch.no_grad()
def translation_invariance(function: Callable[[Tensor], Tensor], images: Tensor, *, shift: int = 1) -> ShiftEffect:
    """How far a function of images is from being the same after a shift, as a mean over the four directions.

    Args:
        function: (B, C, H, W) -> (B, ...), a network in evaluation mode or the first layers of one.
        images: (B, C, H, W); those pixels that come in repeat the image's edge.
        shift: by how many pixels.
    """
    height, width = images.shape[2:]
    padded = F.pad(images, (shift,) * 4, mode="replicate")  # (B, C, H + 2 shift, W + 2 shift)
    before = function(images).flatten(1)  # (B, D)
    changes, same = [], []
    for top, left in ((0, shift), (2 * shift, shift), (shift, 0), (shift, 2 * shift)):
        after = function(padded[:, :, top : top + height, left : left + width]).flatten(1)  # (B, D)
        changes.append((after - before).norm(dim=1).mean())
        same.append((after.argmax(1) == before.argmax(1)).float().mean())
    change = torch.stack(changes).mean() / before.norm(dim=1).mean()
    return ShiftEffect(float(change), float(torch.stack(same).mean()))
