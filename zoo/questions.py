"""The questions of a deep-learning course and what this zoo answers: docs/questions.yaml, read, searched, written out.

Every entry has an answer, the file to read, a command that shows it, and a number with the test that holds it;
tests/scripts/test_ask.py holds the entries.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import UserError

FILE = Path(__file__).parent.parent / "docs" / "questions.yaml"
RUN = "outputs/<date>/<run>/"  # in a second command: the run that the first one made
MARGIN = 12  # characters before what is told of an entry
WORD = re.compile(r"""(?:[^\s"]|"[^"]*")+""")

Question = Mapping[str, Any]


def load() -> list[Question]:
    """All entries, in the order of their numbers."""
    return list(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def numbered(word: str, questions: Sequence[Question]) -> Question:
    """The entry of a number as it was typed. Raises UserError where there is none."""
    for question in questions:
        if word == str(question["number"]):
            return question
    raise UserError(f"There is no question {word}; there are 1 to {len(questions)}: python scripts/ask.py lists them.")


def about(word: str, questions: Sequence[Question]) -> list[Question]:
    """Those whose title or answer has the word, in whatever case. Raises UserError where none has."""
    wanted = word.lower()
    found = [q for q in questions if wanted in " ".join(q[k] for k in ("title", "answer", "wrong") if k in q).lower()]
    if not found:
        raise UserError(f"No title or answer has '{word}'; python scripts/ask.py lists all {len(questions)} questions.")
    return found


def commands(question: Question) -> list[str]:
    """What shows the answer: one command, or two in their order."""
    return [question[key] for key in ("command", "then") if key in question]


def proofs(question: Question) -> list[str]:
    """Further tests that hold what the answer says."""
    found = question.get("proof", [])
    return [found] if isinstance(found, str) else list(found)


def titles(questions: Sequence[Question]) -> str:
    """One line for each."""
    return "\n".join(f"{question['number']:>2}  {question['title']}" for question in questions)


def typed(command: str, width: int) -> list[str]:
    """The lines of a command, broken between its words as a shell takes it."""
    lines = [""]
    for word in WORD.findall(command):
        if lines[-1] and len(lines[-1]) + len(word) + 3 > width:
            lines.append("    " + word)
        else:
            lines[-1] = f"{lines[-1]} {word}".lstrip(" ") if len(lines) == 1 else f"{lines[-1]} {word}"
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def named(test: str, width: int) -> list[str]:
    """The address of a test, in two lines where one is too narrow."""
    file, _, name = test.partition("::")
    return [test] if len(test) <= width or not name else [file, f"::{name}"]


def told(question: Question, width: int = 100) -> str:
    """The entry as a reader sees it, in lines of so many characters; a name that is longer stays in one piece."""
    room = width - MARGIN

    def prose(text: str, hanging: str = "") -> list[str]:
        return textwrap.wrap(
            text,
            room,
            break_long_words=False,
            break_on_hyphens=False,
            initial_indent=hanging[:4],
            subsequent_indent=hanging,
        )

    answer = textwrap.wrap(question["answer"], width, break_on_hyphens=False)
    lines = [f"{question['number']}  {question['title']}", "", *answer, ""]
    parts: list[tuple[str, list[str]]] = []
    if "wrong" in question:
        parts.append(("not so", prose(question["wrong"])))
    if "proof" in question:
        parts.append(("proof", [line for test in proofs(question) for line in named(test, room)]))
    parts.append(("read", [question["read"]]))
    for name, command in zip(("command", "then"), commands(question), strict=False):
        parts.append((name, typed(command, room)))
    if "minutes" in question:
        parts.append(("takes", [f"about {question['minutes']} minutes on one core"]))
    parts.append(("look at", prose(question["shows"])))
    held = question["asserted"]
    parts.append(("number", prose(held["text"])))
    parts.append(
        ("held by", [*named(held["test"], room), *(piece for line in held["lines"] for piece in prose(line, " " * 8))])
    )
    if "see" in question:
        parts.append(("notebook", [question["see"]]))
    if "missing" in question:
        parts.append(("missing", prose(question["missing"])))
    for name, content in parts:
        lines += labelled(name, content)
    return "\n".join(lines)


def labelled(name: str, content: Sequence[str]) -> list[str]:
    """A part of an entry: its name before the first line."""
    return [f"{label:<{MARGIN}}{line}" for label, line in zip([name, *[""] * len(content)], content, strict=False)]
