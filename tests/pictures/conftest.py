import numpy as np
import pytest


def pixels(figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


@pytest.fixture
def drawn():
    """drawn(figure): (H, W, 4) pixels; raises, or warns, which is an error here, where something does not fit."""
    return pixels


@pytest.fixture
def is_no_blank():
    """is_no_blank(figure): whether it was drawn in more than ten colours."""

    def check(figure) -> bool:
        colours = np.ascontiguousarray(pixels(figure)).view(np.uint32)  # one number a pixel
        return len(np.unique(colours)) > 10

    return check


@pytest.fixture
def written():
    """written(axis): what its texts say, in their order."""
    return lambda axis: [text.get_text() for text in axis.texts]
