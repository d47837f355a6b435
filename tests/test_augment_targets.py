"""Masks and boxes go where their images go."""

import pytest
import torch

from zoo.augment.images import ImageAugment
from zoo.augment.targets import UNKNOWN, area, move_boxes, move_masks

EXACT = [{"flip": 0.5}, {"vertical_flip": 0.5}, {"shift": 3}, {"flip": 0.5, "vertical_flip": 0.5, "shift": 5}]
RELIT = [{"flip": 0.5, "shift": 4, "brightness": 0.3}]  # there the images are warped, and the masks are not
BENT = [{"rotate": 40}, {"scale": 0.5}, {"translate": 0.3}, {"shear": 25}, {"crop": 0.6, "flip": 0.5, "shift": 3}]
NUMBER, SIZE = 64, 24
INDICES = torch.arange(NUMBER)


def blocks() -> torch.Tensor:
    """(N, H, W) uint8 masks with a rectangle of class 1 and one of class 2 each, all different."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(NUMBER, SIZE, SIZE, dtype=torch.uint8)
    for mask in masks:
        for k in (1, 2):
            top, left, height, width = torch.randint(4, 12, (4,), generator=generator).tolist()
            mask[top : top + height, left : left + width] = k
    return masks


@pytest.mark.parametrize("limits", EXACT + RELIT, ids=str)
def test_whole_pixels_of_masks_move_exactly_as_those_of_images(limits):
    masks, augment = blocks(), ImageAugment(**limits)
    moved = move_masks(augment, masks, INDICES, 3, 7)
    images = augment((masks * 60 + 60).unsqueeze(1), INDICES, 3, 7)[:, 0]  # black is what comes in
    known = moved != UNKNOWN
    assert known.float().mean() > 0.5
    assert not torch.equal(moved, masks)
    if "brightness" in limits:  # each level of a mask is one level of an image, whatever that is
        for mask, image in zip(moved, images, strict=True):
            assert all(len(image[mask == k].unique()) == 1 for k in mask.unique())
    else:
        assert torch.equal(images[known], moved[known] * 60 + 60)
    assert (images[~known] == 0).all()


@pytest.mark.parametrize("limits", BENT, ids=str)
def test_bent_masks_lie_where_bent_images_do(limits):
    masks, augment = blocks(), ImageAugment(**limits)
    moved = move_masks(augment, masks, INDICES, 1, 5)
    for k in (1, 2):  # an image for each class, whose share of a pixel is then its level
        share = augment(((masks == k) * 255).to(torch.uint8).unsqueeze(1), INDICES, 1, 5)[:, 0]
        assert ((share > 132) == (moved == k))[(share > 132) | (share < 80)].all()
    inside = augment(torch.full((NUMBER, 1, SIZE, SIZE), 255, dtype=torch.uint8), INDICES, 1, 5)[:, 0]
    assert (moved[inside < 120] == UNKNOWN).all()
    assert (moved[inside == 255] != UNKNOWN).all()


def test_what_nobody_knows_stays_unknown():
    masks = blocks()
    masks[:, 10:14] = UNKNOWN
    for limits in (EXACT[3], BENT[0]):
        moved = move_masks(ImageAugment(**limits), masks, INDICES, 0, 0)
        assert (moved == UNKNOWN).sum() > 0.7 * (masks == UNKNOWN).sum()
        assert set(moved.unique().tolist()) == {0, 1, 2, UNKNOWN}


def test_light_noise_and_holes_leave_masks_and_boxes_as_they_are():
    augment = ImageAugment(brightness=0.5, contrast=0.5, noise=30, cutout=9)
    masks, boxes = blocks(), torch.tensor([[[2.0, 3, 9, 11]]]).expand(NUMBER, 1, 4)
    assert torch.equal(move_masks(augment, masks, INDICES, 0, 0), masks)
    moved, labels = move_boxes(augment, boxes, torch.ones(NUMBER, 1).long(), (SIZE, SIZE), INDICES, 0, 0)
    assert torch.equal(moved, boxes)
    assert (labels == 1).all()


def box_of(image: torch.Tensor) -> list[int]:
    rows, columns = (torch.nonzero((image > 127).any(axis)).flatten() for axis in (1, 0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


@pytest.mark.parametrize(
    ("limits", "within"),
    [*((limits, 0) for limits in EXACT + RELIT), ({"translate": 0.2}, 1), ({"scale": 0.4}, 1), ({"crop": 0.4}, 1)],
    ids=str,
)
def test_boxes_lie_around_what_was_moved(limits, within):
    """Of an image that is not square, for left is not top."""
    generator = torch.Generator().manual_seed(1)
    first = torch.randint(6, 10, (NUMBER, 2), generator=generator)
    boxes = torch.cat([first, first + torch.randint(4, 8, (NUMBER, 2), generator=generator)], 1)  # (N, 4)
    images = torch.zeros(NUMBER, 1, 24, 30, dtype=torch.uint8)
    for image, (left, top, right, bottom) in zip(images, boxes.tolist(), strict=True):
        image[0, top:bottom, left:right] = 255
    augment = ImageAugment(**limits)
    labels = torch.zeros(NUMBER, 1).long()
    moved, kept = move_boxes(augment, boxes[:, None].float(), labels, (24, 30), INDICES, 2, 9)
    changed = augment(images, INDICES, 2, 9)[:, 0]
    there = [i for i in range(NUMBER) if kept[i, 0] == 0]
    assert len(there) > 0.9 * NUMBER
    found = torch.tensor([box_of(changed[i]) for i in there]).float()
    assert (found - moved[there, 0]).abs().max() <= within
    assert not torch.equal(moved[:, 0], boxes.float())


def test_a_turned_box_holds_what_it_held():
    images, boxes = torch.zeros(NUMBER, 1, 24, 30, dtype=torch.uint8), torch.tensor([[[11.0, 8, 19, 13]]])
    images[:, :, 8:13, 11:19] = 255
    augment = ImageAugment(rotate=90, shear=10)
    moved, _ = move_boxes(augment, boxes.expand(NUMBER, 1, 4), torch.zeros(NUMBER, 1).long(), (24, 30), INDICES, 0, 0)
    for image, (left, top, right, bottom) in zip(
        augment(images, INDICES, 0, 0)[:, 0], moved[:, 0].tolist(), strict=True
    ):
        found = box_of(image)
        assert left - 1 <= found[0]
        assert top - 1 <= found[1]
        assert right + 1 >= found[2]
        assert bottom + 1 >= found[3]
    assert (area(moved) >= 39).all()


def test_a_box_that_has_left_the_image_is_no_longer_there_and_padding_stays_padding():
    boxes = torch.tensor([[[0.0, 0, 4, 4], [8, 8, 16, 16], [0, 0, 0, 0]]]).expand(NUMBER, 3, 4)
    labels = torch.tensor([[1, 2, -1]]).expand(NUMBER, 3)
    moved, kept = move_boxes(ImageAugment(shift=4), boxes, labels, (SIZE, SIZE), INDICES, 0, 0)
    assert (kept[:, 1] == 2).all()
    assert set(kept[:, 0].tolist()) == {1, -1}
    assert (kept[:, 2] == -1).all()
    assert (moved[kept == -1] == 0).all()
    assert (moved[kept == 1] >= 0).all()


def test_an_empty_share_of_a_batch_stays_empty():
    nothing = torch.arange(0)
    assert move_masks(ImageAugment(rotate=9), blocks()[:0], nothing, 0, 0).shape == (0, SIZE, SIZE)
    boxes, labels = move_boxes(ImageAugment(), torch.zeros(0, 3, 4), torch.zeros(0, 3).long(), (9, 9), nothing, 0, 0)
    assert boxes.shape == (0, 3, 4)
    assert labels.shape == (0, 3)
