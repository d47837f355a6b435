"""Words and what stands near them: each pair once, as published, by nothing but seed and epoch."""

from collections import Counter

import pytest
import torch

from zoo.data.skipgrams import DocsWords, FileWords, Nearby, Rules, keep_probability, noise_sums
from zoo.errors import UserError

V = 12


def rules(**changes):
    even = noise_sums(torch.tensor([0, 0, *[1] * (V - 2)]), 1.0)
    return Rules(
        **({"window": 3, "negatives": 4, "bag": False, "keep": torch.ones(V), "noise": even, "seed": 5} | changes)
    )


def numbers(length):
    """A text in which every word is its own place."""
    return torch.arange(2, length + 2, dtype=torch.int32)


def text(length=3000, seed=0):
    return torch.randint(2, V, (length,), generator=torch.Generator().manual_seed(seed), dtype=torch.int32)


def all_of(data, epoch):
    return data.of_epoch(torch.arange(len(data)), epoch)


def corpus(folder, content=None, **settings):
    path = folder / "my.txt"
    path.write_text(content or "The cat sees a dog, and the dog sees: a bird! It's the cat's bird; 'no' dog. " * 30)
    return FileWords(path=str(path), **{"batch_size": 64, "min_count": 1, "subsample": None, **settings})


def seen_by(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return [[part.tolist() for part in batch] for batch in loader]


# ---- pairs


@pytest.mark.parametrize("epoch", [0, 4])
def test_each_pair_comes_once_and_no_further_than_its_window(epoch):
    data = Nearby(numbers(500), rules(keep=torch.ones(502)))
    reading = data.reading(epoch)
    indices = torch.arange(int(reading.ends[-1]))
    batch = data.of_epoch(indices, epoch)
    found = list(zip((batch.center - 2).tolist(), (batch.context - 2).tolist(), strict=True))
    assert len(set(found)) == len(found)
    reach = Counter()
    for center, context in found:
        assert center != context
        reach[center] = max(reach[center], abs(center - context))
    expected = {(i, j) for i in range(500) for j in range(i - reach[i], i + reach[i] + 1) if i != j and 0 <= j < 500}
    assert set(found) == expected, "all within reach, to both sides"
    shares = [list(reach.values()).count(far) / 500 for far in (1, 2, 3)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.08), "how far is drawn evenly"


def test_a_bag_holds_what_the_pairs_of_a_word_hold():
    data, bags = (Nearby(numbers(200), rules(bag=bag, keep=torch.ones(202))) for bag in (False, True))
    pairs = all_of(data, 0)
    near = {}
    for center, context in zip(pairs.center.tolist(), pairs.context.tolist(), strict=True):
        near.setdefault(center, set()).add(context)
    batch = all_of(bags, 0)
    assert (batch.center.shape, len(bags)) == ((200, 6), 200)
    assert {
        int(word): set(bag[bag > 0].tolist()) for bag, word in zip(batch.center, batch.context, strict=True)
    } == near


def test_windows_reach_over_words_that_are_passed_over():
    keep = torch.ones(V)
    keep[3] = 0.0  # every other word
    tokens = torch.tensor([2, 3, 4, 3, 5, 3, 6, 3], dtype=torch.int32)
    batch = all_of(Nearby(tokens, rules(keep=keep, window=1)), 0)
    assert list(zip(batch.center.tolist(), batch.context.tolist(), strict=True)) == [
        (2, 4), (4, 2), (4, 5), (5, 4), (5, 6), (6, 5)
    ]  # fmt: skip


def test_frequent_words_are_passed_over_as_equation_5_says():
    counts = torch.tensor([0, 1, 100, 899])
    assert keep_probability(counts, 0.01).tolist() == pytest.approx([1, 1, (0.01 / 0.1) ** 0.5, (0.01 / 0.899) ** 0.5])
    assert keep_probability(counts, None).tolist() == [1] * 4
    keep = torch.full((V,), 0.25)
    kept = [len(Nearby(text(20_000), rules(keep=keep)).reading(epoch).words) / 20_000 for epoch in (0, 1)]
    assert kept == pytest.approx([0.25] * 2, abs=0.02)
    assert kept[0] != kept[1]


def test_what_is_drawn_by_chance_follows_counts_to_the_power():
    counts = torch.tensor([0, 0, 1, 16, 81])
    sums = noise_sums(counts, 0.75)
    assert sums.tolist() == pytest.approx([0, 0, 1 / 36, 9 / 36, 1])
    data = Nearby(torch.tensor([2, 3, 4] * 1000, dtype=torch.int32), rules(noise=sums, keep=torch.ones(5), negatives=8))
    drawn = all_of(data, 0).negatives
    assert drawn.shape == (len(data), 8)
    shares = torch.bincount(drawn.flatten(), minlength=5) / drawn.numel()
    assert shares.tolist() == pytest.approx([0, 0, 1 / 36, 8 / 36, 27 / 36], abs=0.01)
    assert torch.equal(drawn[:3], all_of(data, 0).negatives[:3])
    columns = drawn[:2000].double()
    assert torch.corrcoef(columns.T).triu(1).abs().max() < 0.1, "each draw for itself"


@pytest.mark.parametrize("power", [0.0, -0.5])
def test_what_never_came_is_never_drawn_whatever_the_power(power):
    """0^0 is 1, and 0^-1/2 is no number."""
    assert noise_sums(torch.tensor([0, 4, 0, 4]), power).tolist() == [0, 0.5, 0.5, 1]


# ---- order


@pytest.mark.parametrize("bag", [False, True])
def test_a_sample_depends_on_seed_epoch_and_its_number_alone(bag):
    data = Nearby(text(), rules(bag=bag, keep=torch.full((V,), 0.7)))
    whole = all_of(data, 3)
    other = data.of_epoch(torch.tensor([9]), 8)  # another epoch between
    alone = data.of_epoch(torch.tensor([40, 9]), 3)
    for part, found, changed in zip(whole, alone, other, strict=True):
        assert torch.equal(found, part[[40, 9]])
        assert changed.shape == part[[9]].shape
    fresh = Nearby(text(), rules(bag=bag, keep=torch.full((V,), 0.7)))
    assert all(torch.equal(a, b) for a, b in zip(all_of(fresh, 3), whole, strict=True))
    assert not torch.equal(all_of(data, 4).negatives, whole.negatives)
    assert not torch.equal(all_of(data, 4).context, whole.context)
    assert not torch.equal(all_of(Nearby(text(), rules(bag=bag, seed=6)), 3).negatives[:99], whole.negatives[:99])


def test_every_epoch_has_as_many_samples_though_it_finds_more_or_fewer_pairs():
    data = Nearby(text(400), rules(keep=torch.full((V,), 0.5)))
    totals = [int(data.reading(epoch).ends[-1]) for epoch in range(12)]
    assert min(totals) < len(data) == totals[0] < max(totals)
    for epoch in (totals.index(min(totals)), totals.index(max(totals))):
        batch = all_of(data, epoch)
        assert len(batch.center) == len(data)
        again = batch.context[totals[epoch] :]  # none where there are more pairs
        assert torch.equal(again, batch.context[: len(again)]), "it begins again"
    assert len(data) - min(totals) > 9


@pytest.mark.parametrize("bag", [False, True])
def test_epochs_draw_anew_and_an_interrupted_one_goes_on(tmp_path, bag):
    loader = corpus(tmp_path, bag=bag).train_dataloader()
    whole = seen_by(loader, 5)
    assert len(whole) == len(loader) > 3
    again = corpus(tmp_path, bag=bag).train_dataloader()
    again.load_state_dict({"batches_done": 3})
    assert seen_by(again, 5) == whole[3:]
    assert seen_by(loader, 6) != whole
    judged = corpus(tmp_path, bag=bag).val_dataloader()
    assert seen_by(judged, 0) == seen_by(judged, 7)


def test_pairs_are_made_by_the_rules_that_are_asked_for(tmp_path):
    data = corpus(tmp_path, window=3, negatives=2, noise_power=0.5, subsample=0.1, seed=9)
    rules, counts = data.part("train").rules, torch.tensor(data.prepare().preprocessing["counts"])
    assert (rules.window, rules.negatives, rules.bag, rules.seed) == (3, 2, False, 9)
    assert torch.equal(rules.noise, noise_sums(counts, 0.5))
    assert torch.equal(rules.keep, keep_probability(counts, 0.1))


# ---- text


def test_signs_are_no_words_and_the_vocabulary_begins_with_padding(tmp_path):
    data = corpus(tmp_path, shares=(1.0, 0.0, 0.0))
    loaded = data.prepare()
    tokens = data.tokenizer.tokens
    assert tokens[:2] == ["<pad>", "<unk>"]
    assert sorted(tokens[2:]) == ["a", "and", "bird", "cat", "cat's", "dog", "it's", "no", "sees", "the"]
    assert loaded.facts == {"num_words": 12, "num_targets": 6}
    counts = dict(zip(tokens, loaded.preprocessing["counts"], strict=True))
    assert (counts["dog"], counts["the"], counts["no"], counts["<unk>"]) == (90, 90, 30, 0)
    again = corpus(tmp_path, "a dog or a cat " * 4, shares=(1.0, 0.0, 0.0))
    again.prepare_as(loaded.preprocessing)
    assert again.prepare().preprocessing == loaded.preprocessing
    assert again.prepare().notes[0] == "train: 4 of 20 words are not in the vocabulary and are left out"


def test_rare_words_are_left_out_and_windows_close_over_them(tmp_path):
    content = "one two three " * 20 + "rare one two "
    data = corpus(tmp_path, content, min_count=5, shares=(1.0, 0.0, 0.0))
    assert data.tokenizer is None
    part = data.part("train")
    assert data.tokenizer.tokens[2:] == ["one", "two", "three"]
    assert part.tokens[-3:].tolist() == [4, 2, 3]
    assert "train: 1 of 63 words are not in the vocabulary and are left out" in data.prepare().notes


def test_a_fraction_is_the_beginning_and_overfitting_is_on_one_batch(tmp_path):
    whole, half = corpus(tmp_path), corpus(tmp_path, fraction=0.5)
    number = len(half.part("train").tokens)
    assert torch.equal(half.part("train").tokens, whole.part("train").tokens[:number])
    assert half.prepare().preprocessing == whole.prepare().preprocessing
    one = corpus(tmp_path, overfit=True)
    loader = one.train_dataloader()
    assert (len(loader), len(one.part("train"))) == (1, 64)
    assert sorted(map(str, zip(*seen_by(loader, 0)[0], strict=True))) == sorted(
        map(str, zip(*seen_by(loader, 1)[0], strict=True))
    )
    assert one.part("val") is one.part("train")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"negatives": 0}, "data.negatives=0 must be a whole number from 1 on"),
        ({"subsample": 0}, "data.subsample=0 must be above 0 and at most 1, or null"),
        ({"min_count": 0}, "data.min_count=0 must be a whole number from 1 on"),
        ({"window": 0}, "data.window=0 must be a whole number from 1 on"),
        ({"min_count": 999}, "data.min_count=999 leaves fewer than two words"),
        ({"content": "!!! ... " * 9}, "training part is empty"),
    ],
)
def test_what_gives_no_pairs_is_one_line(tmp_path, settings, told):
    with pytest.raises(UserError, match=told) as error:
        corpus(tmp_path, **settings).prepare()
    assert "\n" not in str(error.value)


def test_a_checkpoint_that_counts_no_words_is_refused(tmp_path):
    data = corpus(tmp_path)
    data.prepare_as({"kind": "running_text", "tokenizer": {"kind": "word", "tokens": ["<pad>", "<unk>", "the", "cat"]}})
    with pytest.raises(UserError, match="it counts none"):
        data.prepare()


def test_a_text_of_hardly_a_word_still_has_pairs():
    data = Nearby(torch.full((50,), 3, dtype=torch.int32), rules(keep=torch.full((V,), 1e-6)))
    assert len(data) > 50


def test_the_language_reference_has_words():
    loaded = DocsWords().prepare()
    assert loaded.facts["num_words"] > 500
    assert "samples an epoch" in loaded.notes[-1]
