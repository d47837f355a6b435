"""Small worlds told in sentences, and a question that they answer with one word.

People walk between places, pick things up and put them down. How many sentences bear on the answer is what makes it
hard. In the manner of the first three tasks of Weston et al., "Towards AI-complete question answering: a set of
prerequisite toy tasks", 2015 (arXiv 1502.05698), with sentences of our own and shorter stories:

    qa1  one supporting fact      where is a person?             the last move of that person
    qa2  two supporting facts     where is a thing?              who took or left it, and where that person went
    qa3  three supporting facts   where was a thing before it came to a place?

Axes: none; all is text
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from zoo.data.made_pairs import MadePairs, most_frequent, share_right
from zoo.data.pairs import Found, Pair
from zoo.errors import UserError, suggest

PEOPLE = ("anna", "ben", "clara", "david")
PLACES = ("kitchen", "garden", "office", "bathroom", "bedroom", "hallway")
THINGS = ("apple", "book", "lamp", "ball")
MOVES = ("went to", "walked to", "ran to", "moved to")
TAKES = ("picked up", "took", "grabbed")
LEAVES = ("put down", "dropped", "left")
SENTENCES = {"qa1": (2, 8), "qa2": (4, 10), "qa3": (6, 12)}  # of a story, fewest and most


@dataclass
class World:
    """Who and what is where, and what was told of it.

    Attributes:
        place: of each person who has moved.
        holder: of each thing that is carried.
        trail: the places of each thing, the present one last.
        told: the sentences.
    """

    place: dict[str, str] = field(default_factory=dict)
    holder: dict[str, str] = field(default_factory=dict)
    trail: dict[str, list[str]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def move(self, random: Random) -> None:
        person = random.choice(PEOPLE)
        place = random.choice([place for place in PLACES if place != self.place.get(person)])
        self.place[person] = place
        for thing, holder in self.holder.items():
            if holder == person:
                self.trail[thing].append(place)
        self.told.append(f"{person} {random.choice(MOVES)} the {place}.")

    def take(self, random: Random) -> None:
        """Somebody takes a thing that lies where they are, or that nobody has spoken of; else nothing happens."""
        can = [
            (person, thing)
            for person, place in self.place.items()
            for thing in THINGS
            if thing not in self.holder and self.trail.get(thing, [place])[-1] == place
        ]
        if can:
            person, thing = random.choice(can)
            self.holder[thing] = person
            self.trail.setdefault(thing, [self.place[person]])
            self.told.append(f"{person} {random.choice(TAKES)} the {thing}.")

    def leave(self, random: Random) -> None:
        """Somebody puts down what they carry; else nothing happens."""
        if self.holder:
            thing, person = random.choice(list(self.holder.items()))
            del self.holder[thing]
            self.told.append(f"{person} {random.choice(LEAVES)} the {thing}.")

    def questions(self, kind: str) -> list[Pair]:
        """All questions of a kind that the story answers, each with its answer."""
        if kind == "qa1":
            return [(f"where is {person}?", place) for person, place in self.place.items()]
        if kind == "qa2":
            return [(f"where is the {thing}?", trail[-1]) for thing, trail in self.trail.items()]
        return [
            (f"where was the {thing} before the {trail[i]}?", trail[i - 1])
            for thing, trail in self.trail.items()
            for i in range(1, len(trail))
            if trail.count(trail[i]) == 1  # else it is not clear which time is meant
        ]


def story(kind: str, random: Random) -> Pair:
    """A story with a question, and the answer."""
    shortest, longest = SENTENCES[kind]
    while True:
        world, length = World(), random.randint(shortest, longest)
        events = [world.move] if kind == "qa1" else [world.move, world.move, world.take, world.take, world.leave]
        while len(world.told) < length:
            random.choice(events)(random)
        questions = world.questions(kind)
        if questions:
            question, answer = random.choice(questions)
            return f"{' '.join(world.told)} {question}", answer


def last_place(source: str) -> str:
    """The place that a story names last, its question aside."""
    told = source.rpartition(". ")[0]
    return max(PLACES, key=told.rfind)


class Babi(MadePairs):
    """Stories with a question, made from the seed.

    Whoever answers the place that was named last is right in a known share of the test part; the note and the fact
    `baseline_exact_match` say in which.

    Args:
        kind: "qa1", "qa2" or "qa3".
        num_train, num_val, num_test: see `MadePairs`.
        settings: see `Pairs`.
    """

    number = 3
    sides = ("story and question", "answer")

    def __init__(self, *, kind: str = "qa1", **settings: Any) -> None:
        super().__init__(**settings)
        if kind not in SENTENCES:
            raise UserError(f"There is no data.kind={kind}{suggest(kind, SENTENCES)}")
        self.kind = kind

    def pair(self, random: Random) -> Pair:
        return story(self.kind, random)

    def read(self) -> Found:
        found = super().read()
        train, test = found.parts["train"], found.parts["test"]
        frequent = most_frequent(train)
        always, last = share_right(test, lambda _: frequent), share_right(test, last_place)
        found.notes.append(
            f"Without a model: '{frequent}' is right in {always:.1%} of the test part, the place named last in "
            f"{last:.1%}"
        )
        found.facts["baseline_exact_match"] = max(always, last)
        return found
