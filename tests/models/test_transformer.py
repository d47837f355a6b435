import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.models.transformer import Transformer

B, S, T, D, HEADS, LAYERS, V_SRC, V_TGT = 3, 6, 5, 8, 2, 2, 11, 13
SIZES = {"d_model": D, "num_heads": HEADS, "d_ff": 12, "num_layers": LAYERS}
POSITIONS = ("sinusoidal", "learned", "rotary")
NAMES = (  # of torch's parts, ours
    ("coder.layers.", "coder."),
    ("coder.norm", "coder_norm"),
    ("in_proj_", "qkv."),
    ("out_proj", "out"),
    ("multihead_attn", "cross_attn"),
    ("linear", "feed_forward.linear"),
)


def transformer(*, src_vocab_size=V_SRC, seed=0, **options):
    torch.manual_seed(seed)
    return Transformer(
        src_vocab_size=src_vocab_size, tgt_vocab_size=V_TGT, **SIZES, **{"dropout": 0.0} | options
    ).double()


def pairs(seed=1):
    """Sources of 6, 3 and 1 tokens with junk for padding, their mask, and what was read of the targets."""
    generator = torch.Generator().manual_seed(seed)
    src = torch.randint(4, V_SRC, (B, S), generator=generator)
    tgt = torch.randint(4, V_TGT, (B, T), generator=generator)
    return src, torch.arange(S) < torch.tensor([[6], [3], [1]]), tgt


def close(ours, theirs, **options):
    torch.testing.assert_close(ours, theirs, **{"rtol": 0, "atol": 1e-10} | options)


def our_name(name):
    for theirs, ours in NAMES:
        name = name.replace(theirs, ours)
    return name


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")  # of torch, about its own speed
@pytest.mark.parametrize("norm_first", [False, True])
def test_equals_torch_transformer_forward_and_backward(norm_first):
    ours = transformer(norm_first=norm_first, tied="none")
    theirs = nn.Transformer(
        *(D, HEADS, LAYERS, LAYERS, 12), dropout=0.0, batch_first=True, norm_first=norm_first
    ).double()
    if not norm_first:  # the paper has no norm after the last layer
        theirs.encoder.norm = theirs.decoder.norm = None
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    weights = {our_name(name): value for name, value in theirs.state_dict().items()}
    missing, unexpected = ours.load_state_dict(weights, strict=False)
    assert (unexpected, set(missing)) == ([], {"src_embedding.weight", "tgt_embedding.weight", "output.weight"})
    src, mask, tgt = pairs()
    found = ours(src, mask, tgt)
    inputs = [
        ours.read(tokens, embedding, ours.src_positions).detach().requires_grad_()
        for tokens, embedding in ((src, ours.src_embedding), (tgt, ours.tgt_embedding))
    ]
    causal = nn.Transformer.generate_square_subsequent_mask(T, dtype=torch.float64)
    hidden = theirs(
        *inputs, tgt_mask=causal, src_key_padding_mask=~mask, memory_key_padding_mask=~mask, tgt_is_causal=True
    )
    expected = hidden @ ours.output.weight.T
    close(found, expected)
    noise = torch.randn(found.shape, dtype=torch.float64)
    (found * noise).sum().backward()
    (expected * noise).sum().backward()
    for name, parameter in theirs.named_parameters():
        close(ours.get_parameter(our_name(name)).grad, parameter.grad, atol=1e-9)
    for gradient, tokens, embedding in zip(
        (x.grad for x in inputs), (src, tgt), (ours.src_embedding, ours.tgt_embedding), strict=True
    ):
        close(torch.zeros_like(embedding.weight).index_add(0, tokens.flatten(), gradient.flatten(0, 1) * D**0.5),
              embedding.weight.grad, atol=1e-9)  # fmt: skip


def test_embeddings_are_scaled_and_added_to_the_sinusoids():
    model, tokens = transformer(), pairs()[2]
    found = model.read(tokens, model.tgt_embedding, model.tgt_positions, 7)
    place = torch.tensor(7 + 3, dtype=torch.float64)
    close(found[1, 3, 0], D**0.5 * model.tgt_embedding.weight[tokens[1, 3], 0] + place.sin())


