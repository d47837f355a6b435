"""Finds a learning rate to begin with: one short training with an ever larger rate, of which nothing is kept.

python scripts/find_lr.py model=mlp data=digits optimizer=sgd
python scripts/find_lr.py experiment=lenet5_fashion_mnist iterations=300 highest=1
python scripts/find_lr.py model=lenet5 data=digits out=rates.png csv=rates.csv
"""

import math
import shlex
import sys
from pathlib import Path

from zoo.config.commandline import CONFIGS, guarded, script_arguments
from zoo.config.settings import declared
from zoo.errors import UserError, suggest
from zoo.running.signals import LISTENER

KEYS = {
    "iterations": "how many rates, one for each update, from 100 on (150)",
    "lowest": "the first rate (1e-6)",
    "highest": "the last rate, unless the loss diverges before it (10)",
    "out": "a picture to draw: .png, .svg or .pdf",
    "csv": "a file for rate, loss and smoothed loss of every iteration",
}
OF_TRAIN = {"model, data, ...": "what train.py takes, such as optimizer=sgd data.batch_size=32 trainer.precision=bf16"}
PICTURES = (".png", ".svg", ".pdf")


def split(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """The script's own settings, and the arguments that are train.py's."""
    if {"-h", "--help"} & set(arguments):
        script_arguments(["--help"], KEYS | OF_TRAIN)
    groups = {path.name for path in CONFIGS.iterdir() if path.is_dir()} - {"hydra"}
    known = {*KEYS, *groups, *(key.partition(".")[0] for key in declared({}))}
    own, of_train = [], []
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if argument.startswith("-"):
            raise UserError(f"There is no option {key}; write key=value, for instance model=mlp data=digits.")
        if equals and key.isidentifier() and key not in known:
            raise UserError(f"There is no key '{key}'{suggest(key, known)}")
        (own if key in KEYS else of_train).append(argument)
    return script_arguments(own, KEYS), of_train


def number(given: dict[str, str], key: str, default: str, *, whole: bool = False) -> float:
    try:
        value = float(given.get(key, default))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (whole and value != int(value)):
        raise UserError(f"{key}={given[key]} must be a {'whole ' * whole}number, for instance {key}={default}")
    return value


def place(given: dict[str, str], key: str, endings: tuple[str, ...] = ()) -> Path | None:
    """A file to write. Raises UserError now, not after the training, where that cannot be."""
    if key not in given:
        return None
    path = Path(given[key]).expanduser()
    if endings and path.suffix.lower() not in endings:
        raise UserError(f"{key}={path} must end in {', '.join(endings[:-1])} or {endings[-1]}.")
    if not given[key] or path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{key}={path} must be a file in a folder that is there.")
    return path


def main() -> int:
    given, of_train = split(sys.argv[1:])
    picture, numbers = place(given, "out", PICTURES), place(given, "csv")
    iterations = int(number(given, "iterations", "150", whole=True))
    lowest, highest = number(given, "lowest", "1e-6"), number(given, "highest", "10")
    sys.path.append(str(Path.cwd()))  # for a network of the user's own
    from zoo.analysis.lr_finder import SMALLEST_FALL, find_rate
    from zoo.run import configure

    LISTENER.listen()  # else Lightning would answer a Ctrl-C
    try:
        found = find_rate(configure(*of_train), lowest=lowest, highest=highest, iterations=iterations)
    finally:
        LISTENER.rest()
    print(f"{found.table()}\n\n{found.ending()}")
    if numbers is not None:
        from zoo.running.report import write_text

        print(f"Written: {write_text(numbers, found.csv())}")
    if picture is not None:
        from zoo.pictures.curves import rate_test

        rate_test(found.rates, found.losses, found.smoothed, found.marks()).savefig(picture)
        print(f"Written: {picture}")
    if found.steepest is None:
        raise UserError(
            f"The loss did not fall by {SMALLEST_FALL:.0%} at any rate; try iterations={2 * iterations}, or another "
            "range with lowest= and highest=."
        )
    for name, rate in found.marks().items():
        print(f"{name:<44}{rate:.2g}")
    low, high = sorted((found.steepest, found.tenth))
    if high > 5 * low:
        print("The loss falls over a wide range: rates between these two are worth a try.")
    command = ["python", "train.py", *(a for a in of_train if not a.startswith("optimizer.lr="))]
    print(f"\nTo train with it:\n{shlex.join(command)} optimizer.lr={found.steepest:.2g}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
