"""Uses a trained model on new pictures or table rows; its checkpoint alone suffices.

python scripts/predict.py ckpt=outputs/2026-01-31/12-00-00-000000_lenet5_mnist input=photo.png
python scripts/predict.py ckpt=... input=photos top=1 format=json out=answers.jsonl
python scripts/predict.py ckpt=... input=new_houses.csv
"""

import contextlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from zoo.commandline import guarded, script_arguments
from zoo.errors import UserError

KEYS = {
    "ckpt": "run folder (its best) or .ckpt",
    "input": "an image, a folder of images (with all below it), or a .csv file",
    "format": "text, or json: one line of JSON for each input (text)",
    "top": "how many classes to show (3); of several labels all are shown, each with its own probability",
    "out": "a file for the answers, instead of the terminal",
    "allow": "a package (with a dot at its end) or name that the checkpoint may use besides the zoo's own",
    "data.separator": "of the .csv file, where it is not found by itself",
    "data.encoding": "of the .csv file, where it is not that of the training file",
}
EXAMPLE = "python scripts/predict.py ckpt=outputs/<run> input=photo.png    --help shows all keys."


def check(given: dict[str, str]) -> None:
    for key in ("ckpt", "input"):
        if not given.get(key):
            raise UserError(f"{key}= is missing: {EXAMPLE}")
    if given["format"] not in ("text", "json"):
        raise UserError(f"format={given['format']} must be text or json.")
    if not (given["top"].isdecimal() and int(given["top"])):
        raise UserError(f"top={given['top']} must be a whole number from 1 on.")
    if "out" in given and Path(given["out"]).expanduser().resolve() == Path(given["input"]).expanduser().resolve():
        raise UserError("out= would overwrite the input; choose another file.")


def write(lines: Iterable[str], out: str | None) -> int:
    """Prints lines, or writes them to a file; returns how many."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(Path(out).expanduser().open("w", encoding="utf-8")) if out else sys.stdout
        count = 0
        for count, line in enumerate(lines, start=1):  # noqa: B007 - the last count is what is wanted
            print(line, file=file)
        file.flush()
    return count


def main() -> int:
    given = {"format": "text", "top": "3"} | script_arguments(sys.argv[1:], KEYS)
    check(given)
    sys.path.append(str(Path.cwd()))  # for a network of the user's own
    from zoo.predict import load

    predictor = load(given["ckpt"], [name.strip() for name in given.get("allow", "").split(",") if name.strip()])
    reading = {key: given[f"data.{key}"] for key in ("separator", "encoding") if f"data.{key}" in given}
    inputs = predictor.open(given["input"], reading)
    for line in [predictor.describe(), *inputs.notes]:
        print(line, file=sys.stderr)
    # A bar only where somebody looks, and where the answers themselves do not pass by.
    hidden = not sys.stderr.isatty() or ("out" not in given and sys.stdout.isatty())
    answers = tqdm(predictor.answers(inputs), total=inputs.total, disable=hidden, unit=" inputs")
    line_of = predictor.json if given["format"] == "json" else predictor.text
    try:
        count = write((line_of(answer, int(given["top"])) for answer in answers), given.get("out"))
    except BrokenPipeError:  # who reads the answers, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if inputs.total == len(inputs.unreadable) == 1:
        raise UserError(inputs.unreadable[0])
    for line in inputs.unreadable:
        print(f"Skipped: {line}", file=sys.stderr)
    if count == 0:
        raise UserError(f"None of the {inputs.total} inputs could be read.")
    if inputs.unreadable:
        print(f"{len(inputs.unreadable)} of {inputs.total} could not be read and were skipped.", file=sys.stderr)
    if "out" in given:
        print(f"Written: {given['out']}, {count} lines", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