def test_the_encoder_gives_one_vector_for_each_token():
    src, mask, _ = pairs()
    memory = transformer().eval().encode(src, mask)
    assert memory.shape == (B, S, D)
    assert torch.pdist(memory[0].detach()).min() > 0.1, "each token of the source without padding has its own"


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_later_target_changes_no_earlier_answer_and_an_earlier_one_does(positions):
    model, (src, mask, tgt) = transformer(positions=positions), pairs()
    whole = model(src, mask, tgt)
    for t in range(T):
        other = tgt.clone()
        other[:, t] = (other[:, t] - 3) % (V_TGT - 4) + 4
        changed = (model(src, mask, other) - whole).abs().amax((0, 2)) > 1e-9
        assert changed.tolist() == [place >= t for place in range(T)]


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("positions", POSITIONS)
def test_padding_changes_nothing_and_what_is_real_does(positions, norm_first):
    model, (src, mask, tgt) = transformer(positions=positions, norm_first=norm_first), pairs()
    whole = model(src, mask, tgt)
    alone = [model(row[real].unsqueeze(0), None, t.unsqueeze(0)) for row, real, t in zip(src, mask, tgt, strict=True)]
    close(whole, torch.cat(alone))
    wider = nn.functional.pad(src, (0, 4), value=7), nn.functional.pad(mask, (0, 4))
    close(model(*wider, tgt), whole)
    swapped = src.clone()
    swapped[0, [0, 1]] = torch.tensor([4, 5])
    other = src.clone()
    other[0, [0, 1]] = torch.tensor([5, 4])
    assert not torch.allclose(model(swapped, mask, tgt)[0], model(other, mask, tgt)[0])  # the order counts


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_source_without_anything_real_gives_numbers(positions):
    model, (src, mask, tgt) = transformer(positions=positions), pairs()
    mask = mask & torch.tensor([[True], [True], [False]])
    logits = model(src, mask, tgt)
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("positions", POSITIONS)
def test_steps_with_a_cache_equal_decoding_all_at_once(positions, norm_first):
    model, (src, mask, tgt) = transformer(positions=positions, norm_first=norm_first).eval(), pairs()
    memory = model.encode(src, mask)
    whole = model.decode(tgt, memory, mask)
    state, found = model.start(memory, mask), []
    rows = torch.tensor([2, 0, 0])
    for t in range(T):
        logits, state = model.step(tgt[:, t : t + 1], state)
        found.append(logits)
    close(torch.stack(found, 1), whole)
    # What beam search does: rows are kept, dropped and doubled in the middle.
    _, state = model.step(tgt[:, :3], model.start(memory, mask))  # several at once
    logits, state = model.step(tgt[rows, 3:4], reordered(state, rows))
    close(logits, whole[rows, 3])
    assert all(x.shape[0] == B for x in tensors(state))
    # Without a mask, too.
    logits, _ = model.step(tgt, model.start(memory, None))
    close(logits, model.decode(tgt, memory, None)[:, -1])


def reordered(state, rows):
    if isinstance(state, tuple):
        return tuple(reordered(part, rows) for part in state)
    return state[rows]


def tensors(state):
    return [x for part in state for x in tensors(part)] if isinstance(state, tuple) else [state]


@pytest.mark.parametrize(("tied", "matrices"), [("none", 3), ("target", 2), ("all", 1)])
@pytest.mark.parametrize("positions", POSITIONS)
def test_every_parameter_gets_a_gradient_and_tied_matrices_are_one(positions, tied, matrices):
    model = transformer(positions=positions, tied=tied, src_vocab_size=V_TGT if tied == "all" else V_SRC)
    src, mask, tgt = pairs()
    nn.functional.cross_entropy(model(src, mask, tgt).flatten(0, 1), tgt.flatten()).backward()
    parameters = dict(model.named_parameters())
    assert [name for name, p in parameters.items() if not p.grad.any()] == []
    found = [p for p in parameters.values() if p.shape[0] in (V_SRC, V_TGT)]
    assert len(found) == matrices
    model.load_state_dict(model.state_dict())
    assert (model.output.weight is model.tgt_embedding.weight) is (tied != "none")
    assert (model.src_embedding.weight is model.tgt_embedding.weight) is (tied == "all")


