"""The section `augment` of scripts/benchmark.py: our augmentation of batches against torchvision's of single images.

    python scripts/benchmark.py only=augment

Both sides start from images that lie in memory and end with a batch of uint8, on one thread. torchvision may choose its
own way: version 1 or 2 of its transforms, on PIL images or on tensors; the way that was fastest in a first round is
the one that is measured against. Its first figures are in `ways`.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms.functional import to_pil_image

from zoo.augment.images import ImageAugment
from zoo.run import configure

BATCH, SIZES = 128, ((1, 28), (3, 32))  # channels and side
# What is measured alone, by our arguments; then all of `augment=standard` together.
ALONE = [
    ("flip",), ("brightness", "contrast"), ("shear",), ("scale",), ("rotate",), ("translate",), ("shift",), ("crop",),
    ("noise",), ("cutout",),
]  # fmt: skip


def theirs(kind: Any, at: dict[str, Any], side: int, antialias: bool) -> dict[str, list[Any]]:
    """The same operations by version 1 or 2, each as the transforms it takes; the noise is always that of version 2.

    Args:
        at: our limits.
    """
    smooth: dict[str, Any] = {"interpolation": v1.InterpolationMode.BILINEAR}
    move, scale, hole = (at["translate"],) * 2, (1 / (1 + at["scale"]), 1 + at["scale"]), (at["cutout"] / side) ** 2
    found = {
        "flip": [kind.RandomHorizontalFlip(at["flip"])],
        "brightness contrast": [kind.ColorJitter(at["brightness"], at["contrast"])],
        "shear": [kind.RandomAffine(0, shear=at["shear"], **smooth)],
        "scale": [kind.RandomAffine(0, scale=scale, **smooth)],
        "rotate": [kind.RandomRotation(at["rotate"], **smooth)],
        "translate": [kind.RandomAffine(0, translate=move, **smooth)],
        "shift": [kind.RandomCrop(side, padding=at["shift"])],
        "crop": [kind.RandomResizedCrop(side, (1 - at["crop"], 1.0), **smooth, antialias=antialias)],
        "cutout": [kind.RandomErasing(1.0, (hole, hole), (1.0, 1.0))],
        "noise": [
            v2.ToDtype(torch.float32, scale=True),
            v2.GaussianNoise(0, at["noise"] / 255),
            v2.ToDtype(torch.uint8, scale=True),
        ],
    }
    affine = kind.RandomAffine(at["rotate"], move, scale, at["shear"], **smooth)
    return found | {"standard": [*found["brightness contrast"], affine, *found["crop"], *found["noise"]]}


def ways(name: str, limits: dict[str, Any], images: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """{way: makes one batch as torchvision would}."""
    pictures = [to_pil_image(image) for image in images]
    found: dict[str, Callable[[], Any]] = {}
    for version, kind in (("v1", v1), ("v2", v2)):
        # PIL always smooths where it resizes; tensors are spared it.
        for start, samples in (("tensors", images), ("PIL", pictures)):
            steps = theirs(kind, limits, images.shape[-1], antialias=start == "PIL")[name]
            if start == "PIL":  # cutout and noise are for tensors alone
                place = {"cutout": 0, "noise": 0, "standard": len(steps) - 3}.get(name, len(steps))
                steps.insert(place, kind.PILToTensor())
            change = kind.Compose(steps)
            found[f"{version} on {start}"] = lambda change=change, samples=samples: torch.stack(
                [change(sample) for sample in samples]
            )
    return found


def rate(make_batch: Callable[[], Any], batches: int) -> float:
    """Samples a second."""
    start = time.perf_counter()
    for _ in range(batches):
        make_batch()
    return batches * BATCH / (time.perf_counter() - start)


def augment(ratios: Callable[..., dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Samples a second of each operation and of `augment=standard`, batch 128."""
    torch.set_num_threads(1)
    standard = {key: value for key, value in configure("augment=standard").augment.items() if key != "_target_"}
    limits = {**standard, "flip": 0.5, "shift": 2, "cutout": 8}
    settings = {" ".join(keys): {key: limits[key] for key in keys} for keys in ALONE} | {"standard": standard}
    indices, figures = torch.arange(BATCH), {}
    for channels, side in SIZES:
        images = torch.randint(0, 256, (BATCH, channels, side, side), dtype=torch.uint8)
        for name, chosen in settings.items():
            change = ImageAugment(**chosen)

            def ours(change: Any = change, images: Any = images) -> Any:
                return change(images, indices, 0, 0)

            others = ways(name, limits, images)
            for made in (ours(), *(make() for make in others.values())):
                assert made.shape == images.shape
                assert made.dtype == torch.uint8
            first = {way: rate(make, 3) for way, make in others.items()}
            fastest = max(first, key=first.__getitem__)
            found = ratios(lambda make=ours: rate(make, 100), lambda make=others[fastest]: rate(make, 5), rounds)
            notes = {"unit": "samples a second", "against": fastest, "ways": first}
            figures[f"{name} {side}x{side}x{channels}"] = found | notes
    return figures
