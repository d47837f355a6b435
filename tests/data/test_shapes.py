"""Images of shapes: masks and boxes say what is to be seen, and colours do not."""

import pytest
import torch

from zoo.augment.images import ImageAugment
from zoo.batches import BoxBatch, MaskBatch
from zoo.data.drawing import SHAPES
from zoo.data.shapes import LEAST_SEEN, Shapes, boxes_around, seen
from zoo.errors import UserError

SMALL = {"num_train": 120, "num_val": 20, "num_test": 30}


def test_a_mask_has_the_pixels_of_its_shapes_each_in_one_of_them():
    scenes = Shapes(**SMALL).made("train")
    covered = scenes.instances.sum(1)
    assert int(covered.max()) == 1  # what is hidden belongs to the shape that hides it
    assert torch.equal(scenes.masks > 0, covered > 0)
    for kind in range(len(SHAPES)):
        of_kind = (scenes.instances & (scenes.labels == kind)[..., None, None]).any(1)
        assert torch.equal(scenes.masks == 1 + kind, of_kind)
    assert set(scenes.labels.unique().tolist()) == {-1, 0, 1, 2}
    assert (scenes.labels >= 0).any(1).all(), "no image is empty"


def test_boxes_lie_tight_around_what_is_seen():
    scenes = Shapes(**SMALL).made("val")
    for boxes, labels, instances in zip(scenes.boxes.long(), scenes.labels, scenes.instances, strict=True):
        for (left, top, right, bottom), label, instance in zip(boxes.tolist(), labels.tolist(), instances, strict=True):
            assert (label >= 0) == bool(instance.any())
            if label < 0:
                assert (left, top, right, bottom) == (0, 0, 0, 0)
                continue
            inside = instance[top:bottom, left:right]
            assert inside.sum() == instance.sum()
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_a_shape_that_is_mostly_hidden_is_left_out():
    covered = torch.zeros(1, 3, 8, 8, dtype=torch.bool)
    covered[0, 0, :4, :4] = covered[0, 1, :4, 1:5] = covered[0, 2, 6:, 6:] = True
    left = seen(covered, torch.tensor([[True, True, True]]))
    assert LEAST_SEEN > 0.25
    assert left.sum((2, 3)).tolist() == [[0, 16, 4]]  # a quarter of the first was left
    assert seen(covered, torch.tensor([[True, False, True]])).sum((2, 3)).tolist() == [[16, 0, 4]]


def test_the_box_of_a_mask_by_hand():
    mask = torch.zeros(2, 5, 6, dtype=torch.bool)
    mask[0, 1:4, 2] = mask[0, 3, 2:6] = True
    assert boxes_around(mask).tolist() == [[2, 1, 6, 4], [0, 0, 0, 0]]


def test_the_colour_of_a_shape_says_nothing_of_its_kind():
    """The mean colour of a kind is that of the others, within what so many draws vary by."""
    scenes = Shapes(num_train=600, num_val=1, num_test=1).made("train")
    means = []
    for kind in (1, 2, 3):
        pixels = scenes.images.movedim(1, 3)[scenes.masks == kind].float()
        means.append(pixels.mean(0))
    spread = torch.stack(means).amax(0) - torch.stack(means).amin(0)
    assert spread.max() < 25


def test_parts_differ_and_come_again_by_the_seed_whatever_the_size_of_the_others():
    small, large = Shapes(**SMALL), Shapes(**SMALL | {"num_train": 7})
    assert torch.equal(small.made("val").images, large.made("val").images)
    assert not torch.equal(small.made("train").images[:20], small.made("val").images)
    assert not torch.equal(small.made("val").images, Shapes(seed=1, **SMALL).made("val").images)
    assert small.prepare().fingerprint == Shapes(**SMALL).prepare().fingerprint


@pytest.mark.parametrize(("targets", "kind"), [("masks", MaskBatch), ("boxes", BoxBatch)])
def test_batches_are_of_the_kind_that_is_asked_for(targets, kind):
    data = Shapes(targets=targets, **SMALL)
    batch = next(iter(data.train_dataloader()))
    assert isinstance(batch, kind)
    assert batch.image.shape == (32, 3, 48, 48)
    assert abs(float(batch.image.mean())) < 0.2
    taken = Shapes(targets=targets, fraction=0.1, **SMALL).part("train")
    assert len(taken) == 12
    assert isinstance(taken[torch.arange(3)], kind)


@pytest.mark.parametrize("targets", ["masks", "boxes"])
def test_targets_move_along_with_augmented_images(targets):
    """All images are blank but for their shapes; so where a shape is seen, there its target must be."""
    data = Shapes(targets=targets, noise=0, most=1, **SMALL)
    part = data.part("train")
    white = torch.where(data.made("train").masks[:, None] > 0, 255, 0).to(torch.uint8).expand(-1, 3, -1, -1)
    part.tensors = (white, *part.tensors[1:])
    data.augment = ImageAugment(flip=0.5, vertical_flip=0.5, shift=6)
    assert data.suits(data.augment)
    plain = part[torch.arange(120)].image
    loader = data.train_dataloader()
    assert not torch.equal(loader.dataset[torch.arange(120), 0].image, plain)
    for batch in loader:
        there = batch.image[:, 0] > 0  # normalized: white is above the mean
        if targets == "masks":
            known = batch.mask != 255
            assert torch.equal((batch.mask > 0) & known, there & known)
            assert not there[~known].any()
        else:
            boxes = batch.boxes[:, 0]
            whole = ((boxes > 0) & (boxes < 48)).all(1)  # what is cut off may be narrower than its box was
            assert torch.equal(boxes[whole], boxes_around(there[whole]))
            assert whole.float().mean() > 0.6


@pytest.mark.parametrize(
    "wrong", [{"targets": "circles"}, {"num_train": 0}, {"image_size": 4}, {"most": 0}, {"noise": -1.0}]
)
def test_what_makes_no_data_is_one_line(wrong):
    with pytest.raises(UserError, match=rf"data\.{next(iter(wrong))}"):
        Shapes(**SMALL | wrong)


def test_an_augmentation_of_ones_own_is_refused_for_it_would_leave_the_masks_behind():
    data = Shapes(**SMALL)
    data.augment = lambda images, indices, epoch, seed: images.flip(-1)
    with pytest.raises(UserError, match="masks or boxes would stay where they are"):
        next(iter(data.train_dataloader()))