def test_it_starts_with_the_scales_that_it_is_said_to_start_with():
    torch.manual_seed(0)
    model = Transformer(src_vocab_size=500, tgt_vocab_size=400, d_model=64, num_heads=4, d_ff=128, num_layers=1)
    for embedding in (model.src_embedding, model.tgt_embedding):
        assert embedding.weight.std().item() == pytest.approx(64**-0.5, rel=0.05)
    for name, parameter in (*model.encoder.named_parameters(), *model.decoder.named_parameters()):
        if parameter.ndim == 2:  # uniform of variance 2 / (fan_in + fan_out)
            assert parameter.abs().max() <= (6 / sum(parameter.shape)) ** 0.5
            assert parameter.std().item() == pytest.approx((2 / sum(parameter.shape)) ** 0.5, rel=0.05), name
        elif name.endswith("bias"):
            assert not parameter.any(), name
    logits = model.eval()(torch.randint(500, (4, 9)), None, torch.randint(400, (4, 9)))
    assert 0.7 < logits.std() < 1.4
    untied = Transformer(
        src_vocab_size=5, tgt_vocab_size=400, d_model=64, num_heads=4, d_ff=8, num_layers=1, tied="none"
    )
    assert untied.output.weight.std().item() == pytest.approx((2 / 464) ** 0.5, rel=0.05)


def test_weights_for_pictures_say_what_each_target_looks_at_in_the_source():
    model, (src, mask, tgt) = transformer(), pairs()
    found = model.attention(src, mask, tgt)
    assert list(found) == ["decoder.0.cross_attn", "decoder.1.cross_attn"]
    for weights in found.values():
        assert weights.shape == (B, HEADS, T, S)
        assert not weights.requires_grad
        assert not weights.masked_select(~mask[:, None, None]).any()
        close(weights.sum(3), torch.ones(B, HEADS, T, dtype=torch.float64))


def test_dropout_acts_in_training_alone():
    model, batch = transformer(dropout=0.5), pairs()
    assert not torch.equal(model(*batch), model(*batch))
    dropped = model.read(batch[0], model.src_embedding, model.src_positions) == 0
    assert 0.3 < dropped.double().mean() < 0.7
    model.eval()
    assert torch.equal(model(*batch), model(*batch))


def test_only_learned_positions_know_a_longest_sequence():
    model, (src, mask, tgt) = transformer(positions="learned", max_len=5), pairs()
    assert model.max_len == 5
    assert model.src_positions is not model.tgt_positions
    with pytest.raises(UserError, match=r"sequence of 6 tokens is longer than model\.max_len=5"):
        model.encode(src, mask)
    memory = model.encode(src[:, :5], mask[:, :5])
    _, state = model.step(tgt, model.start(memory, mask[:, :5]))
    with pytest.raises(UserError, match=r"sequence of 6 tokens is longer than model\.max_len=5"):
        model.step(tgt[:, :1], state)
    for positions in ("sinusoidal", "rotary"):
        assert transformer(positions=positions, max_len=5).max_len is None


@pytest.mark.parametrize(
    ("wrong", "telling"),
    [
        ({"tied": "all"}, r"model\.tied=all needs one vocabulary, but sources have 11 tokens and targets 13"),
        ({"tied": "source"}, r"There is no model\.tied=source"),
        ({"positions": "rotatory"}, "did you mean 'rotary'"),
        ({"activation": "ReLU"}, "did you mean 'relu'"),
    ],
)
def test_what_no_transformer_can_be_is_one_line(wrong, telling):
    with pytest.raises(UserError, match=telling):
        transformer(**wrong)


def test_it_reads_all_targets_at_once():
    model, (src, mask, tgt) = transformer(), pairs()
    with pytest.raises(UserError, match=r"task\.teacher_forcing=0\.5: a transformer reads all targets at once"):
        model.decode(tgt, model.encode(src, mask), mask, teacher_forcing=0.5)
