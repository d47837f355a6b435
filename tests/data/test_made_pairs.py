"""Made pairs: right by their own arithmetic, other in each part, the same for the same seed."""

import datetime
import re

import pytest

from zoo.data.chat import Chat
from zoo.data.made_pairs import MONTHS, Addition, Dates, Reverse, spellings
from zoo.data.stories import Babi
from zoo.data.summaries import Summarize
from zoo.errors import UserError

SMALL = {"num_train": 300, "num_val": 40, "num_test": 50}
KINDS = [Reverse, Dates, Addition, Babi, Summarize, Chat]


def read(kind, **options):
    return kind(**SMALL | options).read().parts


@pytest.mark.parametrize("kind", KINDS)
def test_no_source_stands_twice_and_none_of_validation_or_test_in_training(kind):
    parts = read(kind)
    assert [len(parts[name]) for name in ("train", "val", "test")] == [300, 40, 50]
    sources = [src for pairs in parts.values() for src, _ in pairs]
    assert len(set(sources)) == 390
    answer: dict[str, str] = {}
    for src, tgt in (pair for pairs in read(kind, seed=1).values() for pair in pairs):
        assert answer.setdefault(src, tgt) == tgt


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_makes_the_pairs_and_no_part_depends_on_anothers_size(kind):
    first = read(kind)
    assert first == read(kind) != read(kind, seed=1)
    larger = read(kind, num_train=330, num_test=60)
    assert larger["val"] == first["val"]
    assert larger["test"][:50] == first["test"]
    assert larger["train"][:300] == first["train"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_and_letter_of_validation_and_test_is_known(kind):
    data = kind(num_train=3000, num_val=100, num_test=100)
    assert not [note for note in data.prepare().notes if "<unk>" in note]
    batch = next(iter(data.test_dataloader()))
    for row, i in zip(batch.tgt_out, batch.index.tolist(), strict=True):
        # A model that is right says exactly the reference.
        assert data.tgt_tokenizer.decode([n for n in row.tolist() if n > 3]) == data.references("test")[i]


def test_the_target_is_the_source_backwards():
    pairs = [pair for part in read(Reverse, min_length=2, max_length=6).values() for pair in part]
    assert all(tgt == "".join(reversed(src)) for src, tgt in pairs)
    assert {len(src) for src, _ in pairs} == {2, 3, 4, 5, 6}


def test_the_target_is_the_sum_and_no_sum_stands_in_two_parts_even_turned_round():
    parts = read(Addition, digits=2)
    for pairs in parts.values():
        for src, tgt in pairs:
            first, second = src.split("+")
            assert int(first) + int(second) == int(tgt)
            assert max(len(first), len(second)) <= 2
            assert (str(int(first)), str(int(second))) == (first, second)
    sums = [frozenset(src.split("+")) for pairs in parts.values() for src, _ in pairs]
    assert len(set(sums)) == 390
    lengths = {tuple(sorted(map(len, src.split("+")))) for src, _ in parts["test"]}
    assert lengths == {(1, 1), (1, 2), (2, 2)}


def test_every_spelling_of_a_date_can_be_read_in_one_way_only():
    days = [datetime.date(year, 1, 1) + datetime.timedelta(i) for year in (1950, 1999, 2004, 2049) for i in range(365)]
    meaning: dict[str, datetime.date] = {}
    for day in days:
        found = spellings(day)
        assert len(found) == 21
        assert all(meaning.setdefault(text, day) == day for text in found)
    assert spellings(datetime.date(1979, 5, 3))[5] == "the 3rd of may, 1979"


def meaning_of(text):
    """Year, month and day of a date, read in another way than it was made."""
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    full = re.search(r"\d{4}", text)
    year = int(full[0]) if full else numbers[-1] + (1900 if numbers[-1] >= 50 else 2000)
    rest = [number for number in numbers if number < 1000][:2]
    month = next((i for i, name in enumerate(MONTHS, start=1) if re.search(rf"\b{name[:3]}", text)), None)
    if month is not None:
        return year, month, rest[0]
    return (year, rest[1], rest[0]) if "." in text else (year, *rest)


def test_a_date_means_its_iso_form():
    pairs = [pair for part in read(Dates, num_train=3000).values() for pair in part]
    assert len({re.sub("[a-z]+", "x", re.sub(r"\d", "0", src)) for src, _ in pairs}) > 20
    for src, tgt in pairs:
        assert meaning_of(src) == tuple(map(int, tgt.split("-"))), src
        assert 1950 <= datetime.date.fromisoformat(tgt).year <= 2049
    weekdays = [(src, tgt) for src, tgt in pairs if src[:3] in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")]
    assert len(weekdays) > 100
    names = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    assert all(names[datetime.date.fromisoformat(tgt).weekday()] == src[:3] for src, tgt in weekdays)


def test_asking_for_more_than_there_is_is_one_line():
    with pytest.raises(
        UserError, match=r"data\.num_train=900 is more than there are different samples.*\(\d\d were found\)"
    ):
        Addition(digits=1, num_train=900, num_val=1, num_test=1).prepare()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Addition(digits=0), r"data\.digits=0 must be a whole number from 1 on"),
        (lambda: Reverse(min_length=5, max_length=4), r"data\.max_length=4 must be a whole number from 5 on"),
        (lambda: Dates(num_val=0), r"data\.num_val=0 must be a whole number from 1 on"),
        (lambda: Babi(kind="qa4"), r"no data\.kind=qa4; did you mean .* There is: qa1, qa2, qa3"),
        (lambda: Summarize(max_important=4), r"data\.max_important=4 must be at most data\.min_sentences=3"),
        (lambda: Summarize(max_sentences=2), r"data\.max_sentences=2 must be a whole number from 3 on"),
    ],
)
def test_settings_that_cannot_be_are_one_line(make, said):
    with pytest.raises(UserError, match=said):
        make()
