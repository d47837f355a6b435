"""Judges a checkpoint again: the metrics of its run, or those on other data.

python scripts/evaluate.py ckpt=outputs/2026-01-31/12-00-00-000000_mlp_digits
python scripts/evaluate.py ckpt=... part=val out=metrics.json
python scripts/evaluate.py ckpt=... data=other.csv             all of another file or folder, prepared as in training
python scripts/evaluate.py ckpt=... confusion=true worst=10    which class is taken for which, and the worst answers
"""

import sys
from pathlib import Path
from typing import Any

from zoo.config.commandline import data_settings, guarded, script_arguments, whole_number
from zoo.errors import UserError

KEYS = {
    "ckpt": "run folder (its best) or .ckpt",
    "part": "train, val, test or all (test; all where another file or folder is given)",
    "data": "another file or folder than the run's, with what is right in it",
    "data.<key>": "a setting of the data that replaces the run's, such as data.target=price",
    "confusion": "true: how often each class is taken for which (false)",
    "worst": "how many samples to name on which the model errs most (0)",
    "out": "a .json file for the metrics in full precision",
    "allow": "a package (with a dot at its end) or name that the checkpoint may use besides the zoo's own",
}


def check(given: dict[str, str]) -> None:
    if given.get("confusion", "false") not in ("true", "false"):
        raise UserError(f"confusion={given['confusion']} must be true or false.")
    if "worst" in given:
        whole_number(given, "worst", 0)
    if not given.get("out", ".json").endswith(".json"):
        raise UserError(f"out={given['out']} must be the name of a .json file.")


def mistakes(given: dict[str, str], part: str, settings: dict[str, Any], allow: list[str]) -> list[str]:
    """Lines on what goes wrong, as far as it was asked for."""
    from zoo.trained.mistakes import confusion_lines, look

    found, lines = look(given["ckpt"], part, settings, allow, worst=int(given.get("worst", 0))), list[str]()
    if given.get("confusion") == "true" and found.confusion is not None:
        lines += ["", *confusion_lines(found.confusion, found.names)]
    if found.worst:
        lines.append("")
    for sample, wrong_by, told, true in found.worst:
        margin = f"right by {-wrong_by:.4g}" if wrong_by < 0 else f"wrong by {wrong_by:.4g}"
        lines.append(f"{sample}: {told}, true {true} ({margin})")
    return lines


def main() -> int:
    own, settings = data_settings(sys.argv[1:])
    given = script_arguments(own, KEYS, positional="ckpt")
    if "ckpt" not in given:
        raise UserError("Which checkpoint? python scripts/evaluate.py ckpt=outputs/<run>    --help shows all keys.")
    check(given)
    if "data" in given:
        settings["data"] = given["data"]
    sys.path.append(str(Path.cwd()))  # for a network of the user's own
    from zoo.running.report import table, write_json
    from zoo.trained.evaluate import evaluate

    allow = [name.strip() for name in given.get("allow", "").split(",") if name.strip()]
    confusion, worst = given.get("confusion") == "true", int(given.get("worst", 0))
    if confusion or worst:  # before all the work
        from zoo.trained.mistakes import suitable

        suitable(given["ckpt"], allow, confusion=confusion)
    result = evaluate(given["ckpt"], given.get("part"), settings, allow)
    for line in [result.title, *result.notes]:
        print(line)
    print(f"\n{table(result.metrics)}")
    if confusion or worst:
        for line in mistakes(given, next(iter(result.metrics)).partition("/")[0], settings, allow):
            print(line)
    if "out" in given:
        print(f"\nWritten: {write_json(given['out'], result.metrics)}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
