"""What augmentation makes of training images, as a picture: the same samples in one epoch after another."""

from typing import Any

import torch

from zoo.pictures.images import versions


def augmented(data: Any, *, rows: int = 8, epochs: int = 7) -> Any:
    """A figure of `rows` training images, each as it is and as the first epochs see it; None where there is none.

    Args:
        data: a data module; its training part lies in memory as it is, or is read from files here.
    """
    part = data.part("train")
    if data.augment is None or not hasattr(part, "rows"):
        return None
    indices = torch.linspace(0, len(part) - 1, min(rows, len(part))).long()  # the first may all be of one class
    images = part.rows(indices)[0]
    if images.ndim != 4 or images.dtype != torch.uint8:
        return None
    columns = {"as it is": images}
    for epoch in range(epochs):
        columns[f"epoch {epoch + 1}"] = data.augment(images, indices, epoch, data.seed)
    return versions(columns)
