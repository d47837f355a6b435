"""What a user is told where columns are prepared as those that a pretrained network has seen.

Axes: N rows or steps
"""

from collections.abc import Iterable

import numpy as np

from zoo.errors import listed

FAR = 5  # standard deviations


def kept(what: str) -> str:
    """The line that says what was taken from the network, and how to leave it.

    Args:
        what: for instance "Columns have the scale".
    """
    return f"{what} that the pretrained network has seen; own_inputs=true leaves that."


def far_off(columns: Iterable[tuple[str, np.ndarray, float, float]]) -> list[str]:
    """A line on columns that lie far from what a pretrained network has seen, or spread far wider; else none.

    Args:
        columns: name, values (N,), and mean and standard deviation of what the network has seen.
    """
    far = [
        f"{name!r} (mean {mean:.4g} there, {values.mean():.4g} here)"
        for name, values, mean, std in columns
        if abs(values.mean() - mean) > FAR * std or values.std() > FAR * std
    ]
    return [f"Far from what the pretrained network has seen, as if in another unit: {listed(far)}."] if far else []
