"""Decoding: the filters keep what they say, draws follow the distribution, searches find what is likeliest."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn

from zoo import decoding
from zoo.beam import largest
from zoo.decoding import (
    beam_search,
    distribution,
    greedy,
    keep_top_k,
    keep_top_p,
    leave_out,
    noise_for,
    pick,
    reordered,
    sample,
    step_of,
)
from zoo.errors import UserError
from zoo.models.gru import GRU
from zoo.models.lstm import LSTM
from zoo.models.rnn import RNN
from zoo.models.seq2seq import Seq2Seq
from zoo.models.transformer import Transformer

VOCABULARY = 7


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def logits_of(*probabilities):
    return torch.tensor([probabilities], dtype=torch.float64).log()


def network(kind=LSTM, seed=0, **settings):
    torch.manual_seed(seed)
    sizes = {"vocab_size": VOCABULARY, "num_outputs": VOCABULARY, "embedding_dim": 5, "hidden_size": 6, "num_layers": 2}
    return kind(head="next_step", recurrent_init="uniform", **(sizes | settings)).eval()


def table_step(seed=0, num_tokens=VOCABULARY):
    """What comes next depends on the last token alone."""
    table = 2 * torch.randn(num_tokens, num_tokens, generator=seeded(seed))
    return lambda tokens, state: (table[tokens[:, -1]], state)


def constant_step(logits):
    return lambda tokens, state: (logits.expand(len(tokens), -1), state)


@pytest.mark.parametrize("k", [1, 2, 5, 6, 100])
def test_top_k_keeps_k_the_largest_ones_as_they_are(k):
    logits = torch.randn(4, 6, generator=seeded())
    kept = keep_top_k(logits, k)
    alive = kept.isfinite()
    assert alive.sum(1).tolist() == [min(k, 6)] * 4
    assert kept[alive].equal(logits[alive])
    for row in range(4):
        assert set(logits[row].argsort(descending=True)[:k].tolist()) == set(alive[row].nonzero()[:, 0].tolist())


def test_top_k_keeps_k_also_of_equal_ones():
    assert keep_top_k(torch.zeros(1, 6), 2).isfinite().sum() == 2


@pytest.mark.parametrize(
    ("p", "kept"),
    [
        (0.01, {2}),
        (0.39, {2}),
        (0.41, {2, 0}),
        (0.69, {2, 0}),
        (0.71, {2, 0, 3}),
        (0.96, {0, 1, 2, 3}),
        (1, {0, 1, 2, 3}),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(p, kept):
    logits = logits_of(0.3, 0.05, 0.4, 0.25)
    filtered = keep_top_p(logits, p)
    alive = filtered[0].isfinite()
    assert set(alive.nonzero()[:, 0].tolist()) == kept
    assert filtered[0, alive].equal(logits[0, alive])


def test_top_p_is_the_smallest_set_in_every_row_of_many():
    logits = 3 * torch.randn(50, 40, generator=seeded(), dtype=torch.float64)
    shares, alive = logits.softmax(1), keep_top_p(logits, 0.8).isfinite()
    for share, keep in zip(shares, alive, strict=True):
        assert share[keep].sum() >= 0.8  # it reaches p,
        assert share[keep].sum() - share[keep].min() < 0.8  # not without its least,
        assert share[keep].min() >= share[~keep].max()  # and nothing larger is left out


def test_what_is_kept_is_renormalized():
    logits = logits_of(0.1, 0.2, 0.3, 0.4)
    torch.testing.assert_close(distribution(logits, top_k=2), torch.tensor([[0, 0, 3 / 7, 4 / 7]]).double())
    torch.testing.assert_close(distribution(logits, top_p=0.75), torch.tensor([[0, 2, 3, 4]]).double() / 9)


def test_top_p_is_taken_of_what_top_k_has_left():
    # Of (.4, .3) alone the first has .571, enough for .55; of all four it would take two.
    assert distribution(logits_of(0.1, 0.2, 0.3, 0.4), top_k=2, top_p=0.55).tolist() == [[0, 0, 0, 1]]


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_a_temperature_divides_the_logits(temperature):
    logits = torch.randn(3, 5, generator=seeded())
    powers = logits.double().exp() ** (1 / temperature)
    torch.testing.assert_close(distribution(logits, temperature=temperature), powers / powers.sum(1, keepdim=True))


@pytest.mark.parametrize("temperature", [0, 1e-300, 5e-324])
def test_at_the_coldest_the_likeliest_token_has_everything(temperature):
    logits = torch.tensor([[1.0, 3.0, 2.0], [-3e38, -3.1e38, 3e38]])
    assert distribution(logits, temperature=temperature).tolist() == [[0, 1, 0], [0, 0, 1]]


def test_draws_follow_the_distribution():
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0, 1.0]])
    drawn = sample(constant_step(logits), torch.zeros(50, 1).long(), steps=400, temperature=0.7, generator=seeded())
    expected = distribution(logits, temperature=0.7)[0] * drawn.numel()
    observed = torch.bincount(drawn.flatten(), minlength=5)
    chi_square = ((observed - expected) ** 2 / expected).sum()
    assert chi_square < 18.5  # 4 degrees of freedom: 1 in 1000


def test_draws_of_neighbouring_steps_and_texts_are_independent():
    drawn = sample(constant_step(torch.zeros(1, 2)), torch.zeros(100, 1).long(), steps=200, generator=seeded())
    bits = drawn.double() - 0.5
    assert abs((bits[:, 1:] * bits[:, :-1]).mean() / 0.25) < 4 / math.sqrt(bits.numel())
    assert abs((bits[1:] * bits[:-1]).mean() / 0.25) < 4 / math.sqrt(bits.numel())


def test_noise_is_turned_into_tokens_in_exact_shares():
    noise = ((torch.arange(1000) + 0.5) / 1000).double()
    chosen = pick(torch.tensor([[0.1, 0.0, 0.6, 0.3]]).double().expand(1000, -1), noise)
    assert torch.bincount(chosen, minlength=4).tolist() == [100, 0, 600, 300]


@pytest.mark.parametrize("noise", [0.0, 1 - 2.0**-24])  # the least and the largest that float32 draws
def test_a_token_of_probability_0_never_comes_at_the_edges_of_the_noise(noise):
    chosen = pick(torch.tensor([[0.0, 0.1, 0.2, 0.0]]).double(), torch.tensor([noise]).double())
    assert chosen.tolist() == [1 if noise == 0 else 2]


def test_banned_tokens_never_come_and_the_others_share_what_is_left():
    logits = logits_of(0.7, 0.1, 0.2)
    assert leave_out(logits, torch.tensor([0])).softmax(1)[0].tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    for temperature in (0, 1.0, 50.0):
        drawn = sample(
            constant_step(logits), torch.zeros(8, 1).long(), steps=50, temperature=temperature, banned=[0],
            generator=seeded(),
        )  # fmt: skip
        assert not (drawn == 0).any()
        assert temperature == 0 or {1, 2} == set(drawn.flatten().tolist())


def test_greedy_is_the_chain_of_argmax():
    model, first = network(), torch.tensor([[3, 1, 4], [1, 5, 2]])
    found = sample(step_of(model), first, steps=12, temperature=0)
    text = first
    with torch.no_grad():
        for _ in range(12):
            text = torch.cat([text, model(text)[0][:, -1].argmax(1, keepdim=True)], 1)  # read anew each time
    assert found.equal(text[:, 3:])
    assert found.equal(sample(step_of(model), first, steps=12, top_k=1, generator=seeded()))
    assert found.equal(sample(step_of(model), first, steps=12, top_p=1e-9, generator=seeded()))


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
def test_a_carried_state_gives_the_logits_of_the_whole_text(kind):
    model, text = network(kind), torch.randint(VOCABULARY, (3, 40), generator=seeded())
    step, state, found = step_of(model), None, []
    with torch.inference_mode():
        for tokens in (text[:, :30], *text[:, 30:].split(1, 1)):  # a prompt, then one by one
            logits, state = step(tokens, state)
            found.append(logits)
        whole = model(text)[0][:, 29:]
    torch.testing.assert_close(torch.stack(found, 1), whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_every_token_is_read_once_so_cost_is_linear(steps):
    read = []

    def step(tokens, state):
        read.append(tokens.shape)
        return torch.zeros(len(tokens), VOCABULARY), (state or 0) + 1

    found = sample(step, torch.zeros(2, 50).long(), steps=steps, generator=seeded())
    assert found.shape == (2, steps)
    assert read == [(2, 50)] + [(2, 1)] * (steps - 1)


def test_a_state_to_start_from_is_handed_on():
    model, text = network(), torch.tensor([[1, 2, 3, 4, 5, 6]])
    step = step_of(model)
    with torch.no_grad():
        _, state = step(text[:, :4], None)
    assert sample(step, text[:, 4:], state, steps=9, temperature=0).equal(sample(step, text, steps=9, temperature=0))


def test_the_same_seed_gives_the_same_text_and_another_one_another():
    def draw(seed):
        return sample(step_of(network()), torch.tensor([[1], [1]]), steps=30, generator=seeded(seed))

    assert draw(3).equal(draw(3))
    assert not draw(3).equal(draw(4))
    assert not draw(3)[0].equal(draw(3)[1])  # texts side by side differ


def test_a_text_does_not_depend_on_those_beside_it():
    step, first = table_step(), torch.tensor([[0], [3], [5]])
    together = sample(step, first, steps=60, generator=seeded())
    assert sample(step, first[:1], steps=60, generator=seeded()).equal(together[:1])
    other = sample(step, torch.tensor([[0], [6], [2]]), steps=60, generator=seeded())
    assert other[0].equal(together[0])
    assert not other[1:].equal(together[1:])


def test_a_longer_text_begins_with_the_shorter_one():
    step, first = table_step(), torch.tensor([[0], [3]])
    longer = sample(step, first, steps=90, generator=seeded())
    assert sample(step, first, steps=20, generator=seeded()).equal(longer[:, :20])


def test_sampling_leaves_the_global_random_state_and_the_gradients_alone():
    model, state = network(), torch.get_rng_state()
    found = sample(step_of(model), torch.tensor([[1]]), steps=5, generator=seeded())
    sample(step_of(model), torch.tensor([[1]]), steps=5, temperature=0)  # without a generator: nothing is drawn
    assert torch.get_rng_state().equal(state)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    model(found)[0].sum().backward()  # what was drawn may be learned from


def test_noise_stays_below_1():
    noise = noise_for(3, 1000, seeded())
    assert noise.dtype == torch.float64
    assert noise.float().double().equal(noise)  # as float32 has it, so never nearer to 1 than 2^-24
    assert ((noise >= 0) & (noise < 1)).all()


class Windowed(nn.Module):
    """Sees three tokens at most and carries no state."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(3, VOCABULARY, VOCABULARY, generator=seeded()))
        self.seen = []

    def forward(self, tokens):
        assert tokens.shape[1] <= 3, "longer than it was trained for"
        self.seen.append(tokens.shape[1])
        return torch.stack([self.table[i, tokens[:, i]] for i in range(tokens.shape[1])], 1).cumsum(1)


