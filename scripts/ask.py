"""The 56 questions of a deep-learning course: our answer, the file to read, the command that shows it, the number.

python scripts/ask.py
python scripts/ask.py 29
python scripts/ask.py 29 run=true
python scripts/ask.py vanishing

The first lists the titles, the second answers one, the third runs its commands as well, and the last lists those whose
title or answer has a word. What is told stands in docs/questions.yaml; each number is held by the test beside it.
"""

import csv
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from zoo.config.commandline import guarded, script_arguments
from zoo.errors import UserError
from zoo.questions import RUN, Question, about, commands, load, numbered, titles, told

ROOT = Path(__file__).resolve().parent.parent
KEYS = {
    "question": "its number, or a word to look for; left out, all titles are listed",
    "run": "true: run its commands here, after what is told (false)",
}
PLACES = ("train.py", "scripts/", "tests/")


def runs() -> set[Path]:
    """The folders of runs and sweeps below outputs/."""
    return {path for path in Path("outputs").glob("*/*") if path.is_dir()}


def made(before: set[Path]) -> str:
    """The run that is there since, with a slash behind it; of a sweep its best cell."""
    new = max(runs() - before, key=lambda path: path.stat().st_mtime, default=None)
    if new is None:
        raise UserError("The first command has left no run below outputs/; run both by hand.")
    if (new / "results.csv").is_file():
        with (new / "results.csv").open(encoding="utf-8", newline="") as file:
            new /= next(csv.DictReader(file))["cell"]
    return f"{new}/"


def words(command: str) -> list[str]:
    """A command with this Python and this copy of the zoo."""
    first, *rest = shlex.split(command)
    start = [sys.executable, "-m", "pytest"] if first == "pytest" else [sys.executable]
    return [*start, *(str(ROOT / word) if word.startswith(PLACES) else word for word in rest)]


def perform(question: Question) -> int:
    """Runs its commands one after the other; returns the exit status of the first that fails.

    The last one may end early where this is what there is to see (`stops`).
    """
    listed = commands(question)
    before: set[Path] = set()
    for command in listed:
        command = command.replace(RUN, made(before)) if RUN in command else command
        before = runs()
        print(f"\n$ {command}", flush=True)
        status = subprocess.run(words(command), check=False).returncode
        if status and not (question.get("stops") and command is listed[-1]):
            return status
    return 0


def main() -> int:
    given = script_arguments(sys.argv[1:], KEYS, positional="question")
    run = given.get("run", "false").lower()
    if run not in ("true", "false"):
        raise UserError(f"run={given['run']} must be true or false.")
    questions, wanted = load(), given.get("question", "").strip()
    if wanted.lstrip("-").isdecimal():
        question = numbered(wanted, questions)
        print(told(question, max(60, min(100, shutil.get_terminal_size((100, 24)).columns))))
        return perform(question) if run == "true" else 0
    if run == "true":
        raise UserError("run=true needs the number of a question, such as 29.")
    print(titles(about(wanted, questions)))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
