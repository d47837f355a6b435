"""Judges a checkpoint again: the metrics of its run, or those on other data.

python scripts/evaluate.py ckpt=outputs/2026-01-31/12-00-00-000000_mlp_digits
python scripts/evaluate.py ckpt=... part=val out=metrics.json
python scripts/evaluate.py ckpt=... data.path=other.csv        all rows of another file, prepared as in training
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from zoo.commandline import NAMES, guarded, script_arguments
from zoo.errors import UserError

KEYS = {
    "ckpt": "run folder (its best) or .ckpt",
    "part": "train, val, test or all (test; all where data.path or data.root is given)",
    "data.<key>": "a setting of the data that replaces the run's, such as data.path=other.csv",
    "out": "a .json file for the metrics in full precision",
    "allow": "a package (with a dot at its end) or name that the checkpoint may use besides the zoo's own",
}


def split_settings(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The script's own arguments, and those of the data as values: `data.seed=1` is the number 1, a path a text."""
    own = [argument for argument in arguments if not argument.startswith("data.") or "=" not in argument]
    settings: dict[str, Any] = {}
    for argument in arguments:
        if argument not in own:
            key, _, value = argument.removeprefix("data.").partition("=")
            try:
                is_list = value.startswith("[") and value.endswith("]") and not Path(value).exists()
                is_name = key in NAMES and value != "null" and not is_list
                settings[key] = value if is_name else yaml.safe_load(value)
            except yaml.YAMLError:
                settings[key] = value
    return own, settings


def main() -> int:
    own, settings = split_settings(sys.argv[1:])
    given = script_arguments(own, KEYS, positional="ckpt")
    if "ckpt" not in given:
        raise UserError("Which checkpoint? python scripts/evaluate.py ckpt=outputs/<run>    --help shows all keys.")
    sys.path.append(str(Path.cwd()))  # for a network of the user's own
    from zoo.evaluate import evaluate
    from zoo.report import table, write_json

    allow = [name.strip() for name in given.get("allow", "").split(",") if name.strip()]
    result = evaluate(given["ckpt"], given.get("part"), settings, allow)
    for line in [result.title, *result.notes]:
        print(line)
    print(f"\n{table(result.metrics)}")
    if "out" in given:
        print(f"\nWritten: {write_json(given['out'], result.metrics)}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
