"""Weights that torchvision has published, by the names of its own list, for networks that the zoo has too.

    python train.py pretrained=ResNet18_Weights.IMAGENET1K_V1 model=resnet model.depth=18 ...
    python scripts/predict.py ckpt=MobileNet_V2_Weights.IMAGENET1K_V1 input=photo.jpg

Their files hold tensors alone. What these belong to, which classes they tell apart and how photos were prepared follows
from the file's name, which ends with the first digits of its SHA-256; it is believed where the digits agree. A photo is
scaled to cover 224 x 224 and cropped, where torchvision scales it to 256 first: the zoo's way with photos.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

PHOTO = {"in_channels": 3, "num_classes": 1000}
SQUARE = PHOTO | {"image_size": 224}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "AlexNet": {"_target_": "zoo.models.alexnet.AlexNet", "variant": "large"} | SQUARE,
    "MobileNet_V2": {"_target_": "zoo.models.mobilenet_v2.MobileNetV2"} | PHOTO,
    **{
        f"ResNet{depth}": {"_target_": "zoo.models.resnet.ResNet", "depth": depth} | PHOTO
        for depth in (18, 34, 50, 101, 152)
    },
    **{
        f"VGG{depth}{ending}": {"_target_": "zoo.models.vgg.VGG", "depth": depth, "batch_norm": bool(ending)} | SQUARE
        for depth in (11, 13, 16, 19)
        for ending in ("", "_BN")
    },
}
NAME = re.compile(r"(\w+)_Weights\.(\w+)")
FILE = re.compile(r"[\w-]+-([0-9a-f]{8})\.pth")


def is_name(source: str) -> bool:
    """Whether a text is written as torchvision writes the names of its weights."""
    return NAME.fullmatch(source) is not None


def names() -> list[str]:
    """Of all weights of classifiers that the zoo has, the oldest of each network first."""
    from torchvision.models import get_model_weights

    entries = [(kind, entry) for kind in ARCHITECTURES for entry in get_model_weights(kind.lower())]
    return [f"{kind}_Weights.{entry.name}" for kind, entry in entries if entry.meta.get("categories")]


def address(name: str) -> str:
    """Where the file of a name lies. Raises KeyError for a name that is not among `names`."""
    from torchvision.models import get_weight

    if name not in names():
        raise KeyError(name)
    url: str = get_weight(name).url
    return url


def checksum(file: str) -> str:
    """The first digits of its SHA-256, which a file's name ends with; empty where it has none."""
    found = FILE.fullmatch(file)
    return found[1] if found else ""


def described(path: Path) -> dict[str, Any]:
    """config, classes and preprocessing of a published file; empty where it is none, or has other bytes."""
    digits = checksum(path.name)
    if not digits:
        return {}
    with path.open("rb") as file:
        if not hashlib.file_digest(file, "sha256").hexdigest().startswith(digits):
            return {}
    found = [name for name in names() if address(name).rpartition("/")[2] == path.name]
    return card(found[0]) if found else {}


def card(name: str) -> dict[str, Any]:
    """What a checkpoint of the zoo says of itself, for published weights."""
    from torchvision.models import get_weight

    weights = get_weight(name)
    prepared = weights.transforms()
    size = prepared.crop_size[0]
    return {
        "config": {
            "model": ARCHITECTURES[name.partition("_Weights")[0]],
            "data": {"image_shape": [3, size, size], "num_classes": 1000, "image_size": size},
            "task": {
                "_target_": "zoo.tasks.supervised.Classification",
                "loss": "cross_entropy",
                "kind": "multiclass",
                "num_outputs": 1000,
            },
        },
        "classes": list(weights.meta["categories"]),
        "preprocessing": {
            "kind": "image",
            "channels": 3,
            "height": size,
            "width": size,
            "mean": list(prepared.mean),
            "std": list(prepared.std),
        },
    }
