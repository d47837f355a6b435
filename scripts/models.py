"""Checkpoints that have a name, for `pretrained=` of train.py and `ckpt=` of every script.

python scripts/models.py
python scripts/models.py lenet5-fashion
python scripts/models.py lenet5-mnist build=true

The first lists them, the second says all that is known of one. Where the list has no size, the terms of the data do not
say that weights may be passed on: the third trains them here, once, and the name stands for them from then on.
`hf://owner/name` is a name, too: the file model.safetensors of a repository of the Hugging Face hub, with the extra
`hub`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from zoo.config.commandline import guarded, script_arguments
from zoo.errors import UserError, suggest

TRAIN = Path(__file__).resolve().parent.parent / "train.py"
KEYS = {
    "name": "of a checkpoint; left out, all are listed",
    "build": "true: train it here, where it does not come with the zoo (false)",
}


def row(name: str, about: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """What the list says of one: its name, network, data, how good it is, and its size in MiB."""
    return (
        name,
        about["architecture"],
        about["data"],
        about["measured"],
        f"{about['bytes'] / 2**20:.2f}" if about["bytes"] else "-",
    )


def of_torchvision(name: str) -> dict[str, Any]:
    from torchvision.models import get_weight

    from zoo.pretrained import torchvision_weights

    meta = get_weight(name).meta
    accuracy = meta["_metrics"]["ImageNet-1K"]["acc@1"]
    return {
        "name": name,
        "architecture": torchvision_weights.ARCHITECTURES[name.partition("_Weights")[0]]["_target_"].rpartition(".")[2],
        "sizes": {k: v for k, v in torchvision_weights.card(name)["config"]["model"].items() if k != "_target_"},
        "parameters": meta["num_params"],
        "data": "ImageNet-1K",
        "measured": f"accuracy {accuracy / 100:.4f} (torchvision's figure)",
        "bytes": round(meta["_file_size"] * 2**20),
        "from": torchvision_weights.address(name),
        "sha256": torchvision_weights.checksum(torchvision_weights.address(name).rpartition("/")[2]) + "...",
        "licence": "torchvision's is BSD-3-Clause; ImageNet has terms of its own",
    }


def build(name: str, *words: str) -> Path:
    """Trains what does not come with the zoo by its recipe, unless it is there, and keeps it under its name.

    Args:
        words: more of what `train.py` takes.
    """
    from zoo.checkpoint import data_dir
    from zoo.pretrained import registry
    from zoo.trained.export import export

    told = registry.card(name) if name in registry.names() else {"sha256": True}
    if told["sha256"]:
        raise UserError(f"{name} need not be built: it comes with the zoo, or is fetched.")
    path, recipe = registry.place_of_made(name, data_dir()), told["recipe"]
    if not path.is_file():
        run = path.with_suffix("")  # interrupted, it goes on there
        about = [f"experiment={recipe['name']}", f"seed={recipe['seed']}", f"run_dir={run}", "resume=auto"]
        print(f"{name}: about {recipe['minutes_per_seed']:.0f} minutes of one core", flush=True)
        ended = subprocess.run([sys.executable, str(TRAIN), *about, *words], check=False)
        if ended.returncode:
            raise UserError(f"The training ended with status {ended.returncode}; the same command goes on with it.")
        print(export(run, path, half=True))
    return path


def main() -> int:
    given = script_arguments(sys.argv[1:], KEYS, positional="name")
    from zoo.pretrained import registry, torchvision_weights

    known = dict.fromkeys(registry.names(), registry.card)
    known |= dict.fromkeys(torchvision_weights.names(), of_torchvision)
    if "name" in given:
        if given["name"] not in known:
            raise UserError(f"There is no checkpoint named '{given['name']}'{suggest(given['name'], known)}")
        if given.get("build", "false") == "true":
            print(f"{given['name']} is {build(given['name'])}")
            return 0
        for key, value in known[given["name"]](given["name"]).items():
            print(f"{key:14}{json.dumps(value) if isinstance(value, (dict, list)) else value}")
        return 0
    rows = [("name", "network", "data", "how good", "MiB"), *(row(name, about(name)) for name, about in known.items())]
    widths = [max(len(line[i]) for line in rows) for i in range(len(rows[0]))]
    for line in rows:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
