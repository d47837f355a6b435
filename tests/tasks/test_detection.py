from functools import partial

import pytest
import torch
from torch import nn

from zoo.batches import BoxBatch, MaskBatch
from zoo.data.shapes import Shapes
from zoo.errors import UserError
from zoo.losses.detection import cells_of
from zoo.tasks.detection import Detection

SGD = partial(torch.optim.SGD, lr=0.1)
K, SIZE = 3, (48, 48)


class Knows(nn.Module):
    """Says of each cell what is true of it, whatever the images are."""

    def __init__(self, batch: BoxBatch) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.said = {
            image.sum().item(): answers for image, answers in zip(batch.image, self.answers(batch), strict=True)
        }

    @staticmethod
    def answers(batch: BoxBatch) -> torch.Tensor:
        made = torch.zeros(len(batch.image), 6, 6, 5 + K)
        cell, alone = cells_of(batch.boxes, batch.labels, (6, 6), SIZE)
        for i, m in torch.nonzero(alone).tolist():
            row, column = divmod(int(cell[i, m]), 6)
            left, top, right, bottom = batch.boxes[i, m].tolist()
            x, y, w, h = (
                (left + right) / 16 - column,
                (top + bottom) / 16 - row,
                (right - left) / 48,
                (bottom - top) / 48,
            )
            made[i, row, column, :5] = torch.tensor([x, y, w**0.5, h**0.5, 1.0])
            made[i, row, column, 5 + int(batch.labels[i, m])] = 1.0
        return made

    def forward(self, x):
        return torch.stack([self.said[number] for number in x.sum((1, 2, 3)).tolist()]) * self.scale


@pytest.fixture(scope="module")
def batch() -> BoxBatch:
    data = Shapes(targets="boxes", num_train=24, num_val=1, num_test=1)
    return data.part("train")[torch.arange(24)]


def logged(task, batches, monkeypatch, stage="test"):
    values = {}
    monkeypatch.setattr(task, "log_dict", lambda given, **options: values.update(given))
    task.start(stage)
    for some in batches:
        task.evaluate(stage, some)
    task.finish(stage)
    return {name.removeprefix(f"{stage}/"): float(value) for name, value in values.items()}


def test_who_knows_the_truth_finds_every_shape_that_has_a_cell_for_itself(batch, monkeypatch):
    task = Detection(Knows(batch), SGD, num_classes=K, class_names=["circle", "square", "triangle"])
    figures = logged(task, [batch], monkeypatch)
    alone = cells_of(batch.boxes, batch.labels, (6, 6), SIZE)[1]
    share = alone.sum().item() / (batch.labels >= 0).sum().item()
    assert figures["loss"] == pytest.approx(0, abs=1e-5)
    assert share > 0.9
    assert figures["map50"] == pytest.approx(share, abs=0.1)
    assert figures["map50"] == pytest.approx(sum(figures[f"ap50_{name}"] for name in task.class_names) / K)
    pieces = [BoxBatch(*(tensor[part] for tensor in batch)) for part in (slice(0, 5), slice(5, 24))]
    assert logged(task, pieces, monkeypatch) == pytest.approx(figures, abs=1e-6)
    assert "ap50_circle" not in logged(task, [batch], monkeypatch, "val")


def test_the_loss_is_the_sum_of_what_is_watched_beside_it(batch):
    task = Detection(Knows(batch), SGD, num_classes=K)
    task.model.scale.data.fill_(0.7)
    losses = task.losses(batch)
    assert losses["loss"].item() == pytest.approx(sum(losses[name].item() for name in losses if name != "loss"))
    assert all(losses[name] > 0 for name in ("place", "sure", "classes"))


def test_the_classes_of_boxes_are_read_from_the_model(batch):
    found = Detection(Knows(batch), SGD, num_classes=K).found(Knows.answers(batch), SIZE)
    for one, boxes, labels in zip(found, batch.boxes, batch.labels, strict=True):
        for box, label in zip(one.boxes, one.labels, strict=True):
            place = (boxes - box).abs().sum(1).argmin()
            assert (boxes[place] - box).abs().max() < 1e-3
            assert labels[place] == label


def test_pictures_show_the_truth_and_what_is_found(batch):
    assert set(Detection(Knows(batch), SGD, num_classes=K).show(batch)) == {"boxes"}


def test_what_does_not_fit_is_one_line(batch):
    with pytest.raises(UserError, match=r"task\.least=1\.5 must be a number between 0 and 1"):
        Detection(Knows(batch), SGD, num_classes=K, least=1.5)
    with pytest.raises(UserError, match="is for a BoxBatch, and the data gives a MaskBatch"):
        Detection.check_kind(MaskBatch(torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8)))
