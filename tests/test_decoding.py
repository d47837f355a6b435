"""Decoding: the filters keep exactly what they say, draws follow the distribution, and nothing is read twice."""

import math

import pytest
import torch
from torch import nn

from zoo import decoding
from zoo.decoding import distribution, keep_top_k, keep_top_p, leave_out, noise_for, pick, sample, step_of
from zoo.errors import UserError
from zoo.models.gru import GRU
from zoo.models.lstm import LSTM
from zoo.models.rnn import RNN

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