def test_a_model_without_a_state_sees_its_newest_tokens_again():
    model, text = Windowed(), torch.tensor([[1, 2]])
    found = sample(step_of(model, window=3), text, steps=6, temperature=0)
    assert model.seen == [2, 3, 3, 3, 3, 3]
    for _ in range(6):
        text = torch.cat([text, model(text[:, -3:])[:, -1].argmax(1, keepdim=True)], 1)
    assert found.equal(text[:, 2:])


def test_onednn_is_left_out_of_single_steps_of_an_lstm_alone(monkeypatch):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    for kind, expected in ((LSTM, [True, False, False]), (GRU, [True, True, True])):
        model, seen = network(kind), []
        model.layers.register_forward_hook(lambda *_, seen=seen: seen.append(torch.backends.mkldnn.enabled))
        sample(step_of(model), torch.tensor([[1, 2]]), steps=3, temperature=0)
        assert seen == expected
        assert torch.backends.mkldnn.enabled
    with pytest.raises(ValueError), decoding.without_onednn():
        raise ValueError
    assert torch.backends.mkldnn.enabled


def test_half_precision_logits_are_no_error_however_many():
    logits = torch.full((1, 3000), 30.0, dtype=torch.float16)  # their sum is beyond float16
    assert sample(constant_step(logits), torch.zeros(1, 1).long(), steps=2, generator=seeded()).shape == (1, 2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_model_that_went_wrong_is_one_line(bad, temperature):
    logits = torch.tensor([[0.0, bad, 1.0]])
    with pytest.raises(UserError, match="no finite number"):
        sample(constant_step(logits), torch.zeros(1, 1).long(), steps=3, temperature=temperature)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"temperature": -1.0}, {"temperature": math.nan}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}],
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UserError):
        sample(table_step(), torch.zeros(1, 1).long(), **({"steps": 3} | wrong))


