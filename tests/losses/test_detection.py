import pytest
import torch

from zoo.losses.detection import boxes_of, cells_of, paired_iou, yolo_loss

K, P, SIZE = 3, 2, (24, 32)  # cells of 8 pixels: 3 rows, 4 columns


def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Answers to five images, and 0 to 4 true boxes of each."""
    generator = torch.Generator().manual_seed(0)
    answers = torch.rand(5, 3, 4, 5 * P + K, generator=generator, dtype=torch.float64)
    first = torch.rand(5, 4, 2, generator=generator, dtype=torch.float64) * 16
    boxes = torch.cat([first, first + 2 + 6 * torch.rand(5, 4, 2, generator=generator)], 2)
    labels = torch.randint(K, (5, 4), generator=generator)
    for i in range(5):
        labels[i, i:], boxes[i, i:] = -1, 0
    return answers, boxes, labels


def test_boxes_that_share_a_quarter_have_an_iou_of_a_seventh():
    a, b = torch.tensor([0.0, 0, 2, 2]), torch.tensor([1.0, 1, 3, 3])
    assert paired_iou(a, b).item() == pytest.approx(1 / 7)
    assert paired_iou(a, a + 5).item() == 0
    assert paired_iou(a, a).item() == pytest.approx(1)
    assert paired_iou(torch.zeros(4), torch.zeros(4)).item() == 0  # padding


def test_five_numbers_are_a_box_by_hand():
    """In row 1, column 2 of cells of 8 pixels: the middle at 2.5 and 1.25; 1/4 of 32 wide, 0.09 of 24 high."""
    answers = torch.zeros(1, 3, 4, 5 + K)
    answers[0, 1, 2] = torch.tensor([0.5, 0.25, 0.5, 0.3, 0.7, 0.1, 0.2, 0.6])
    boxes, sure, chances = boxes_of(answers, K, SIZE)
    assert boxes[0, 1, 2, 0].tolist() == pytest.approx([20 - 4, 10 - 1.08, 20 + 4, 10 + 1.08])
    assert sure[0, 1, 2].tolist() == pytest.approx([0.7])
    assert chances[0, 1, 2].tolist() == pytest.approx([0.1, 0.2, 0.6])


def test_the_box_in_front_has_a_cell_for_itself_and_padding_has_none():
    boxes = torch.tensor([[[0.0, 0, 6, 6], [1, 1, 6, 6], [9, 0, 15, 6], [0, 0, 0, 0]]])
    cell, alone = cells_of(boxes, torch.tensor([[0, 1, 2, -1]]), (3, 4), SIZE)
    assert cell[0, :3].tolist() == [0, 0, 1]
    assert alone.tolist() == [[False, True, True, False]]
    edge = torch.tensor([[[31.0, 23, 33, 25]]])  # its centre is the image's last corner
    assert cells_of(edge, torch.tensor([[0]]), (3, 4), SIZE)[0].tolist() == [[11]]


def by_the_paper(answers, boxes, labels) -> float:
    """Equation 3, cell by cell and box by box."""
    total, owners = 0.0, {}
    for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
        if label >= 0:
            x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            owners[int(y // 8), int(x // 8)] = (box, label, x / 8 % 1, y / 8 % 1)
    for row in range(3):
        for column in range(4):
            numbers = answers[row, column].tolist()
            predictors = [numbers[5 * p : 5 * p + 5] for p in range(P)]
            if (row, column) not in owners:
                total += 0.5 * sum(c**2 for *_, c in predictors)
                continue
            box, label, x, y = owners[row, column]
            ious = []
            for px, py, pw, ph, _ in predictors:
                cx, cy, w, h = 8 * (column + px), 8 * (row + py), 32 * pw**2, 24 * ph**2
                said = torch.tensor([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dtype=torch.float64)
                ious.append(float(paired_iou(said, torch.tensor(box, dtype=torch.float64))))
            best = max(range(P), key=lambda p: ious[p])
            px, py, pw, ph, c = predictors[best]
            w, h = ((box[2] - box[0]) / 32) ** 0.5, ((box[3] - box[1]) / 24) ** 0.5
            total += 5 * ((px - x) ** 2 + (py - y) ** 2 + (pw - w) ** 2 + (ph - h) ** 2) + (c - ious[best]) ** 2
            total += 0.5 * sum(predictors[p][4] ** 2 for p in range(P) if p != best)
            total += sum((numbers[5 * P + k] - (k == label)) ** 2 for k in range(K))
    return total


def test_the_loss_is_the_equation_of_the_paper():
    answers, boxes, labels = drawn()
    found = torch.stack(list(yolo_loss(answers, boxes, labels, K, SIZE).values())).sum(0)
    expected = [by_the_paper(*one) for one in zip(answers, boxes, labels, strict=True)]
    assert found.tolist() == pytest.approx(expected)


def test_a_perfect_answer_costs_nothing():
    answers = torch.zeros(1, 3, 4, 5 * P + K)
    answers[0, 1, 2, :5] = torch.tensor([0.5, 0.25, 0.5, 0.3, 1.0])
    answers[0, 1, 2, 5 * P + 1] = 1
    box = boxes_of(answers, K, SIZE)[0][0, 1, 2, :1]
    parts = yolo_loss(answers, box[None], torch.tensor([[1]]), K, SIZE)
    assert all(value.item() == pytest.approx(0, abs=1e-9) for value in parts.values())


def test_the_fit_is_a_target_that_no_gradient_changes():
    answers, boxes, labels = drawn()
    answers.requires_grad_()
    yolo_loss(answers, boxes, labels, K, SIZE)["sure"].sum().backward()
    assert answers.grad[..., [4, 9]].abs().sum() > 0
    answers.grad[..., [4, 9]] = 0
    assert answers.grad.abs().sum() == 0
