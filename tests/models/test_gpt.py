import pytest
import torch

from zoo.decoding import sample, step_of
from zoo.errors import UserError
from zoo.models.gpt import GPT
from zoo.running.loading import load_pretrained

V, SIZES = 19, {"max_len": 12, "d_model": 16, "num_heads": 2, "num_layers": 3}
POSITIONS = ("learned", "rotary")


def gpt(*, seed=0, **options):
    torch.manual_seed(seed)
    model = GPT(vocab_size=V, **SIZES | options).double()
    for parameter in model.parameters():  # louder than it starts, so that every part counts
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return model


def tokens_of(*shape, seed=1):
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(seed))


def close(ours, theirs, **options):
    torch.testing.assert_close(ours, theirs, **{"rtol": 0, "atol": 1e-10} | options)


@pytest.fixture
def gpt2():
    """A GPT-2 of random weights, as the `transformers` package builds it."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(2)
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=12, n_embd=16, n_layer=3, n_head=2, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return model


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_equals_a_gpt2_of_transformers_forward_and_backward(gpt2, dtype, within):
    ours = gpt(activation="gelu_tanh").eval()
    ours.load_gpt2(gpt2.state_dict())
    ours, gpt2, tokens = ours.to(dtype), gpt2.to(dtype), tokens_of(3, 12)
    found, expected = ours(tokens)[0], gpt2(tokens).logits
    close(found, expected, atol=within)
    targets = tokens_of(3, 12, seed=5).flatten()
    for logits in (found, expected):
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets).backward()
    attention, theirs = ours.layers[1].self_attn, gpt2.transformer.h[1].attn
    close(ours.embedding.weight.grad, gpt2.transformer.wte.weight.grad, atol=within)
    close(ours.positions.weight.grad, gpt2.transformer.wpe.weight.grad, atol=within)
    close(attention.qkv.weight.grad, theirs.c_attn.weight.grad.T, atol=within)
    close(attention.out.bias.grad, theirs.c_proj.bias.grad, atol=within)


def test_a_checkpoint_of_gpt2_loads_with_and_without_its_head_and_masks(gpt2):
    whole, body = gpt(seed=3), gpt(seed=4)
    whole.load_gpt2(gpt2.state_dict())
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 12, 12).tril() for i in range(3)}
    body.load_gpt2(gpt2.transformer.state_dict() | masks)  # OpenAI's has neither prefix nor head
    for (name, a), b in zip(whole.named_parameters(), body.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert whole.output.weight is whole.embedding.weight


def test_a_file_of_transformers_is_pretrained_as_it_is(gpt2, tmp_path):
    gpt2.save_pretrained(tmp_path)
    expected, ours = gpt(seed=3), gpt(seed=4)
    expected.load_gpt2(gpt2.state_dict())
    report = load_pretrained(ours, tmp_path / "model.safetensors")
    assert (report.new, report.skipped, report.adapted) == ([], [], [])
    for (name, a), b in zip(ours.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b), name
    classifier = {name: x.clone() for name, x in gpt2.state_dict().items()} | {"score.weight": torch.ones(2, 16)}
    torch.save(classifier, tmp_path / "of_classes.bin")
    assert load_pretrained(gpt(), tmp_path / "of_classes.bin").skipped == ["score.weight"]
    assert load_pretrained(gpt(num_layers=2), tmp_path / "model.safetensors").skipped[0].startswith("layers.2.")


@pytest.mark.parametrize("positions", POSITIONS)
def test_no_token_sees_a_later_one_and_every_token_sees_the_earlier_ones(positions):
    model, tokens = gpt(positions=positions), tokens_of(2, 8)
    whole, _ = model(tokens)
    for t in range(8):
        other = tokens.clone()
        other[:, t] = (other[:, t] + 1) % V
        changed = (model(other)[0] - whole).abs().amax((0, 2)) > 1e-9
        assert changed.tolist() == [place >= t for place in range(8)]


@pytest.mark.parametrize("positions", POSITIONS)
def test_reading_on_with_a_state_equals_reading_all_again(positions):
    model, tokens = gpt(positions=positions).eval(), tokens_of(2, 12)
    whole, _ = model(tokens)
    pieces, state = [], None
    for start, end in ((0, 5), (5, 6), (6, 7), (7, 11), (11, 12)):
        logits, state = model(tokens[:, start:end], state=state)
        pieces.append(logits)
        assert [[x.shape for x in layer] for layer in state] == [[(2, 2, end, 8)] * 2] * 3
    close(torch.cat(pieces, 1), whole)
    model.positions = model.rotary = None
    assert not torch.allclose(model(tokens)[0], whole)  # places count


def test_a_text_is_written_the_same_with_and_without_the_cache():
    model, first = gpt().eval(), tokens_of(2, 3)

    def reading_all_again(tokens, seen):
        seen = tokens if seen is None else torch.cat([seen, tokens], 1)
        return model(seen)[0][:, -1], seen

    found, expected = (
        sample(step, first, steps=9, temperature=3.0, generator=torch.Generator().manual_seed(0))
        for step in (step_of(model), reading_all_again)
    )
    assert torch.equal(found, expected)
    assert len(expected.unique()) > 4


def test_it_starts_as_gpt2_does():
    torch.manual_seed(0)
    model = GPT(vocab_size=300, max_len=100, d_model=128, num_heads=4, num_layers=8)
    for name, parameter in model.named_parameters():
        if name.endswith(("out.weight", "linear2.weight")):
            assert parameter.std().item() == pytest.approx(0.02 / 4, rel=0.05), name
        elif parameter.ndim == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name
        else:
            assert torch.equal(parameter, torch.full_like(parameter, "norm" in name and "weight" in name)), name
    logits, _ = model(torch.randint(300, (4, 100)))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.randint(300, (400,)))
    assert loss.item() == pytest.approx(torch.tensor(300.0).log().item(), rel=0.02)


def test_has_the_parameters_of_the_smallest_gpt2():
    with torch.device("meta"):
        model = GPT(vocab_size=50257, max_len=1024, d_model=768, num_heads=12, num_layers=12)
    assert sum(p.numel() for p in model.parameters()) == 124_439_808


@pytest.mark.parametrize("options", [{}, {"positions": "rotary"}, {"bias": False, "d_ff": 8}])
def test_every_parameter_gets_a_gradient(options):
    model, tokens = gpt(**options), tokens_of(3, 12)
    torch.nn.functional.cross_entropy(model(tokens)[0].flatten(0, 1), tokens.flatten()).backward()
    assert [name for name, p in model.named_parameters() if not p.grad.any()] == []


@pytest.mark.parametrize("which", ["dropout", "attention_dropout"])
def test_dropout_acts_in_training_alone(which):
    model, tokens = gpt(**{which: 0.5}), tokens_of(3, 12)
    assert not torch.equal(model(tokens)[0], model(tokens)[0])
    model.eval()
    assert torch.equal(model(tokens)[0], model(tokens)[0])


@pytest.mark.parametrize("positions", POSITIONS)
def test_more_tokens_than_it_looks_back_over_are_one_line(positions):
    model = gpt(positions=positions)
    _, state = model(tokens_of(1, 12))
    for tokens, before in ((tokens_of(1, 13), None), (tokens_of(1, 1), state)):
        with pytest.raises(UserError, match=r"13 tokens are more than model\.max_len=12"):
            model(tokens, state=before)
    with pytest.raises(UserError, match=r"There is no model\.positions=sinusoidal"):
        gpt(positions="sinusoidal")
