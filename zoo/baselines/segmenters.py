"""Three ways to cut an image into regions that nobody trains: by colours, by edges, by growing.

    k-means            pixels whose colours lie nearest to the same of k means (Lloyd 1957)
    edges and fill     what edges close in: the gradient of the smoothed image (Sobel), above a threshold that splits
                       its histogram best (Otsu 1979), and the connected places between them
    region growing     from a pixel to those neighbours whose colour is near the mean of what has been grown so far
                       (Adams, Bischof, "Seeded region growing", 1994; here with one seed after another, the smoothest
                       place that is left)

Regions have no names. `named` gives each of them the class that most of its pixels have in truth, which no method could
know; so what is scored is the best that anybody could make of the regions. A network, which must name them by itself,
should do better even so.

Axes: N images, C channels, H height, W width, R regions
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from zoo.metrics.overlaps import overlap_metrics, pixel_confusion

MOST = 8  # regions of an image; the truth may not name more, or each pixel could be a region of its own
SMALLEST = 9  # pixels of a region that was grown; less is what noise makes
UNKNOWN = 255


def by_colours(image: np.ndarray, *, k: int = 8) -> np.ndarray:
    """(H, W, C) in [0, 1] -> (H, W) numbers of k regions by k-means of the colours, slightly smoothed."""
    from sklearn.cluster import KMeans

    smooth = ndimage.gaussian_filter(image, (0.7, 0.7, 0))
    pixels = smooth.reshape(-1, image.shape[2])
    return KMeans(k, n_init=2, random_state=0).fit_predict(pixels).reshape(image.shape[:2])


def by_edges(image: np.ndarray) -> np.ndarray:
    """(H, W, C) in [0, 1] -> (H, W) numbers of the connected places between edges; edges go to the nearest of them."""
    smooth = ndimage.gaussian_filter(image, (1, 1, 0))
    slopes = [ndimage.sobel(smooth, axis) for axis in (0, 1)]
    strength = np.sqrt(np.sum(np.square(slopes), axis=(0, 3)))  # (H, W)
    places, number = ndimage.label(strength <= otsu(strength))
    if number == 0:
        return np.zeros(image.shape[:2], int)
    nearest = ndimage.distance_transform_edt(places == 0, return_distances=False, return_indices=True)
    return places[tuple(nearest)]


def by_growing(image: np.ndarray, *, tolerance: float = 0.3) -> np.ndarray:
    """(H, W, C) in [0, 1] -> (H, W) numbers of regions, each grown from the smoothest pixel that was left.

    Args:
        tolerance: how far a colour may lie from the mean of its region.
    """
    smooth = ndimage.gaussian_filter(image, (0.7, 0.7, 0))
    roughness = ndimage.generic_gradient_magnitude(smooth.sum(2), ndimage.sobel)
    regions, number = np.full(image.shape[:2], -1), 0
    for place in np.argsort(roughness, axis=None, kind="stable"):
        seed = divmod(int(place), image.shape[1])
        if regions[seed] < 0:
            grow(smooth, regions, seed, number, tolerance)
            number += 1
    return regions


def grow(image: np.ndarray, regions: np.ndarray, seed: tuple[int, int], number: int, tolerance: float) -> None:
    """Writes `number` to all that belongs to the region of a seed; the neighbour most like it comes first."""
    height, width = regions.shape
    total, count = np.zeros(image.shape[2]), 0
    waiting = [(0.0, seed)]
    while waiting:
        far, (y, x) = heappop(waiting)
        if far > tolerance:
            return
        if regions[y, x] >= 0:
            continue
        regions[y, x] = number
        total, count = total + image[y, x], count + 1
        for place in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= place[0] < height and 0 <= place[1] < width and regions[place] < 0:
                heappush(waiting, (float(np.linalg.norm(image[place] - total / count)), place))


def otsu(values: np.ndarray, *, bins: int = 128) -> float:
    """The threshold that splits values into two groups with the least variance within them; inf for equal values."""
    counts, edges = np.histogram(values, bins)
    middles = (edges[:-1] + edges[1:]) / 2
    below, sums = np.cumsum(counts)[:-1], np.cumsum(counts * middles)
    above, rest = values.size - below, sums[-1] - sums[:-1]
    between = below * above * np.square(sums[:-1] / np.maximum(below, 1) - rest / np.maximum(above, 1))
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))  # all places between two heaps are as good
    return float(edges[1 + best[len(best) // 2]]) if np.ptp(values) > 1e-9 else np.inf


SEGMENTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "kmeans": by_colours,
    "edges": by_edges,
    "region_growing": by_growing,
}


def largest(regions: np.ndarray, most: int = MOST) -> np.ndarray:
    """(H, W) numbers -> (H, W) below `most`: the largest regions from 0 on; the others go to the nearest of them."""
    numbers, counts = np.unique(regions, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    kept = [numbers[i] for i in order[:most] if counts[i] >= SMALLEST] or [numbers[order[0]]]
    made = np.full(regions.shape, -1)
    for i, number in enumerate(kept):
        made[regions == number] = i
    nearest = ndimage.distance_transform_edt(made < 0, return_distances=False, return_indices=True)
    return made[tuple(nearest)]


def named(regions: np.ndarray, mask: np.ndarray, num_classes: int) -> np.ndarray:
    """(H, W) regions -> (H, W) classes: each region has the one of most of its pixels in the true mask (H, W)."""
    known = mask != UNKNOWN
    pairs = np.bincount(
        regions[known] * num_classes + mask[known], minlength=(regions.max() + 1) * num_classes
    ).reshape(-1, num_classes)  # (R, K)
    return pairs.argmax(1)[regions]


def baselines(part: Any, num_classes: int, mean: Any, std: Any) -> dict[str, float]:
    """baseline/<method>_mean_iou of each segmenter over a part, its regions named by the truth.

    Args:
        part: gives a `MaskBatch` for an index tensor.
        mean, std: by which the images were normalized, one of each for every channel.
    """
    confusions = {name: torch.zeros(num_classes, num_classes, dtype=torch.int64) for name in SEGMENTERS}
    for i in range(len(part)):
        image, mask = (tensor[0].numpy() for tensor in part[torch.tensor([i])])
        pixels = np.moveaxis(image, 0, 2) * np.asarray(std) + np.asarray(mean)  # (H, W, C)
        for name, segment in SEGMENTERS.items():
            said = named(largest(segment(pixels)), mask, num_classes)
            confusions[name] += pixel_confusion(torch.from_numpy(said), torch.from_numpy(mask), num_classes)
    return {
        f"baseline/{name}_{metric}": value
        for name, confusion in confusions.items()
        for metric, value in overlap_metrics(confusion).items()
        if metric != "pixel_accuracy"
    }