# ---- searching


EOS, BOS = 3, 2


def remembering(num_tokens=4, seed=0, width=5, eos_bias=0.0):
    """A step whose state is (all it has read, a memory of the text): a wrong row of either is a wrong answer."""
    generator = seeded(seed)
    shapes = ((num_tokens, width), (width, width), (width, num_tokens))
    embedding, weight, output = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)

    def step(tokens, state):
        history, memory = state
        history, hidden = torch.cat([history, tokens], 1), memory
        for token in history.unbind(1):
            hidden = torch.tanh(hidden @ weight + embedding[token])
        logits = 2 * hidden @ output
        logits[:, EOS] += eos_bias
        return logits, (history, memory)

    return step


def start_of(count, width=5):
    """First tokens and state of texts that differ in their memory."""
    memory = torch.randn(count, width, generator=seeded(9), dtype=torch.float64)
    return torch.full((count, 1), BOS), (torch.zeros(count, 0).long(), memory)


def row_of(state, i):
    return tuple(part[i : i + 1] for part in state)


def log_p(step, first, state, text):
    """log p of one text, up to its eos, read anew from its beginning."""
    total = 0.0
    for n, token in enumerate(text):
        logits, _ = step(torch.tensor([[*first[0].tolist(), *text[:n]]]), state)
        total += float(logits[0].log_softmax(0)[token])
        if token == EOS:
            break
    return total


