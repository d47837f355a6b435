"""Judges what the generator of a checkpoint makes.

python scripts/judge.py ckpt=outputs/2026-01-31/12-00-00-000000_gan_mnist
python scripts/judge.py ckpt=... features=outputs/<a run of lenet5 on the same images>      the Frechet distance, too
"""

import sys
from pathlib import Path

from zoo.config.commandline import guarded, script_arguments, whole_number
from zoo.errors import UserError

KEYS = {
    "ckpt": "run folder (its best, else its last) or .ckpt of a generator",
    "features": "the same of a classifier of the same images, whose features the Frechet distance compares",
    "n": "generated samples (10000)",
    "seed": "of their noise (1)",
    "out": "a .json file for the numbers in full precision",
    "allow": "a package (with a dot at its end) or name that the checkpoints may use besides the zoo's own",
}


def main() -> int:
    given = {"n": "10000", "seed": "1"} | script_arguments(sys.argv[1:], KEYS, positional="ckpt")
    if "ckpt" not in given:
        raise UserError("Which checkpoint? python scripts/judge.py ckpt=outputs/<run>    --help shows all keys.")
    number, seed = whole_number(given, "n", 2), whole_number(given, "seed", 0)
    if "out" in given and not given["out"].endswith(".json"):
        raise UserError(f"out={given['out']} must be the name of a .json file.")
    sys.path.append(str(Path.cwd()))  # for a network of the user's own
    from zoo.running.report import write_json
    from zoo.trained.judge import judge

    allow = [name.strip() for name in given.get("allow", "").split(",") if name.strip()]
    found = judge(given["ckpt"], classifier=given.get("features"), number=number, seed=seed, allow=allow)
    for name, value in found.items():
        print(f"{name:<24}{value:>12.4f}")
    if "out" in given:
        print(f"\nWritten: {write_json(given['out'], found)}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
