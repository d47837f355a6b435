"""Counts are torchmetrics' own, and take no more memory where torch is to be deterministic."""

import pytest
import torch
from torch.nn.functional import one_hot
from torchmetrics.classification import MulticlassConfusionMatrix, PrecisionRecallCurve

from zoo.metrics.counts import PixelCounts, RankCounts


@pytest.fixture(params=[False, True], ids=["any algorithms", "deterministic"])
def algorithms(request):
    torch.use_deterministic_algorithms(request.param)
    yield
    torch.use_deterministic_algorithms(False)


def draw(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.usefixtures("algorithms")
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("thresholds", [2, 11, 51])
def test_ranks_are_counted_as_torchmetrics_does(kind, thresholds, dtype):
    classes = 1 if kind == "binary" else 4
    sizes = {"multiclass": {"num_classes": 4}, "multilabel": {"num_labels": 4}}.get(kind, {})
    ours, theirs = RankCounts(classes, thresholds), PrecisionRecallCurve(kind, thresholds=thresholds, **sizes)
    chances = draw(60, classes)
    chances[:12] = torch.tensor([0.0, 1.0, 0.5, 0.1] * 3)[:, None]  # on a threshold, at both ends, too
    chances[12:20] = ours.thresholds[: 8 // 4].repeat(4)[:, None]
    chances = chances.to(dtype)
    labels = (draw(60, classes).argmax(1) if kind == "multiclass" else (draw(60, classes) < 0.4).long()).squeeze(-1)
    for some in (slice(0, 25), slice(25, 60), slice(60, 60)):
        there = one_hot(labels[some], 4) if kind == "multiclass" else labels[some].reshape(-1, classes)
        ours.update(chances[some], there.bool())
        if len(labels[some]):
            theirs.update(chances[some].squeeze(1) if kind == "binary" else chances[some], labels[some])
    assert torch.equal(ours.confmat, theirs.confmat.reshape(ours.confmat.shape))


@pytest.mark.usefixtures("algorithms")
def test_pixels_are_counted_as_torchmetrics_does():
    ours, theirs = PixelCounts(3, 255), MulticlassConfusionMatrix(3, ignore_index=255)
    said, true = (3 * draw(2, 4, 8, 8)).long()
    true[:, :2] = 255
    for metric in (ours, theirs):
        metric.update(said, true)
    assert torch.equal(ours.compute(), theirs.compute())
    assert ours.compute().sum() == 4 * 6 * 8


def test_a_deterministic_run_counts_a_large_part_in_little_memory():
    """Compared bin by bin it would take 80 GB and 50 GB."""
    torch.use_deterministic_algorithms(True)
    try:
        chances = draw(10_000, 10).softmax(1)
        ranks = RankCounts(10, 51)
        ranks.update(chances, one_hot(chances.argmax(1), 10).bool())
        assert ranks.compute()[:, :, 1].sum() == 51 * 10_000
        pixels = PixelCounts(20, 255)
        masks = (20 * draw(64, 500, 500)).long()
        pixels.update(masks, masks)
        assert pixels.compute().trace() == masks.numel()
    finally:
        torch.use_deterministic_algorithms(False)