def score(step, first, state, text, alpha):
    text = text[: text.index(EOS) + 1] if EOS in text else text
    return log_p(step, first, state, text) / ((5 + len(text)) / 6) ** alpha


def all_texts(num_tokens, steps):
    """Each text that ends with eos, or has as many tokens as may be."""
    others = [token for token in range(num_tokens) if token != EOS]
    for n in range(steps):
        for text in itertools.product(others, repeat=n):
            yield [*text, EOS]
    yield from map(list, itertools.product(others, repeat=steps))


def padded(text, steps):
    return [*text, *[0] * (steps - len(text))]


@pytest.mark.parametrize("alpha", [0.0, 0.6, 3.0])
def test_one_beam_is_greedy(alpha):
    for seed in range(6):
        step, (first, state) = remembering(seed=seed), start_of(7)
        found = beam_search(step, first, state, beams=1, steps=6, eos=EOS, length_penalty=alpha)
        assert found.tokens[:, 0].equal(greedy(step, first, state, steps=6, eos=EOS))


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_enough_beams_are_a_search_of_all_texts(seed, alpha):
    """They find the best, which is never worse than the greedy one; the score is that of the equation."""
    steps, step, (first, state) = 3, remembering(seed=seed), start_of(3)
    found = beam_search(step, first, state, beams=4**steps, steps=steps, eos=EOS, length_penalty=alpha)
    by_step = greedy(step, first, state, steps=steps, eos=EOS)
    for i in range(3):
        own = row_of(state, i)
        scores = {tuple(text): score(step, first[:1], own, text, alpha) for text in all_texts(4, steps)}
        best = max(scores, key=scores.get)
        assert padded(found.tokens[i, 0].tolist(), steps) == padded(best, steps)
        assert found.scores[i, 0].item() == pytest.approx(scores[best], rel=1e-12)
        assert found.scores[i, 0].item() >= score(step, first[:1], own, by_step[i].tolist(), alpha) - 1e-12


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("beams", [2, 5])
def test_what_a_beam_says_of_its_text_is_true(beams, alpha):
    """Rows of the state have followed the beams; texts differ, are padded after eos, and stand in their order."""
    step, (first, state) = remembering(num_tokens=6, seed=1, eos_bias=1.0), start_of(6)
    found = beam_search(step, first, state, beams=beams, steps=9, eos=EOS, length_penalty=alpha)
    ended = 0
    for i in range(6):
        texts, scores = found.tokens[i].tolist(), found.scores[i].tolist()
        assert len(set(map(tuple, texts))) == beams
        for text, told in zip(texts, scores, strict=True):
            if EOS in text:
                end, ended = text.index(EOS), ended + 1
                assert not any(text[end + 1 :])
                assert told == pytest.approx(score(step, first[:1], row_of(state, i), text, alpha), rel=1e-12)
        whole = [told for text, told in zip(texts, scores, strict=True) if EOS in text]
        assert whole == sorted(whole, reverse=True)
    assert ended > 6


