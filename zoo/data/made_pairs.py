"""Pairs that are made from the seed: strings and their reverse, dates as people write them, sums.

Nothing is downloaded, each target follows from its source alone, and no source of validation or test is in training, so
what a model has learned by heart does not count.

Axes: N pairs of a part
"""

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from random import Random
from typing import Any, ClassVar

from zoo.data.base import PARTS
from zoo.data.images import check_size
from zoo.data.pairs import Found, Pair, Pairs, Part
from zoo.errors import UserError

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TRIES = 10_000  # samples in a row without a new one, after which there seem to be no more

MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november"),
    "december",
)
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
FIRST_DAY, NUM_DAYS = date(1950, 1, 1), 36_525  # so that two digits of a year say which one: up to 31 December 2049


def part_of(key: str, seed: int) -> str:
    """The part that a sample belongs to, by chance and for good: one in ten to test, one in ten to validation."""
    digest = hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest()
    return {0: "test", 1: "val"}.get(int.from_bytes(digest, "big") % 10, "train")


def share_right(pairs: Part, answer: Callable[[str], str]) -> float:
    """The share of sources whose answer is exactly the target."""
    return sum(answer(source) == target for source, target in pairs) / len(pairs)


def most_frequent(pairs: Part) -> str:
    """The target that stands there most often."""
    return Counter(target for _, target in pairs).most_common(1)[0][0]


class MadePairs(Pairs):
    """Base of what is made from the seed: a subclass makes one pair from random numbers.

    Whatever the sizes, a sample can stand in one part only, so each part has its share of all kinds of samples.

    Args:
        num_train, num_val, num_test: different pairs of each part.
        settings: see `Pairs`.
    """

    number: ClassVar[int]  # tells the problems' random numbers apart

    def __init__(self, *, num_train: int = 10_000, num_val: int = 1000, num_test: int = 1000, **settings: Any) -> None:
        super().__init__(**settings)
        self.sizes = dict(zip(PARTS, (num_train, num_val, num_test), strict=True))
        for part, size in self.sizes.items():
            check_size(f"num_{part}", size, 1)

    @abstractmethod
    def pair(self, random: Random) -> Pair:
        """One source with its target."""

    def key(self, pair: Pair) -> str:
        """What no two pairs may share."""
        return pair[0]

    def read(self) -> Found:
        """One stream of samples, each for the part that it belongs to, until all parts are full."""
        random, seen = Random(f"{self.seed}, {self.number}"), set[str]()
        parts: dict[str, Part] = {part: [] for part in PARTS}
        missing, misses = set(PARTS), 0
        while missing:
            pair, misses = self.pair(random), misses + 1
            key = self.key(pair)
            part = "" if key in seen else part_of(key, self.seed)
            if part in missing:
                seen.add(key)
                parts[part].append(pair)
                missing -= {part} if len(parts[part]) == self.sizes[part] else set()
                misses = 0
            elif misses > TRIES:
                part = min(missing, key=PARTS.index)
                raise UserError(
                    f"data.num_{part}={self.sizes[part]} is more than there are different samples of this kind for the "
                    f"{part} part ({len(parts[part]):,} were found); ask for fewer, or for larger samples."
                )
        return Found(parts)


class Reverse(MadePairs):
    """Strings of letters, to be said backwards.

    Args:
        min_length, max_length: letters of a string.
        num_train, num_val, num_test: see `MadePairs`.
        settings: see `Pairs`.
    """

    number = 0
    sides = ("string", "reversed string")

    def __init__(self, *, min_length: int = 3, max_length: int = 12, tokenizer: str = "char", **settings: Any) -> None:
        super().__init__(tokenizer=tokenizer, **settings)
        check_size("min_length", min_length, 1)
        check_size("max_length", max_length, min_length)
        self.min_length, self.max_length = min_length, max_length

    def pair(self, random: Random) -> Pair:
        string = "".join(random.choices(LETTERS, k=random.randint(self.min_length, self.max_length)))
        return string, string[::-1]


def ordinal(number: int) -> str:
    """1 -> 1st, 12 -> 12th, 23 -> 23rd."""
    teen = 10 < number % 100 < 14
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def spellings(day: date) -> list[str]:
    """All ways in which this file writes a date; each can be read in one way only."""
    d, m, y = day.day, day.month, day.year
    month, weekday = MONTHS[m - 1], DAYS[day.weekday()]
    short, short_day = month[:3], weekday[:3]
    return [
        f"{d} {month} {y}",
        f"{d} {short} {y}",
        f"{d} {short} {y % 100:02}",
        f"{d:02} {short} {y}",
        f"{ordinal(d)} of {month} {y}",
        f"the {ordinal(d)} of {month}, {y}",
        f"{month} {d}, {y}",
        f"{month} {ordinal(d)}, {y}",
        f"{short} {d}, {y}",
        f"{short}. {d} '{y % 100:02}",
        f"{weekday}, {d} {month} {y}",
        f"{weekday}, {month} {d}, {y}",
        f"{short_day} {d} {short} {y}",
        f"{short_day}, {short} {d} {y % 100:02}",
        f"{d}.{m}.{y}",  # with points the day comes first,
        f"{d:02}.{m:02}.{y % 100:02}",
        f"{m}/{d}/{y}",  # with strokes the month
        f"{m:02}/{d:02}/{y % 100:02}",
        f"{y}/{m:02}/{d:02}",
        f"{d}-{short}-{y}",
        f"{y} {month} {d}",
    ]


class Dates(MadePairs):
    """Dates of 1950 to 2049 as people write them, to ISO 8601: "the 3rd of may, 1979" -> "1979-05-03".

    Two digits of a year stand for one of that span. With points the day comes first, with strokes the month.

    Args:
        num_train, num_val, num_test: see `MadePairs`.
        settings: see `Pairs`.
    """

    number = 1
    sides = ("date", "ISO date")

    def __init__(self, *, tokenizer: str = "char", **settings: Any) -> None:
        super().__init__(tokenizer=tokenizer, **settings)

    def pair(self, random: Random) -> Pair:
        day = FIRST_DAY + timedelta(days=random.randrange(NUM_DAYS))
        return random.choice(spellings(day)), day.isoformat()


class Addition(MadePairs):
    """Sums of two numbers: "123+45" -> "168".

    Zaremba and Sutskever, "Learning to execute", 2014 (arXiv 1410.4615), section 4.1. Each number is below
    10, 100, ... or 10^digits, every bound as likely, so short ones are a little more frequent than long ones. No sum
    stands in two parts, not even with its numbers exchanged.

    Args:
        digits: of each number at most.
        num_train, num_val, num_test: see `MadePairs`.
        settings: see `Pairs`.
    """

    number = 2
    sides = ("sum", "result")

    def __init__(self, *, digits: int = 3, tokenizer: str = "char", num_train: int = 45_000, **settings: Any) -> None:
        super().__init__(tokenizer=tokenizer, num_train=num_train, **settings)
        check_size("digits", digits, 1)
        self.digits = digits

    def pair(self, random: Random) -> Pair:
        first, second = (random.randrange(10 ** random.randint(1, self.digits)) for _ in range(2))
        return f"{first}+{second}", str(first + second)

    def key(self, pair: Pair) -> str:
        return "+".join(sorted(pair[0].split("+")))
