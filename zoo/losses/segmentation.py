"""Losses of a class for each pixel. Pixels of class 255, which nobody knows, do not count.

    cross-entropy    -(1 / n) sum_i log p_i[y_i]                        over the n known pixels of an image
    Dice             1 - (1 / K) sum_k (2 sum_i p_i[k] y_i[k] + 1) / (sum_i p_i[k] + y_i[k] + 1)

The second is one minus the mean over classes of a soft Dice coefficient (Milletari, Navab, Ahmadi, "V-Net", 2016,
section 3, there with squares in the denominator; Sudre et al., "Generalised Dice overlap as a deep learning loss
function", 2017, section 2, without). It counts a class as much whether it has many pixels or few. The ones make it 0,
not undefined, where a class is neither there nor said to be.

Each is a value of one image, and the loss of a batch is the mean over its images: so it is the same however a batch is
spread over processes.

Axes: B batch, K classes, H height, W width
"""

from torch import Tensor
from torch.nn import functional as F

UNKNOWN = 255


def pixel_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Logits (B, K, H, W) and masks (B, H, W) int64 -> (B,); 0 for an image of which nothing is known."""
    losses = F.cross_entropy(logits, masks, ignore_index=UNKNOWN, reduction="none")  # (B, H, W)
    return losses.sum((1, 2)) / (masks != UNKNOWN).sum((1, 2)).clamp(min=1)


def soft_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Logits (B, K, H, W) and masks (B, H, W) int64 -> (B,)."""
    known = (masks != UNKNOWN).unsqueeze(1)  # (B, 1, H, W)
    p = logits.softmax(1) * known
    y = F.one_hot(masks.where(known[:, 0], 0), logits.shape[1]).movedim(3, 1) * known  # (B, K, H, W)
    both, either = (p * y).sum((2, 3)), (p + y).sum((2, 3))  # (B, K) each
    return 1 - ((2 * both + 1) / (either + 1)).mean(1)