@pytest.mark.parametrize("own_limits", [False, True])
def test_a_text_is_found_alike_whatever_stands_beside_it(own_limits):
    step, (first, state) = remembering(num_tokens=6, seed=3), start_of(8)
    limits = torch.arange(2, 10) if own_limits else torch.full((8,), 7)
    options = {"eos": EOS, "length_penalty": 0.8, "beams": 3}
    together = beam_search(step, first, state, steps=limits if own_limits else 7, **options)
    likeliest = greedy(step, first, state, steps=limits if own_limits else 7, eos=EOS)
    for i, limit in enumerate(limits.tolist()):
        alone = beam_search(step, first[:1], row_of(state, i), steps=limit, **options)
        assert [padded(text, 9) for text in alone.tokens[0].tolist()] == [
            padded(text, 9) for text in together.tokens[i].tolist()
        ]
        torch.testing.assert_close(alone.scores[0], together.scores[i], rtol=0, atol=1e-12)
        text = greedy(step, first[:1], row_of(state, i), steps=limit, eos=EOS)[0].tolist()
        assert padded(text, 9) == padded(likeliest[i].tolist(), 9)
    assert len({len(text) - text.count(0) for text in likeliest.tolist()}) > 2, "they end at different steps"


@pytest.mark.parametrize(("size", "k"), [(5, 3), (3000, 1), (3000, 4), (40000, 10), (5120, 10)])
def test_the_largest_of_pieces_are_the_largest_of_all(size, k):
    x = torch.randn(3, size, generator=seeded())
    x[0, -1], x[1, 0] = 9.0, torch.nan  # a number that is none is not overlooked
    for found, expected in zip(largest(x, k), x.topk(k), strict=True):
        assert torch.equal(found.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("size", [7, 3000])
def test_of_equally_likely_tokens_greedy_takes_the_first(size):
    step = constant_step(torch.zeros(1, size))
    assert greedy(step, torch.ones(2, 1, dtype=torch.long), steps=2, eos=1).tolist() == [[0, 0], [0, 0]]


def test_greedy_follows_the_likeliest_token_to_its_end():
    step, (first, state) = remembering(num_tokens=6, seed=3), start_of(8)
    found = greedy(step, first, state, steps=7, eos=EOS)
    for i, text in enumerate(found.tolist()):
        for n, token in enumerate(text[: text.index(EOS) + 1] if EOS in text else text):
            logits, _ = step(torch.tensor([[BOS, *text[:n]]]), row_of(state, i))
            assert token == int(logits.argmax())
        assert EOS not in text or not any(text[text.index(EOS) + 1 :])


@pytest.mark.parametrize("beams", [None, 2])
def test_the_prompt_is_read_once_and_what_has_ended_never_again(beams):
    """Text i ends after i + 1 tokens; with two beams the other one dies of a probability of almost 0."""
    read = []

    def step(tokens, state):
        read.append(tuple(tokens.shape))
        left = state[0] - 1
        logits = torch.where(torch.arange(5) == EOS, 0.0, -900.0).expand(len(tokens), -1)
        return logits.roll(1, 1) * (left > 0).float()[:, None] + logits * (left <= 0).float()[:, None], (left,)

    lengths = torch.tensor([1, 2, 3, 3])
    first = torch.full((4, 6), BOS)
    if beams is None:
        found = greedy(step, first, (lengths,), steps=50, eos=EOS)
        assert read == [(4, 6), (3, 1), (2, 1)]
    else:
        found = beam_search(step, first, (lengths,), beams=beams, steps=50, eos=EOS).tokens[:, 0]
        assert read == [(4, 6), (6, 1), (4, 1)], "no open beam could win any more"
    assert found.tolist() == [[3, 0, 0], [4, 3, 0], [4, 4, 3], [4, 4, 3]]


def test_the_penalty_is_that_of_the_equation():
    """p(eos) = .6 at once, or three tokens of .4, 1 and 1: by hand, -.511 against -.916 / (8 / 6)^alpha."""
    table = torch.full((5, 5), -900.0, dtype=torch.float64)
    table[:, EOS], table[BOS, 0] = -5000.0, -5000.0
    table[BOS, EOS], table[BOS, 4], table[4, 0], table[0, EOS] = math.log(0.6), math.log(0.4), 0.0, 0.0

    def step(tokens, state):
        return table[tokens[:, -1]], state

    for alpha, best in ((0.0, [3, 0, 0]), (2.0, [3, 0, 0]), (2.1, [4, 0, 3]), (5.0, [4, 0, 3])):
        found = beam_search(step, torch.tensor([[BOS]]), beams=2, steps=3, eos=EOS, length_penalty=alpha)
        assert padded(found.tokens[0, 0].tolist(), 3) == best, alpha
        assert found.scores[0, 0].item() == pytest.approx(max(math.log(0.6), math.log(0.4) / (8 / 6) ** alpha))


def test_poor_texts_that_end_early_do_not_end_the_search():
    """Two beams; beside one of .9 to each token, there is always one of .06 that ends."""
    logits = torch.tensor([[0.02, 0.02, 0.0, 0.06, 0.9]]).double().log()
    ending = torch.tensor([[0.02, 0.02, 0.0, 0.9, 0.06]]).double().log()

    def step(tokens, state):
        return torch.where((state > 0).unsqueeze(1), logits, ending), state - 1

    for alpha in (0.0, 1.0):
        options = {"beams": 2, "steps": 20, "eos": EOS, "length_penalty": alpha}
        found = beam_search(step, torch.tensor([[BOS]]), torch.tensor([6]), **options)
        assert found.tokens[0, 0].tolist() == [4] * 6 + [3]


def test_a_text_that_is_still_open_comes_after_all_that_have_ended():
    """Two beams: .85 goes on and .1 ends at once; of the .85 one half ends, and the other is no better: it is over."""
    going_on = torch.tensor([[0.0, 0.05, 0.0, 0.1, 0.85]]).double().clamp(min=1e-9).log()
    halves = torch.tensor([[0.0, 0.0, 0.0, 0.5, 0.49]]).double().clamp(min=1e-9).log()

    def step(tokens, state):
        return torch.where((tokens[:, -1:] == BOS), going_on, halves), state

    found = beam_search(step, torch.tensor([[BOS]]), beams=2, steps=9, eos=EOS)
    assert [padded(text, 2)[:2] for text in found.tokens[0].tolist()] == [[4, EOS], [EOS, 0]]
    assert found.scores[0].exp().tolist() == pytest.approx([0.425 / 0.99, 0.1], abs=1e-6)


def test_fewer_texts_than_beams_leave_places_empty():
    """Two tokens, one of them eos: of two steps there are three texts."""
    logits = torch.tensor([[-torch.inf, -torch.inf, -torch.inf, 0.0, 0.5]])
    found = beam_search(constant_step(logits), torch.tensor([[BOS]]), beams=5, steps=2, eos=EOS)
    assert sorted(found.tokens[0, :3].tolist()) == [[3, 0], [4, 3], [4, 4]]
    assert found.scores[0, 3:].tolist() == [-math.inf] * 2
    assert not found.tokens[0, 3:].any()


def test_banned_tokens_are_not_searched_and_their_share_is_given_to_none():
    step, (first, state) = remembering(num_tokens=6, seed=3), start_of(8)
    options = {"steps": 7, "eos": EOS, "banned": [0, 4]}
    assert not torch.isin(greedy(step, first, state, **options), torch.tensor(4)).any()
    found = beam_search(step, first, state, beams=3, **options)
    assert not (found.tokens == 4).any()
    for i in range(8):
        text = found.tokens[i, 0].tolist()
        assert found.scores[i, 0].item() == pytest.approx(score(step, first[:1], row_of(state, i), text, 0.0))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("search", [greedy, partial(beam_search, beams=2)])
def test_a_search_in_a_model_that_went_wrong_is_one_line(bad, search):
    logits = torch.tensor([[0.0, bad, 1.0, 0.0]])
    with pytest.raises(UserError, match="no finite number"):
        search(constant_step(logits), torch.zeros(2, 1).long(), steps=3, eos=EOS)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"steps": torch.tensor([3, 0])}, {"beams": 0}, {"length_penalty": -1.0},
              {"length_penalty": math.nan}]
)  # fmt: skip
def test_searches_that_mean_nothing_are_refused(wrong):
    options = {"beams": 2, "steps": 3, "eos": EOS} | wrong
    with pytest.raises(UserError):
        beam_search(table_step(), torch.zeros(2, 1).long(), **options)


