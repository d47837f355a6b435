"""Checkpoints by their names: those that come with the zoo, torchvision's published ones, and those of a hub.

A card, `<name>.json`, says what a checkpoint is, how it was made and how good it is. Weights lie beside it as
`<name>.safetensors`, where the terms of the data allow it; else they are made on the user's machine, by the card's own
command. Torchvision's lie at an address that its list of weights knows. Nothing is read before its checksum has been
compared.
"""

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from zoo.errors import UserError, suggest
from zoo.pretrained import torchvision_weights

HERE = Path(__file__).parent
HUB = "hf://"


def names() -> list[str]:
    """Of all checkpoints that have a card."""
    return sorted(path.stem for path in HERE.glob("*.json"))


@cache
def card(name: str) -> dict[str, Any]:
    """What is known of a checkpoint. Raises KeyError for a name without a card."""
    path = HERE / f"{name}.json"
    if name not in names():
        raise KeyError(name)
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def is_name(source: str) -> bool:
    """Whether a text is written as the name of a checkpoint, of torchvision's weights or of a file of a hub."""
    return source.startswith(HUB) or torchvision_weights.is_name(source) or source in names()


def file_of(name: str, cache_dir: Path) -> Path:
    """The file of a checkpoint, fetched where it does not come with the zoo, and whole.

    Args:
        name: of a card, or `hf://owner/name` with or without `/file` at its end.
        cache_dir: where fetched files are kept.

    Raises:
        UserError: it cannot be fetched, or is not what its card says.
    """
    if name.startswith(HUB):
        return from_hub(name)
    if torchvision_weights.is_name(name):
        return published(name, cache_dir)
    path, told = HERE / f"{name}.safetensors", card(name)
    if not told["sha256"]:
        return made(name, cache_dir)
    if not path.is_file() or sha256(path) != told["sha256"]:
        raise UserError(f"{path} is not there, or is not what its card says; install the zoo again.")
    return path


def place_of_made(name: str, cache_dir: Path) -> Path:
    """Where a checkpoint lies that is made on the user's machine."""
    return cache_dir / "weights" / "zoo" / f"{name}.safetensors"


def made(name: str, cache_dir: Path) -> Path:
    path = place_of_made(name, cache_dir)
    if not path.is_file():
        raise UserError(
            f"{name} does not come with the zoo, for the terms of its data ({card(name)['data']}) do not say that it "
            f"may. Make it: python scripts/models.py {name} build=true"
        )
    return path


def published(name: str, cache_dir: Path) -> Path:
    """The file of torchvision's weights."""
    try:
        url = torchvision_weights.address(name)
    except KeyError:
        raise UserError(
            f"torchvision has no weights {name} for a network of the zoo{suggest(name, torchvision_weights.names())}"
        ) from None
    path = cache_dir / "weights" / "imagenet" / url.rpartition("/")[2]
    digits = torchvision_weights.checksum(path.name)
    if not path.is_file():
        fetch(url, path, digits)
    if not sha256(path).startswith(digits):
        raise UserError(
            f"{path} is damaged: its SHA-256 does not begin with {digits}; delete it, and it is fetched again."
        )
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(url: str, path: Path, checksum: str, download: Callable[..., Any] | None = None) -> None:
    """Downloads a file whole or not at all; several processes may ask for it at once.

    Args:
        checksum: the first digits of its SHA-256, eight of them at least.
    """
    from torch.hub import download_url_to_file

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # It writes beside the file, compares, and moves it into its place in one step.
        (download or download_url_to_file)(url, str(path), hash_prefix=checksum, progress=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{url} cannot be fetched ({error}). Put it into {path.parent} by hand.") from error


def from_hub(name: str) -> Path:
    """A file of the Hugging Face hub; `model.safetensors` where none is named."""
    owner, _, rest = name.removeprefix(HUB).partition("/")
    repository, _, file = rest.partition("/")
    if not owner or not repository:
        raise UserError(f"{name} must be hf://owner/name, perhaps with /file at its end.")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise UserError(f'{name} needs huggingface_hub: pip install "torch-reference-zoo[hub]"') from None
    try:
        return Path(hf_hub_download(f"{owner}/{repository}", file or "model.safetensors"))
    except Exception as error:  # of its own kinds: no such repository, no such file, no network
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name} cannot be fetched: {reason}") from error
