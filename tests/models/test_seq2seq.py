"""The papers' equations, all steps at once and step by step, and what padding may not change."""

import pytest
import torch
from torch.nn import functional as F

from zoo.decoding import greedy, reordered
from zoo.errors import UserError
from zoo.models.seq2seq import Seq2Seq

CELLS = ("rnn", "lstm", "gru")
# attention, input_feeding, bidirectional
VARIANTS = [("none", False, False), ("none", False, True), ("context", False, True), ("dot", False, False)]
VARIANTS += [("dot", True, False), ("general", True, True), ("concat", False, True), ("additive", False, True)]
V_SRC, V_TGT, T = 9, 11, 5
LENGTHS = torch.tensor([7, 4, 1])
SRC = torch.randint(4, V_SRC, (3, 7), generator=torch.Generator().manual_seed(0))
MASK = torch.arange(7) < LENGTHS[:, None]
TGT = torch.randint(4, V_TGT, (3, T), generator=torch.Generator().manual_seed(1))


def made(attention="additive", input_feeding=False, bidirectional=True, **settings):
    """A small network in float64, evaluating, with parameters that are all well away from 0."""
    sizes = {"src_vocab_size": V_SRC, "tgt_vocab_size": V_TGT, "embedding_dim": 5, "hidden_size": 6}
    torch.manual_seed(0)
    model = Seq2Seq(attention=attention, input_feeding=input_feeding, bidirectional=bidirectional, **(sizes | settings))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    return model.double().eval()


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


each_variant = pytest.mark.parametrize(("attention", "feeding", "bidirectional"), VARIANTS)
each_cell = pytest.mark.parametrize("cell", CELLS)


def printed_logits(model, cell, row):
    """The decoder of one sample from the equations: torch's cells, a plain softmax, one step after another."""
    decoder, attention = model.decoder, model.decoder.attention
    step = {"rnn": torch.rnn_tanh_cell, "lstm": torch.lstm_cell, "gru": torch.gru_cell}[cell]
    places, hidden = model.encode(SRC, MASK)
    places, h, c = places[row, : LENGTHS[row]], list(hidden[0][row]), list(hidden[-1][row])  # of each layer
    summary, fed, logits = h[-1], torch.zeros(6).double(), []
    maps = list(decoder.layers.parameters())  # W, U, b, b' of one layer after the other

    def context(query):
        align = decoder.alignment
        if attention == "dot":
            scores = places @ query
        elif attention == "general":
            scores = places @ align.key.weight.T @ query
        else:
            asked = align.query.weight @ query + (align.query.bias if attention == "additive" else 0)
            scores = torch.tanh(asked + places @ align.key.weight.T) @ align.score.weight[0]
        return scores.softmax(0) @ places

    for y in decoder.embedding(TGT[row]):
        seen = summary if attention == "context" else context(h[-1]) if attention == "additive" else fed
        x = torch.cat([y, seen]) if decoder.input_feeding or attention in ("context", "additive") else y
        for layer in range(2):
            weights = maps[4 * layer : 4 * layer + 4]
            if cell == "lstm":
                h[layer], c[layer] = (part[0] for part in step(x[None], (h[layer][None], c[layer][None]), *weights))
            else:
                h[layer] = step(x[None], h[layer][None], *weights)[0]
            x = h[layer]
        if attention == "none":
            features = h[-1]
        elif attention in ("context", "additive"):
            features = decoder.combine(torch.cat([h[-1], y, seen])).view(2, -1).amax(0)
        else:
            features = fed = torch.tanh(decoder.combine.weight @ torch.cat([context(h[-1]), h[-1]]))
        logits.append(decoder.output(features))
    return torch.stack(logits)


@each_cell
@each_variant
def test_the_decoder_is_what_the_papers_print(cell, attention, feeding, bidirectional):
    model = made(attention, feeding, bidirectional, cell=cell, num_layers=2)
    logits = model(SRC, MASK, TGT)
    for row in range(3):
        close(logits[row], printed_logits(model, cell, row))


@each_cell
@each_variant
def test_steps_are_the_same_one_at_a_time_and_all_at_once(cell, attention, feeding, bidirectional):
    model = made(attention, feeding, bidirectional, cell=cell, num_layers=2)
    state = model.start(model.encode(SRC, MASK), MASK)
    decoded, loop = model.decoder.decoded(TGT, state), model.decoder.one_by_one(TGT, state)
    close(loop.features, decoded.features)
    for ours, theirs in zip(loop.state[1], decoded.state[1], strict=True):
        close(ours, theirs)
    logits, rows = model(SRC, MASK, TGT), torch.tensor([2, 0, 2])
    first, state = model.step(TGT[:, :2], state)
    close(first, logits[:, 1])
    second, state = model.step(TGT[:, 2:3], state)
    close(second, logits[:, 2])
    close(model.step(TGT[rows, 3:4], reordered(state, rows))[0], logits[rows, 3])  # as a search does


