"""Documents of some sentences of which some are marked as important: the summary is these.

Made from the seed. What marks a sentence is a cue in front of it; other sentences have a cue that says nothing of the
kind, or none, so the words of a cue must be learned, and what follows them must be copied.

Axes: none; all is text
"""

import re
from functools import partial
from random import Random
from typing import Any

from zoo.data.images import check_size
from zoo.data.made_pairs import MadePairs, share_right
from zoo.data.pairs import Found, Pair
from zoo.errors import UserError

IMPORTANT = ("note that", "above all,", "remember that", "most importantly,")
IDLE = ("by the way,", "as usual,", "on the side,", "so it goes:")
WHO = ("the farmer", "the nurse", "a student", "the old sailor", "my neighbour", "a young painter", "the baker")
DID = ("sold", "painted", "repaired", "found", "lost", "cleaned")
WHAT = ("a boat", "the fence", "an old clock", "the blue car", "a letter", "two chairs", "the piano", "a lantern")
WHEN = ("yesterday", "in the morning", "before lunch", "last week", "at night")


def sentence(random: Random) -> str:
    return " ".join(random.choice(words) for words in (WHO, DID, WHAT, WHEN)) + "."


def without_cue(text: str) -> str:
    """A sentence without what may stand in front of it."""
    for cue in (*IMPORTANT, *IDLE):
        text = text.removeprefix(f"{cue} ")
    return text


def lead(document: str, k: int) -> str:
    """The first k sentences as they would stand in a summary."""
    return " ".join(without_cue(text) for text in re.split(r"(?<=\.) ", document)[:k])


class Summarize(MadePairs):
    """Documents with their summaries.

    Taking the first k sentences is the baseline that any summary must beat; the note and the fact
    `baseline_exact_match` say how often that is exactly right in the test part, for the best k.

    Args:
        min_sentences, max_sentences: of a document.
        max_important: of them at most; one at least is.
        num_train, num_val, num_test: see `MadePairs`.
        settings: see `Pairs`.
    """

    number = 4
    sides = ("document", "summary")

    def __init__(
        self,
        *,
        min_sentences: int = 3,
        max_sentences: int = 6,
        max_important: int = 2,
        shared_vocab: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(shared_vocab=shared_vocab, **settings)
        check_size("max_important", max_important, 1)
        check_size("min_sentences", min_sentences, 1)
        check_size("max_sentences", max_sentences, min_sentences)
        if max_important > min_sentences:
            raise UserError(
                f"data.max_important={max_important} must be at most data.min_sentences={min_sentences}, the sentences "
                "of a document."
            )
        self.lengths, self.max_important = (min_sentences, max_sentences), max_important

    def pair(self, random: Random) -> Pair:
        sentences = [sentence(random) for _ in range(random.randint(*self.lengths))]
        important = sorted(random.sample(range(len(sentences)), random.randint(1, self.max_important)))
        document = []
        for i, text in enumerate(sentences):
            cue = random.choice(IMPORTANT) if i in important else random.choice((*IDLE, "", "", ""))
            document.append(f"{cue} {text}".strip())
        return " ".join(document), " ".join(sentences[i] for i in important)

    def read(self) -> Found:
        found = super().read()
        test = found.parts["test"]
        shares = [share_right(test, partial(lead, k=k)) for k in range(1, self.max_important + 1)]
        said = ", ".join(f"{share:.1%} for k={k}" for k, share in enumerate(shares, start=1))
        found.notes.append(f"Without a model: the first k sentences are exactly the summary in the test part in {said}")
        found.facts["baseline_exact_match"] = max(shares)
        return found