def test_a_state_is_picked_from_at_any_depth_and_what_a_step_left_alone_may_stay():
    kept, new = torch.arange(3), torch.arange(6).view(3, 2)
    state = ((kept, None), [new, (kept,)])
    found = reordered(state, torch.tensor([2, 0, 2, 1]))
    assert found[0][0].tolist() == found[1][1][0].tolist() == [2, 0, 2, 1]
    assert found[0][1] is None
    assert found[1][0].tolist() == [[4, 5], [0, 1], [4, 5], [2, 3]]
    found = reordered(state, torch.tensor([2, 0, 1]), before=((kept, None), [new.clone(), (kept + 1,)]))
    assert found[0][0] is kept
    assert found[1][0].tolist() == [[4, 5], [0, 1], [2, 3]]
    assert found[1][1][0].tolist() == [2, 0, 1]


def translator(kind):
    torch.manual_seed(0)
    sizes = {"src_vocab_size": 9, "tgt_vocab_size": 7}
    if kind is Seq2Seq:
        return Seq2Seq(**sizes, embedding_dim=8, hidden_size=6, cell="lstm", num_layers=2).double().eval()
    return Transformer(**sizes, d_model=8, num_heads=2, d_ff=16, num_layers=2).double().eval()


@pytest.mark.parametrize("kind", [Seq2Seq, Transformer])
def test_beams_of_our_own_models_have_the_scores_of_their_texts(kind):
    """Their caches and states follow the beams: the same texts, read at once, are as likely."""
    model = translator(kind)
    src = torch.randint(4, 9, (5, 6), generator=seeded())
    mask = torch.arange(6) < torch.tensor([6, 4, 5, 1, 3]).unsqueeze(1)
    src = src.masked_fill(~mask, 0)
    with torch.no_grad():
        memory = model.encode(src, mask)
        first = torch.full((5, 1), BOS)
        found = beam_search(model.step, first, model.start(memory, mask), beams=4, steps=8, eos=EOS, banned=[0])
        for k in range(4):
            tokens = found.tokens[:, k]
            logits = model.decode(torch.cat([first, tokens[:, :-1]], 1), memory, mask)
            each = logits.log_softmax(2).gather(2, tokens.unsqueeze(2)).squeeze(2)  # (B, N)
            told = each.masked_fill(tokens == 0, 0).sum(1)
            torch.testing.assert_close(told, found.scores[:, k])


