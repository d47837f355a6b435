"""Masks and boxes that move along with their images, by the same random numbers; see `zoo.augment.images`.

What happens to light alone leaves them as they are, and so does a cutout: what it hides is to be guessed.

Axes: B batch, H height, W width, M boxes of an image, K classes in a batch
"""

import torch
from torch import Tensor

from zoo.augment.draws import Draws
from zoo.augment.images import FLIP, VERTICAL_FLIP, ImageAugment, mirror
from zoo.augment.warp import sources, warp

UNKNOWN = 255  # of a mask: what comes in from outside
SEEN = 0.3  # least share of a box that must be left in the image


def flips(augment: ImageAugment, draws: Draws) -> list[tuple[Tensor, int]]:
    """Which images are mirrored, (B,) bool, along which axis."""
    both = ((augment.flip, FLIP, -1), (augment.vertical_flip, VERTICAL_FLIP, -2))
    return [(draws.uniform(number) < share, axis) for share, number, axis in both if share]


def move_masks(augment: ImageAugment, masks: Tensor, indices: Tensor, epoch: int, seed: int) -> Tensor:
    """Where the pixels of the images went, their classes go: (B, H, W) uint8 -> (B, H, W) uint8.

    Between pixels the class with the largest share wins; what comes in from outside is `UNKNOWN`.
    """
    if not len(masks):
        return masks
    draws = Draws(indices, epoch, seed)
    known = (masks + 1).unsqueeze(1)  # (B, 1, H, W); 255 becomes 0, and 0 is what comes in
    for chosen, axis in flips(augment, draws):
        known = mirror(known, chosen, axis)
    if augment.shear or augment.scale or augment.rotate or augment.translate or augment.crop:
        classes = known[known > 0].unique()  # (K,)
        shares = warp((known == classes.view(-1, 1, 1)).float(), sources(augment.view(draws, *masks.shape[1:])))
        outside = 1 - shares.sum(1, keepdim=True)  # (B, 1, H, W)
        best = torch.cat([outside, shares], 1).argmax(1, keepdim=True)  # (B, 1, H, W)
        known = torch.cat([classes.new_zeros(1), classes])[best]
    elif augment.shift:
        known = augment._move(known, draws)
    return known.squeeze(1) - 1


def move_boxes(
    augment: ImageAugment, boxes: Tensor, labels: Tensor, size: tuple[int, int], indices: Tensor, epoch: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Boxes (B, M, 4) and labels (B, M) go where their images of `size` (H, W) went.

    A box that was turned or sheared becomes the upright one around it. One of which less than `SEEN` is left in the
    image is no longer there.
    """
    if not len(boxes):
        return boxes, labels
    height, width = size
    draws = Draws(indices, epoch, seed)
    ends = boxes.double().view(*labels.shape, 2, 2) - torch.tensor([width, height]) / 2  # (B, M, 2, 2) from the centre
    for chosen, axis in flips(augment, draws):
        place = -1 - axis  # x for the last axis of an image, y for the one before
        turned = ends.clone()
        turned[..., place] = -ends[..., place].flip(-1)
        ends = torch.where(chosen.view(-1, 1, 1, 1), turned, ends)
    # `sources` says where a pixel came from: x a + y b + c. A corner goes the other way.
    places = sources(augment.view(draws, height, width))  # (B, 3, 2)
    back, start = places[:, :2].inverse(), places[:, 2]  # (B, 2, 2), (B, 2)
    (left, top), (right, bottom) = ends[:, :, 0].unbind(-1), ends[:, :, 1].unbind(-1)  # (B, M) each
    corners = torch.stack([left, top, right, top, left, bottom, right, bottom], -1).view(*labels.shape, 4, 2)
    corners = (corners - start[:, None, None]) @ back[:, None]  # (B, M, 4, 2)
    whole = torch.cat([corners.amin(2), corners.amax(2)], -1) + torch.tensor([width, height, width, height]) / 2
    seen = whole.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
    kept = (labels >= 0) & (area(seen) >= SEEN * area(whole))  # (B, M)
    return torch.where(kept[..., None], seen, 0.0).to(boxes.dtype), labels.where(kept, -1)


def area(boxes: Tensor) -> Tensor:
    """(..., 4) -> (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
