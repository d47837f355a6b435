"""Errors that a user can cause and mend. Each is one line that says what is wrong and what to do."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. Commands print the message alone, without a traceback, and end with exit status 2."""


def suggest(word: object, options: Iterable[object]) -> str:
    """The end of a message about an unknown `word`: a did-you-mean where one is near, then what there is."""
    names = sorted(str(option) for option in options)
    by_lower_case = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(word).lower(), by_lower_case, n=1, cutoff=0.6)
    hint = f"; did you mean '{by_lower_case[near[0]]}'?" if near else "."
    return f"{hint} There is: {', '.join(names) or 'nothing'}."
