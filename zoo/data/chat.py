"""Dialogue as pairs of what is said and what is answered: the user's own, or small talk made from templates.

Every reply of the small talk follows from what was said, so that it can be counted whether a model gives it. It is not
more than that: nothing is remembered from one pair to the next.

Axes: none; all is text
"""

from collections.abc import Sequence
from random import Random
from typing import Any

from zoo.data.made_pairs import MadePairs, most_frequent, share_right
from zoo.data.pair_files import Layout, checked_shares, read_table, remarks, shared_out
from zoo.data.pairs import Found, Pair
from zoo.errors import UserError

NAMES = (
    *("anna", "ben", "carla", "daniel", "emma", "felix", "greta", "henry", "ida", "jonas", "kim", "laura", "max"),
    *("nora", "oscar", "paula", "rosa", "simon", "tom", "vera"),
)
CITIES = ("berlin", "cairo", "delhi", "lima", "london", "madrid", "oslo", "paris", "rome", "tokyo", "vienna", "zurich")
LIKED = (
    *("apples", "books", "cats", "chess", "coffee", "dogs", "films", "football", "music", "painting", "rain", "tea"),
    *("swimming", "trains", "winter"),
)
GLAD = ("happy", "well", "fine", "cheerful", "great")
SAD = ("sad", "tired", "ill", "bored", "lonely")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
OPPOSITES = {"big": "small", "cold": "warm", "dark": "light", "early": "late", "fast": "slow", "high": "low"}

# What may stand in front of what is said, with what the reply then begins with; and what may stand behind it.
OPENINGS = {
    **{"": "", "hello, ": "hello. ", "hi, ": "hello. ", "hey, ": "hello. "},
    **{"good morning, ": "good morning. ", "good evening, ": "good evening. "},
}
ENDINGS = ("", ", my friend", ", by the way")

# Fields are filled with the same word on both sides.
STATEMENTS: tuple[tuple[tuple[str, ...], str, Sequence[str]], ...] = (
    (("my name is {}", "i am called {}", "please call me {}"), "nice to meet you, {}.", NAMES),
    (("i live in {}", "i come from {}", "my home is in {}"), "is it nice to live in {}?", CITIES),
    (("i like {}", "i love {}", "i enjoy {}"), "what do you like about {}?", LIKED),
    (("i do not like {}", "i hate {}"), "what is wrong with {}?", LIKED),
    (("i am {} today", "i feel {}"), "i am glad to hear that.", GLAD),
    (("i am {} today", "i feel {}"), "i am sorry to hear that.", SAD),
    (("thank you", "thanks a lot"), "you are welcome.", ("",)),
    (("goodbye", "see you later", "i have to go"), "goodbye. it was nice to talk to you.", ("",)),
)
QUESTIONS: tuple[tuple[tuple[str, ...], str, Sequence[str]], ...] = (
    (("do you like {}", "what do you think of {}"), "i have only read about {}.", LIKED),
    (("have you been to {}", "do you know {}"), "no, but i would like to see {}.", CITIES),
    (("do you know {}", "have you met {}"), "no, who is {}?", NAMES),
    (("what is your name", "who are you"), "i am a small network.", ("",)),
    (("how are you", "how do you feel"), "i am well, thank you.", ("",)),
)


def small_talk(random: Random) -> Pair:
    """Something that is said, and the reply."""
    opening, ending = random.choice(list(OPENINGS)), random.choice(ENDINGS)
    topic = random.randrange(10)
    if topic < 5:
        forms, reply, words = random.choice(STATEMENTS)
        sign = "."
    elif topic < 8:
        forms, reply, words = random.choice(QUESTIONS)
        sign = "?"
    else:
        said, answer = fact(random)
        return f"{opening}{said}{ending}?", f"{OPENINGS[opening]}{answer}."
    word = random.choice(words)
    return f"{opening}{random.choice(forms).format(word)}{ending}{sign}", f"{OPENINGS[opening]}{reply.format(word)}"


def fact(random: Random) -> Pair:
    """A question that has one right answer."""
    kind = random.randrange(4)
    if kind == 0:
        i = random.randrange(len(DAYS))
        return random.choice(
            [(f"what day comes after {DAYS[i]}", DAYS[(i + 1) % 7]), (f"what day comes before {DAYS[i]}", DAYS[i - 1])]
        )
    if kind == 1:
        word, other = random.choice(sorted(OPPOSITES.items()))
        return f"what is the opposite of {word}", other
    first, second = random.randrange(7), random.randrange(7)
    return f"what is {NUMBERS[first]} plus {NUMBERS[second]}", NUMBERS[first + second]


class Chat(MadePairs):
    """Small talk, or the user's own dialogue.

    Args:
        path: a table with what is said and the reply, as `zoo.data.pair_files` reads it; None makes small talk.
        shares: of train, val and test in that table.
        separator, encoding, header, src_column, tgt_column: of that table; see `PairFiles`.
        num_train, num_val, num_test: of small talk; see `MadePairs`.
        settings: see `Pairs`.
    """

    number = 5
    sides = ("said", "reply")

    def __init__(
        self,
        *,
        path: str | None = None,
        shares: Sequence[float] = (0.8, 0.1, 0.1),
        separator: str | None = None,
        encoding: str = "utf-8-sig",
        header: bool | None = None,
        src_column: int | str | None = None,
        tgt_column: int | str | None = None,
        num_train: int = 4000,
        num_val: int = 400,
        num_test: int = 400,
        **settings: Any,
    ) -> None:
        super().__init__(num_train=num_train, num_val=num_val, num_test=num_test, **settings)
        checked_shares(shares)
        self.path, self.shares = path, shares
        self.layout = Layout(separator, encoding, header, src_column, tgt_column)

    def pair(self, random: Random) -> Pair:
        return small_talk(random)

    def read(self) -> Found:
        if self.path is None:
            found = super().read()
        else:
            pairs, notes = read_table(self.path, self.layout)
            parts = shared_out(pairs, self.shares, seed=self.seed)
            if "train" not in parts:
                raise UserError(f"{self.path} has too few pairs for a training part; add some, or change data.shares.")
            found = Found(parts, notes + remarks(parts, self.shares))
        test = found.parts.get("test")
        if test:
            frequent = most_frequent(found.parts["train"])
            share = share_right(test, lambda _: frequent)
            found.notes.append(
                f"Without a model: always replying {frequent!r} is right in {share:.1%} of the test part"
            )
            found.facts["baseline_exact_match"] = share
        return found
