import math

import pytest
import torch

from zoo.metrics.boxes import AveragePrecision, Found, area_below, judged, suppress

BOXES = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40], [-5, -5, 5, 5]])


def found(*rows: tuple[list[float], float, int]) -> Found:
    boxes, scores, labels = zip(*rows, strict=True)
    return Found(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels))


def test_of_boxes_of_a_class_that_overlap_the_surest_is_kept_cut_to_the_image():
    scores = torch.tensor([[0.6, 0.0], [0.9, 0.3], [0.01, 0.2], [0.0, 0.8]])
    kept = suppress(BOXES, scores, (36, 50), least=0.1, overlap=0.5)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.8, 0.3, 0.2])
    assert kept.labels.tolist() == [0, 1, 1, 1]
    assert kept.boxes.tolist() == [[1, 0, 11, 10], [0, 0, 5, 5], [1, 0, 11, 10], [30, 30, 40, 36]]
    assert len(suppress(BOXES, scores, (36, 50), least=0.1, overlap=0.95).scores) == 5
    assert len(suppress(BOXES, scores * 0, (36, 50), least=0.1, overlap=0.5).scores) == 0


def test_a_thing_is_found_once_and_only_by_a_box_of_its_class():
    truth, labels = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), torch.tensor([0, 1])
    said = found(
        ([0, 0, 10, 10], 0.5, 0),  # a surer one has found it
        ([1, 0, 11, 10], 0.9, 0),
        ([20, 20, 30, 30], 0.8, 0),  # another class
        ([20, 20, 30, 27], 0.7, 1),
        ([26, 20, 36, 30], 0.6, 1),  # an IoU of a quarter
    )
    assert judged(said, truth, labels, 0.5).tolist() == [False, True, False, True, False]
    assert judged(said, truth[:0], labels[:0], 0.5).tolist() == [False] * 5


def test_the_average_precision_by_hand():
    """Right, wrong, right: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1; made to fall 1, 2/3, 2/3."""
    scores, right = torch.tensor([0.7, 0.9, 0.8]), torch.tensor([True, True, False])
    assert area_below(scores, right, 2) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert area_below(scores, right, 4) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert area_below(scores[:0], right[:0], 3) == 0


def drawn(number: int) -> tuple[list[Found], torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(number, 3, 2, generator=generator) * 20
    boxes = torch.cat([boxes, boxes + 8], 2)
    labels = torch.randint(-1, 2, (number, 3), generator=generator)
    said = []
    for box, label in zip(boxes, labels, strict=True):
        moved = torch.cat([box, box]) + 2 * torch.randn(6, 1, generator=generator)
        said.append(Found(moved, torch.rand(6, generator=generator), torch.cat([label, label]).clamp(min=0)))
    return said, boxes, labels


def test_the_metric_is_the_same_however_the_images_are_batched():
    said, boxes, labels = drawn(20)
    whole, pieces = AveragePrecision(3), AveragePrecision(3)
    whole.update(said, boxes, labels)
    for part in (slice(0, 3), slice(3, 20)):
        pieces.update(said[part], boxes[part], labels[part])
    assert torch.equal(whole.compute().nan_to_num(9), pieces.compute().nan_to_num(9))
    areas = whole.compute().tolist()
    assert 0.05 < areas[0] < 0.95
    assert math.isnan(areas[2]), "a class that is nowhere has none"
    whole.reset()
    whole.update([], boxes[:0], labels[:0])
    assert torch.isnan(whole.compute()).all()


def test_finding_everything_is_one_and_what_is_found_beside_lowers_it_only_where_it_is_surer():
    boxes, labels = torch.tensor([[[0.0, 0, 9, 9], [20, 20, 30, 30]]]), torch.tensor([[0, 0]])
    right = [([0.0, 0, 9, 9], 0.9, 0), ([20.0, 20, 30, 30], 0.5, 0)]
    for wrong, expected in ((0.1, 1.0), (0.7, 0.5 + 0.5 * 2 / 3), (0.95, 2 / 3)):
        metric = AveragePrecision(1)
        metric.update([found(*right, ([40.0, 40, 50, 50], wrong, 0))], boxes, labels)
        assert float(metric.compute()) == pytest.approx(expected)
