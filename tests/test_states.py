"""States of decoders: what texts share is kept once, and pieces of a batch are as good as the whole."""

import pytest
import torch

from zoo.decoding import answers, beam_search
from zoo.layers.attention import Shared
from zoo.models.seq2seq import Seq2Seq
from zoo.models.transformer import Transformer
from zoo.states import begun, merged, reordered

BOS, V = 2, 11
LENGTHS = torch.tensor([3, 9, 1, 4, 8, 2, 5])


def model_of(kind, **options):
    torch.manual_seed(0)
    sizes = {"src_vocab_size": V, "tgt_vocab_size": V}
    if kind is Seq2Seq:
        return Seq2Seq(**sizes, embedding_dim=8, hidden_size=6, cell="lstm", num_layers=2, **options).double().eval()
    return Transformer(**sizes, d_model=8, num_heads=2, d_ff=16, num_layers=2, **options).double().eval()


def sources(lengths=LENGTHS, width=9):
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(width) < lengths.unsqueeze(1)
    return torch.randint(4, V, mask.shape, generator=generator).masked_fill(~mask, 0), mask


def watch(model, name):
    """The shapes of what a method of the model is given first, call by call."""
    shapes, method = [], getattr(model, name)

    def call(first, *others):
        shapes.append(tuple(first.shape))
        return method(first, *others)

    setattr(model, name, call)
    return shapes


def test_what_texts_share_has_their_rows_at_any_depth_and_stays_shared():
    ten = torch.arange(3) * 10
    state = (torch.arange(6), Shared((ten, (ten + 1, None))))
    found = reordered(state, torch.tensor([5, 4, 1, 1]), texts=torch.tensor([2, 0]))
    assert found[0].tolist() == [5, 4, 1, 1]
    assert (found[1][0].tolist(), found[1][1][0].tolist(), found[1][1][1]) == ([20, 0], [21, 1], None)
    again = reordered(found[1], torch.tensor([1]))
    assert (again[0].tolist(), again.shared) == ([0], True)


def test_states_of_some_texts_each_become_one_in_the_order_of_all():
    wide, narrow = torch.tensor([[[1, 2, 3]]]), torch.tensor([[[4]], [[5]]])
    states = [(wide, Shared((None, torch.tensor([7])))), (narrow, Shared((None, torch.tensor([8, 9]))))]
    found = merged(states, torch.tensor([1, 2, 0]))
    assert found[0].tolist() == [[[5, 0, 0]], [[1, 2, 3]], [[4, 0, 0]]]
    assert found[1][1].tolist() == [9, 7, 8]
    assert found[1].shared


@pytest.mark.parametrize("nothing", [False, True])
@pytest.mark.parametrize("kind", [Seq2Seq, Transformer])
def test_a_batch_that_is_encoded_in_pieces_writes_what_it_would_as_a_whole(kind, nothing):
    model, (src, mask) = model_of(kind), sources(LENGTHS * 0 if nothing else LENGTHS, width=12)
    with torch.no_grad():
        states, tokens = [begun(model, src, mask), model.start(model.encode(src, mask), mask)], torch.full((7, 1), BOS)
        for _ in range(4):
            (found, states[0]), (expected, states[1]) = (model.step(tokens, state) for state in states)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
            tokens = expected.argmax(1, keepdim=True)


def test_sources_of_similar_lengths_are_encoded_together_unless_all_are_alike():
    model, (src, mask) = model_of(Transformer), sources()
    shapes = watch(model, "encode")
    begun(model, src, mask)
    begun(model, src, torch.ones_like(mask))
    assert shapes == [(2, 2), (2, 4), (2, 8), (1, 9), (7, 9)]


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
def test_beams_of_a_text_share_its_memory_and_find_what_they_find_without(positions):
    model, (src, mask) = model_of(Transformer, positions=positions), sources()
    rows, limits = [], LENGTHS + 1

    def step(tokens, state):
        rows.append((len(tokens), {len(part) for memory in state[1][:-1] for part in memory}, len(state[1][-1])))
        return model.step(tokens, state)

    options = {"beams": 3, "steps": limits, "eos": 3, "length_penalty": 0.7}
    with torch.no_grad():
        first, state = torch.full((7, 1), BOS), model.start(model.encode(src, mask), mask)
        shared = beam_search(step, first, state, **options)
        alone = beam_search(model.step, first, (state[0], tuple(state[1])), **options)
    assert shared.tokens.equal(alone.tokens)
    torch.testing.assert_close(shared.scores, alone.scores, rtol=0, atol=1e-12)
    assert rows[0] == (7, {7}, 7)
    assert all(beams == 3 * texts == 3 * masks for beams, (texts,), masks in rows[1:])
    assert rows[-1][0] < 21, "texts have left"


def test_a_text_has_the_room_that_it_is_given():
    model, (src, mask) = model_of(Transformer), sources()
    for beams in (1, 2):
        found = answers(model, src, mask, bos=BOS, eos=-1, beams=beams, steps=LENGTHS)
        assert [len(row) for row in found] == LENGTHS.tolist()
