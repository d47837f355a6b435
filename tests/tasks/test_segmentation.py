from functools import partial

import pytest
import torch
from torch import nn

from zoo.batches import ImageBatch, MaskBatch
from zoo.errors import UserError
from zoo.losses.segmentation import pixel_cross_entropy, soft_dice
from zoo.metrics.overlaps import overlap_metrics, pixel_confusion
from zoo.tasks.segmentation import Segmentation

SGD = partial(torch.optim.SGD, lr=0.1)
K = 3


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(2, K, 3, padding=1)


def batch_of(number: int, seed: int = 0) -> MaskBatch:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randint(K, (number, 7, 6), generator=generator)
    masks[0, :3] = 255
    return MaskBatch(torch.randn(number, 2, 7, 6, generator=generator), masks)


def logged(task, batches, monkeypatch, stage="test"):
    found = {}
    monkeypatch.setattr(task, "log_dict", lambda values, **options: found.update(values))
    task.start(stage)
    for batch in batches:
        task.evaluate(stage, batch)
    task.finish(stage)
    return {name.removeprefix(f"{stage}/"): float(value) for name, value in found.items()}


def test_the_metrics_are_those_of_all_pixels_however_they_are_batched(monkeypatch):
    task, whole = Segmentation(network(), SGD, num_classes=K, class_names=["sky", "sea", "land"]), batch_of(6)
    pieces = [MaskBatch(*(tensor[part] for tensor in whole)) for part in (slice(0, 1), slice(1, 6))]
    found = logged(task, [whole], monkeypatch)
    assert logged(task, pieces, monkeypatch) == pytest.approx(found)
    with torch.no_grad():
        confusion = pixel_confusion(task.model(whole.image).argmax(1), whole.mask, K)
    expected = overlap_metrics(confusion)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    each = [found[f"iou_{name}"] for name in ("sky", "sea", "land")]
    assert sum(each) / K == pytest.approx(found["mean_iou"])
    assert not [name for name in logged(task, [whole], monkeypatch, "val") if name.startswith("iou_")]


def test_a_new_pass_forgets_the_one_before(monkeypatch):
    task = Segmentation(network(), SGD, num_classes=K)
    first = logged(task, [batch_of(4)], monkeypatch)
    assert logged(task, [batch_of(4, seed=1)], monkeypatch) != first
    assert logged(task, [batch_of(4)], monkeypatch) == first


def test_losses_are_means_over_images_and_add_up():
    batch = batch_of(4)
    model = network()
    logits = model(*batch.inputs)
    cross_entropy, overlap = pixel_cross_entropy(logits, batch.mask).mean(), soft_dice(logits, batch.mask).mean()
    both = Segmentation(model, SGD, num_classes=K, dice_weight=2.0).losses(batch)
    assert both["loss"].item() == pytest.approx((cross_entropy + 2 * overlap).item())
    assert both["dice_loss"].item() == pytest.approx(overlap.item())
    assert Segmentation(model, SGD, num_classes=K, loss="dice").losses(batch).keys() == {"loss"}


def test_what_does_not_fit_is_one_line():
    with pytest.raises(UserError, match="did you mean"):
        Segmentation(network(), SGD, num_classes=K, loss="dise")
    with pytest.raises(UserError, match="beside the cross-entropy"):
        Segmentation(network(), SGD, num_classes=K, loss="dice", dice_weight=1.0)
    with pytest.raises(UserError, match="is for a MaskBatch, and the data gives a ImageBatch"):
        Segmentation.check_kind(ImageBatch(torch.zeros(1, 2, 3, 3), torch.zeros(1)))


def test_pictures_show_some_images_with_truth_and_answer():
    task = Segmentation(network(), SGD, num_classes=K)
    assert set(task.show(batch_of(12))) == {"masks"}
