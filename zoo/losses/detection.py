"""What a network says of boxes on a grid, and the loss of YOLO.

The image is cut into G x G cells. Of each cell a network says P boxes of five numbers and the chances of K classes, all
from 0 to 1 (Redmon, Divvala, Girshick, Farhadi, "You only look once", 2016, arXiv 1506.02640, section 2):

    x, y      the box's centre within the cell          w, h    the square roots of its sides as shares of the image
    c         how sure it is that a box is there, and how well it fits

The cell that the centre of a true box lies in is responsible for it, and of its P boxes the one with the largest IoU.
With hats on the truth, sums over true boxes b and the box of the network that is responsible for each (equation 3):

    5 sum_b (x - ^x)^2 + (y - ^y)^2 + (w - ^w)^2 + (h - ^h)^2  +  sum_b (c - IoU)^2  +  sum_b sum_k (p_k - ^p_k)^2
    + 0.5 sum of c^2 over all boxes that are responsible for none

Axes: B batch, G cells along a side, P boxes of a cell, K classes, M true boxes of an image
"""

import torch
from torch import Tensor

PLACE, EMPTY = 5.0, 0.5  # the paper's weights of coordinates and of boxes that are responsible for nothing


def boxes_of(answers: Tensor, num_classes: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """What a network says of all cells, in pixels of images of `size` (H, W).

    Args:
        answers: (B, G, G, 5 P + K) in [0, 1], rows of cells first.

    Returns:
        boxes (B, G, G, P, 4) left, top, right, bottom; how sure it is of each (B, G, G, P); chances (B, G, G, K).
    """
    height, width = size
    rows, columns = answers.shape[1:3]
    numbers = answers[..., :-num_classes].unflatten(-1, (-1, 5))  # (B, G, G, P, 5)
    x, y, root_w, root_h, sure = numbers.unbind(-1)
    column = torch.arange(columns, device=answers.device).view(-1, 1)
    row = torch.arange(rows, device=answers.device).view(-1, 1, 1)
    x, y = (x + column) * (width / columns), (y + row) * (height / rows)
    w, h = root_w.square() * width / 2, root_h.square() * height / 2
    return torch.stack([x - w, y - h, x + w, y + h], -1), sure, answers[..., -num_classes:]


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Boxes (..., 4) and (..., 4), each with its own partner -> (...)."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    both = (high - low).clamp(min=0).prod(-1)
    areas = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return both / (areas - both).clamp(min=1e-9)


def cells_of(boxes: Tensor, labels: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The cell in which each true box has its centre, and whether it has that cell for itself.

    Where two centres lie in one cell, the box that comes later, and hides the other, has it.

    Args:
        boxes, labels: (B, M, 4) and (B, M), -1 where padded.
        grid: rows and columns.

    Returns:
        (B, M) int64, counted along the rows, and (B, M) bool.
    """
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2  # (B, M, 2), x and y
    column = (centre[..., 0] * grid[1] / size[1]).long().clamp(0, grid[1] - 1)
    row = (centre[..., 1] * grid[0] / size[0]).long().clamp(0, grid[0] - 1)
    cell, there = row * grid[1] + column, labels >= 0
    later = torch.ones(cell.shape[1], cell.shape[1], dtype=torch.bool, device=cell.device).triu(1)
    taken = ((cell.unsqueeze(2) == cell.unsqueeze(1)) & there.unsqueeze(1) & later).any(2)  # (B, M)
    return cell, there & ~taken


def yolo_loss(
    answers: Tensor, boxes: Tensor, labels: Tensor, num_classes: int, size: tuple[int, int]
) -> dict[str, Tensor]:
    """The parts of the loss, (B,) each: place, sure, empty, classes. Their sum is what is minimized.

    Args:
        answers: (B, G, G, 5 P + K) in [0, 1].
        boxes, labels: (B, M, 4) in pixels and (B, M), -1 where padded.
        size: (H, W) of the images.
    """
    height, width = size
    grid = (answers.shape[1], answers.shape[2])
    cell, alone = cells_of(boxes, labels, grid, size)  # (B, M)
    said, sure, chances = (x.flatten(1, 2) for x in boxes_of(answers, num_classes, size))  # (B, G G, ...)
    row = torch.arange(len(cell), device=cell.device).unsqueeze(1)  # (B, 1)
    with torch.no_grad():
        overlap = paired_iou(said[row, cell], boxes.unsqueeze(2))  # (B, M, P)
        fit, best = overlap.max(2)  # (B, M)
    numbers = answers[..., :-num_classes].unflatten(-1, (-1, 5)).flatten(1, 2)  # (B, G G, P, 5)
    numbers = numbers[row, cell, best]  # (B, M, 5)
    scale = torch.tensor([grid[1] / width, grid[0] / height], device=boxes.device)
    within = (boxes[..., :2] + boxes[..., 2:]) / 2 * scale  # (B, M, 2), in cells
    within = within - torch.stack([cell % grid[1], cell // grid[1]], -1)
    sides = (boxes[..., 2:] - boxes[..., :2]) / torch.tensor([width, height], device=boxes.device)
    right = torch.cat([within, sides.clamp(min=0).sqrt()], -1)  # (B, M, 4)
    kinds = torch.nn.functional.one_hot(labels.clamp(min=0), num_classes).to(answers.dtype)  # (B, M, K)
    own = sure[row, cell, best]  # (B, M)
    return {
        "place": PLACE * ((numbers[..., :4] - right).square().sum(-1) * alone).sum(1),
        "sure": ((own - fit).square() * alone).sum(1),
        "empty": EMPTY * (sure.square().sum((1, 2)) - (own.square() * alone).sum(1)),
        "classes": ((chances[row, cell] - kinds).square().sum(-1) * alone).sum(1),
    }
