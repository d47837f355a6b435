"""Judges a checkpoint again: the metrics of its run, or those on other data.

python scripts/evaluate.py ckpt=outputs/2026-01-31/12-00-00-000000_mlp_digits
python scripts/evaluate.py ckpt=... part=val out=metrics.json
python scripts/evaluate.py ckpt=... data.path=other.csv        all rows of another file, prepared as in training
"""

import sys
from pathlib import Path

from zoo.commandline import data_settings, guarded, script_arguments
from zoo.errors import UserError

KEYS = {
    "ckpt": "run folder (its best) or .ckpt",
    "part": "train, val, test or all (test; all where data.path or data.root is given)",
    "data.<key>": "a setting of the data that replaces the run's, such as data.path=other.csv",
    "out": "a .json file for the metrics in full precision",
    "allow": "a package (with a dot at its end) or name that the checkpoint may use besides the zoo's own",
}


def main() -> int:
    own, settings = data_settings(sys.argv[1:])
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