class Cached(nn.Module):
    """What comes next depends on all that it sees; its state is that, and it refuses more than 6."""

    max_len = 6

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(6, VOCABULARY, VOCABULARY, generator=seeded()))
        self.read = []

    def forward(self, tokens, state=None):
        self.read.append(tokens.shape[1])
        seen = tokens if state is None else torch.cat([state, tokens], 1)
        assert seen.shape[1] <= self.max_len
        logits = torch.stack([self.table[i, seen[:, i]] for i in range(seen.shape[1])], 1).cumsum(1)
        return logits[:, -tokens.shape[1] :], seen


@pytest.mark.parametrize("prompt", [2, 6, 9])
def test_a_full_cache_starts_anew_from_its_newest_half(prompt):
    model, text = Cached(), torch.randint(VOCABULARY, (2, prompt), generator=seeded())
    found = sample(step_of(model), text, steps=30, temperature=0)
    assert sum(model.read) <= min(prompt, 6) + 2.5 * 30, "the cost of a token stays the same"
    held = text if prompt <= 6 else text[:, -3:]
    for token in found.unbind(1):
        assert token.equal(model(held)[0][:, -1].argmax(1))
        text = torch.cat([text, token.unsqueeze(1)], 1)
        held = text[:, -(held.shape[1] + 1) :] if held.shape[1] < 6 else text[:, -3:]