@each_variant
def test_padding_changes_nothing_and_gets_no_weight(attention, feeding, bidirectional):
    for cell, reverse in (("gru", False), ("lstm", True)):
        model = made(attention, feeding, bidirectional, cell=cell, num_layers=2, reverse_source=reverse)
        logits, weights = model(SRC, MASK, TGT), model.attention(SRC, MASK, TGT)
        longer, mask = F.pad(SRC, (0, 3), value=8), F.pad(MASK, (0, 3))
        close(model(longer, mask, TGT), logits)
        for row, length in enumerate(LENGTHS):
            close(model(SRC[row : row + 1, :length], None, TGT[row : row + 1])[0], logits[row])
        assert list(weights) == ([] if attention in ("none", "context") else ["alignment"])
        for found in weights.values():
            assert found.shape == (3, 1, T, 7)
            close(found.sum(3), torch.ones(3, 1, T).double())
            assert not found.masked_select(~MASK[:, None, None]).any()
            assert (found[0] > 0).all()


@each_cell
@each_variant
def test_every_parameter_gets_a_gradient(cell, attention, feeding, bidirectional):
    model = made(attention, feeding, bidirectional, cell=cell, num_layers=2)
    F.cross_entropy(model(SRC, MASK, TGT).flatten(0, 1), TGT.flatten()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@each_cell
@each_variant
def test_without_a_teacher_it_says_what_greedy_decoding_says(cell, attention, feeding, bidirectional):
    model = made(attention, feeding, bidirectional, cell=cell)
    memory, before = model.encode(SRC, MASK), torch.get_rng_state()
    logits = model.decode(TGT, memory, MASK, teacher_forcing=0.0)
    model.decode(TGT, memory, MASK, teacher_forcing=1.0)
    assert torch.equal(torch.get_rng_state(), before)  # no draw where nothing is left to chance
    said = greedy(model.step, TGT[:, :1], model.start(memory, MASK), steps=T, eos=-1)
    assert torch.equal(logits.argmax(2), said)
    close(logits, model(SRC, MASK, torch.cat([TGT[:, :1], said[:, :-1]], 1)))


@each_variant
def test_half_a_teacher_is_there_for_the_whole_batch_at_steps_that_are_drawn(attention, feeding, bidirectional):
    model = made(attention, feeding, bidirectional, num_layers=2)
    memory = model.encode(SRC, MASK)
    torch.manual_seed(0)
    logits = model.decode(TGT, memory, MASK, teacher_forcing=0.5)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    given = (torch.rand(T - 1) < 0.5).tolist()
    assert torch.equal(torch.get_rng_state(), after)
    assert 0 < sum(given) < T - 1
    state, tokens = model.start(memory, MASK), TGT[:, :1]
    for t, is_given in enumerate([*given, True]):
        expected, state = model.step(tokens, state)
        close(logits[:, t], expected)
        tokens = TGT[:, t + 1 : t + 2] if is_given else expected.argmax(1, keepdim=True)


@each_cell
def test_a_decoder_starts_from_both_ends_of_the_source_as_each_direction_has_read_it(cell):
    model = made(cell=cell, num_layers=2)
    encoder = model.encoder
    _, hidden = model.encode(SRC, MASK)
    for row, length in enumerate(LENGTHS):
        _, state = encoder.layers(encoder.embedding(SRC[row : row + 1, :length]))
        for part, (ours, theirs) in enumerate(zip(hidden, state if cell == "lstm" else (state,), strict=True)):
            for layer in range(2):
                ends = torch.cat([theirs[2 * layer, 0], theirs[2 * layer + 1, 0]])
                mapped = encoder.bridges[2 * part + layer](ends)
                close(ours[row, layer], torch.tanh(mapped) if part == 0 else mapped)


def test_a_reversed_source_is_read_from_its_end_and_looked_at_where_it_stands():
    straight, turned = made(bidirectional=False), made(bidirectional=False, reverse_source=True)
    src, mask = torch.tensor([[4, 5, 6, 3, 0], [7, 8, 4, 5, 3]]), torch.tensor([[True] * 4 + [False], [True] * 5])
    by_hand = torch.tensor([[6, 5, 4, 3, 0], [5, 4, 8, 7, 3]])  # <eos>, which is 3, stays at the end
    places = torch.tensor([[2, 1, 0, 3, 4], [3, 2, 1, 0, 4]])
    close(turned(src, mask, TGT[:2]), straight(by_hand, mask, TGT[:2]))
    there = straight.attention(by_hand, mask, TGT[:2])["alignment"]
    here = turned.attention(src, mask, TGT[:2])["alignment"]
    close(here, there.gather(3, places[:, None, None].expand_as(there)))


def test_dropout_falls_between_layers_in_a_loop_too():
    model = made(num_layers=2, dropout=0.5)
    model.decoder.drop.p = 0.0
    state = model.start(model.encode(SRC, MASK), MASK)
    still = model.decoder.decoded(TGT, state).features
    shaken = [model.decoder.train().decoded(TGT, state).features for _ in range(2)]
    assert not torch.allclose(shaken[0], shaken[1])
    assert not torch.allclose(shaken[0], still)
    assert torch.equal(model.decoder.eval().decoded(TGT, state).features, still), "in training alone"


def test_it_learns_to_say_four_letters_backwards():
    torch.manual_seed(0)
    model = Seq2Seq(src_vocab_size=8, tgt_vocab_size=8, embedding_dim=16, hidden_size=32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, fused=True)
    letters = torch.cartesian_prod(*[torch.arange(4, 8)] * 4)[torch.randperm(256)]  # (256, 4)
    src, tgt_out = F.pad(letters, (0, 1), value=3), F.pad(letters.flip(1), (0, 1), value=3)
    tgt_in = F.pad(letters.flip(1), (1, 0), value=2)
    for step in range(80):
        rows = slice(step % 3 * 64, step % 3 * 64 + 64)  # the first 192; the others are never seen
        loss = F.cross_entropy(model(src[rows], None, tgt_in[rows]).flatten(0, 1), tgt_out[rows].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        state = model.eval().start(model.encode(src[192:], None), None)
    said = greedy(model.step, tgt_in[192:, :1], state, steps=5, eos=3)
    assert (said == tgt_out[192:]).all(1).float().mean() > 0.9


@pytest.mark.parametrize("attention", ["none", "dot", "general", "concat"])
def test_features_below_1_are_not_driven_to_it_before_anything_is_looked_at(attention):
    """Of many words, a few make up most of a text; output weights too small for that saturated all features (0.95)."""
    torch.manual_seed(0)
    sizes = {"src_vocab_size": 2000, "tgt_vocab_size": 2000, "embedding_dim": 16, "hidden_size": 32}
    model = Seq2Seq(attention=attention, bidirectional=attention != "dot", cell="lstm", **sizes)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    frequency = 1 / torch.arange(1.0, 1997)
    for _ in range(25):
        tokens = 4 + frequency.multinomial(32 * 8, replacement=True).reshape(32, 8)
        loss = F.cross_entropy(model(tokens, None, F.pad(tokens, (1, -1), value=2)).flatten(0, 1), tokens.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features = model.decoder.decoded(tokens, model.start(model.encode(tokens, None), None)).features
    assert features.square().mean().sqrt() < 0.75


@each_cell
@each_variant
def test_mixed_precision_is_near_to_the_full_one(cell, attention, feeding, bidirectional):
    for both_ways in {bidirectional, False}:
        model = made(attention, feeding, both_ways, cell=cell).float()
        exact = model(SRC, MASK, TGT)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(SRC, MASK, TGT)
            first, state = model.step(TGT[:, :1], model.start(model.encode(SRC, MASK), MASK))
            second, _ = model.step(TGT[:, 1:2], state)
        found = torch.cat([found, first[:, None], second[:, None]], 1)
        exact = torch.cat([exact, exact[:, :2]], 1)
        assert (found.float() - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize(
    ("wrong", "telling"),
    [
        ({"cell": "gur"}, "did you mean 'gru'"),
        ({"attention": "aditive"}, "did you mean 'additive'"),
        ({"attention": "dot"}, "use model.attention=general"),
        ({"input_feeding": True}, "for additive leave it false"),
        ({"recurrent_init": "zeros"}, "There is no model.recurrent_init=zeros"),
    ],
)
def test_what_no_network_can_be_is_said_in_one_line(wrong, telling):
    with pytest.raises(UserError, match=telling):
        Seq2Seq(src_vocab_size=V_SRC, tgt_vocab_size=V_TGT, **wrong)
