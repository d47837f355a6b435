r"""Writes new text with a trained language model; its checkpoint alone suffices.

python scripts/generate.py ckpt=outputs/2026-01-31/12-00-00-000000_lstm_python_docs prompt="The import statement"
python scripts/generate.py ckpt=... prompt=$'ROMEO:\n' length=1000 temperature=0.7 top_p=0.9 seed=3
python scripts/generate.py ckpt=... samples=3            without a prompt, as at the beginning of a line
"""

import math
import os
import sys
from pathlib import Path
from typing import Any

from zoo.commandline import guarded, script_arguments
from zoo.errors import UserError

KEYS = {
    "ckpt": "run folder (its best) or .ckpt",
    "prompt": "what the text begins with; without it, as at the beginning of a line or a sentence",
    "length": "how many tokens to write: characters, words or byte pairs, as the model was trained (500)",
    "temperature": "0: always the likeliest token; 1: as the model expects; above: more surprising (0.8)",
    "top_k": "only the k likeliest tokens may come (all)",
    "top_p": "only the likeliest tokens that together reach this probability may come (all)",
    "seed": "the same seed gives the same text (0)",
    "samples": "how many texts to write (1)",
    "special": "whether tokens that stand for no text, such as <unk>, may come: true or false (false)",
    "allow": "a package (with a dot at its end) or name that the checkpoint may use besides the zoo's own",
}
DEFAULTS = {"prompt": "", "length": "500", "temperature": "0.8", "seed": "0", "samples": "1", "special": "false"}
EXAMPLE = 'python scripts/generate.py ckpt=outputs/<run> prompt="..."    --help shows all keys.'


def count(given: dict[str, str], key: str, least: int) -> int:
    if not (given[key].isdecimal() and least <= int(given[key]) < 2**63):
        raise UserError(f"{key}={given[key]} must be a whole number from {least} on.")
    return int(given[key])


def number(given: dict[str, str], key: str) -> float:
    try:
        value = float(given[key])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{key}={given[key]} must be a number.")
    return value


def settings(given: dict[str, str]) -> dict[str, Any]:
    """What `Writer.write` needs, out of the texts of the command line. Raises UserError for what means nothing."""
    found: dict[str, Any] = {"length": count(given, "length", 1), "samples": count(given, "samples", 1)}
    found["seed"] = count(given, "seed", 0)
    found["temperature"] = number(given, "temperature")
    if found["temperature"] < 0:
        raise UserError(f"temperature={given['temperature']} must be 0 or more.")
    if given.get("top_k"):
        found["top_k"] = count(given, "top_k", 1)
    if given.get("top_p"):
        found["top_p"] = number(given, "top_p")
        if not 0 < found["top_p"] <= 1:
            raise UserError(f"top_p={given['top_p']} must be above 0 and at most 1.")
    if given["special"] not in ("true", "false"):
        raise UserError(f"special={given['special']} must be true or false.")
    return found | {"special": given["special"] == "true"}


def how(chosen: dict[str, Any]) -> str:
    """One line from which the same text can be had again."""
    keys = ("temperature", "top_k", "top_p", "seed")
    if chosen["temperature"] == 0:
        copies = f", {chosen['samples']} times the same" if chosen["samples"] > 1 else ""
        return f"Always the likeliest token (temperature=0){copies}."
    return f"Drawn with {' '.join(f'{key}={chosen[key]}' for key in keys if key in chosen)}."


def main() -> int:
    given = DEFAULTS | script_arguments(sys.argv[1:], KEYS)
    if not given.get("ckpt"):
        raise UserError(f"ckpt= is missing: {EXAMPLE}")
    chosen = settings(given)
    sys.path.append(str(Path.cwd()))  # for a network of the user's own
    from zoo.generate import load

    writer = load(given["ckpt"], [name.strip() for name in given.get("allow", "").split(",") if name.strip()])
    prompt = writer.read(given["prompt"])
    for line in [writer.describe(), how(chosen), *prompt.notes]:
        print(line, file=sys.stderr)
    texts = writer.write(prompt, **chosen)
    try:
        for i, text in enumerate(texts, start=1):
            if len(texts) > 1:
                print(f"--- {i} of {len(texts)} ---")
            print(writer.whole(prompt, text))
        sys.stdout.flush()
    except BrokenPipeError:  # who reads the text, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
