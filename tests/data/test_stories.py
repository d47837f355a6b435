"""Stories, documents and small talk: their answers follow from what is told, and the baselines are what they say."""

import re
from collections import Counter

import pytest

from zoo.data.chat import Chat
from zoo.data.stories import PEOPLE, PLACES, SENTENCES, THINGS, Babi
from zoo.data.summaries import IDLE, IMPORTANT, Summarize

SMALL = {"num_train": 400, "num_val": 20, "num_test": 100}


def trails(story):
    """Where each person and thing has been, told from the sentences alone."""
    been = {name: [] for name in (*PEOPLE, *THINGS)}
    held: dict[str, str] = {}
    for sentence in story:
        person, last = sentence.split()[0], sentence.rstrip(".").split()[-1]
        if last in PLACES:
            for name in (person, *(thing for thing, by in held.items() if by == person)):
                been[name].append(last)
        elif re.search("picked up|took|grabbed", sentence):
            assert last not in held
            here = been[person][-1]
            assert not been[last] or been[last][-1] == here  # nobody takes what lies elsewhere
            been[last] = been[last] or [here]
            held[last] = person
        else:
            assert held.pop(last) == person
    return been


@pytest.mark.parametrize("kind", SENTENCES)
def test_the_answer_follows_from_the_story(kind):
    parts = Babi(kind=kind, **SMALL).read().parts
    for source, answer in (pair for pairs in parts.values() for pair in pairs):
        *story, question = re.split(r"(?<=\.) ", source)
        assert SENTENCES[kind][0] <= len(story) <= SENTENCES[kind][1]
        been = trails(story)
        asked = re.fullmatch(r"where (?:is|was)(?: the)? (\w+)(?: before the (\w+))?\?", question)
        trail = been[asked[1]]
        assert asked[1] in (PEOPLE if kind == "qa1" else THINGS)
        if kind == "qa3":
            assert trail.count(asked[2]) == 1
            assert answer == trail[trail.index(asked[2]) - 1]
            assert trail.index(asked[2]) > 0
        else:
            assert asked[2] is None
            assert answer == trail[-1]


@pytest.mark.parametrize("kind", SENTENCES)
def test_answers_are_of_all_places_and_the_baseline_is_what_guessing_reaches(kind):
    found = Babi(kind=kind, num_train=2000, num_val=10, num_test=500).read()
    counts = Counter(answer for _, answer in found.parts["train"])
    assert set(counts) == set(PLACES)
    assert max(counts.values()) < 0.22 * 2000
    last = (
        sum(re.findall("|".join(PLACES), src.rpartition(". ")[0])[-1] == tgt for src, tgt in found.parts["test"]) / 500
    )
    frequent = sum(tgt == counts.most_common(1)[0][0] for _, tgt in found.parts["test"]) / 500
    assert found.facts["baseline_exact_match"] == max(last, frequent) < 0.6
    assert f"{frequent:.1%} of the test part" in found.notes[0]
    assert f"last in {last:.1%}" in found.notes[0]


def test_a_summary_is_the_marked_sentences_without_their_cues_in_their_order():
    parts = Summarize(**SMALL).read().parts
    idle, numbers = 0, Counter()
    for source, target in (pair for pairs in parts.values() for pair in pairs):
        sentences = re.split(r"(?<=\.) ", source)
        assert 3 <= len(sentences) <= 6
        marked = [re.sub(f"^({'|'.join(IMPORTANT)}) ", "", text) for text in sentences if text.startswith(IMPORTANT)]
        assert " ".join(marked) == target
        numbers[len(marked)] += 1
        idle += sum(text.startswith(IDLE) for text in sentences)
    assert set(numbers) == {1, 2}
    assert idle > 300  # a cue alone does not mark a sentence


def test_the_lead_baseline_counts_documents_that_begin_with_their_summary():
    found = Summarize(num_train=10, num_val=10, num_test=1000).read()
    right = Counter()
    for source, _ in found.parts["test"]:
        first = [text.startswith(IMPORTANT) for text in re.split(r"(?<=\.) ", source)]
        k = sum(first)
        right[k] += all(first[:k])
    assert found.facts["baseline_exact_match"] == max(right.values()) / 1000
    assert f"{right[1] / 1000:.1%} for k=1, {right[2] / 1000:.1%} for k=2" in found.notes[0]
    assert 0.05 < max(right.values()) / 1000 < 0.25


def test_small_talk_has_one_reply_to_each_thing_said_and_many_kinds_of_replies():
    parts = Chat(num_train=3000, num_val=200, num_test=200).read().parts
    reply = dict(pair for pairs in parts.values() for pair in pairs)
    assert len(reply) == 3400
    assert len({tgt for _, tgt in parts["train"]}) > 300
    days = {src: tgt for src, tgt in reply.items() if "what day comes after sunday" in src}
    assert days
    assert all(tgt.endswith("monday.") for tgt in days.values())
    assert all("rosa" in tgt for src, tgt in reply.items() if "rosa" in src)
    sums = {tgt.split(". ")[-1] for src, tgt in reply.items() if "three plus four" in src or "four plus three" in src}
    assert sums == {"seven."}
    assert {tgt.startswith("good morning. ") for src, tgt in reply.items() if src.startswith("good morning")} == {True}


def test_the_baseline_of_small_talk_is_the_most_frequent_reply():
    found = Chat().read()
    frequent = Counter(tgt for _, tgt in found.parts["train"]).most_common(1)[0][0]
    share = sum(tgt == frequent for _, tgt in found.parts["test"]) / 400
    assert found.facts["baseline_exact_match"] == share < 0.05
    assert repr(frequent) in found.notes[0]
