"""Errors that a user can cause and mend. Each is one line that says what is wrong and what to do."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Bad input. Commands print the message alone, without a traceback, and end with exit status 2."""


LONGEST_LIST = 400  # characters


def suggest(word: object, options: Iterable[object]) -> str:
    """The end of a message about an unknown `word`: a did-you-mean where one is near, then what there is.

    Of options in folders, as pathology/overfitting, those are listed that lie where the word does, folders first.
    """
    names = sorted(str(option) for option in options)
    by_lower_case = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(word).lower(), by_lower_case, n=1, cutoff=0.6)
    hint = f"; did you mean '{by_lower_case[near[0]]}'?" if near else "."
    place = str(word).rpartition("/")[0] + "/"
    place = place if any(name.startswith(place) for name in names) else ""
    parts = [name.removeprefix(place).partition("/") for name in names if name.startswith(place)]
    beside = sorted({place + name + slash for name, slash, _ in parts}, key=lambda name: (name[-1:] != "/", name))
    return f"{hint} There is: {listed(beside) or 'nothing'}."


def listed(names: Sequence[str]) -> str:
    """The names, cut where the list gets long."""
    kept = [name for i, name in enumerate(names) if len(", ".join(names[: i + 1])) <= LONGEST_LIST]
    left = len(names) - len(kept)
    return ", ".join(kept) + (f" and {left} more" if left else "")
