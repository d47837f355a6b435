import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.layers.attention import MultiHeadAttention
from zoo.layers.positional import LearnedPositions, Rotary, SinusoidalPositions
from zoo.layers.transformer import DecoderLayer, EncoderLayer, FeedForward

B, T, S, D, HEADS, WIDTH = 2, 5, 7, 8, 2, 12
NAMES = (  # theirs, ours
    ("in_proj_", "qkv."),
    ("out_proj", "out"),
    ("multihead_attn", "cross_attn"),
    ("linear", "feed_forward.linear"),
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def close(ours, theirs, **options):
    torch.testing.assert_close(ours, theirs, **{"rtol": 0, "atol": 1e-12} | options)


def our_name(name):
    for theirs, ours in NAMES:
        name = name.replace(theirs, ours)
    return name


def zeros(length, size=D):
    return torch.zeros(1, length, size, dtype=torch.float64)


def test_sinusoids_are_those_of_the_paper():
    table = SinusoidalPositions(D)(zeros(100))[0]
    for t, i in ((0, 0), (3, 1), (99, 3), (64, 2)):
        angle = torch.tensor(t / 10_000 ** (2 * i / D), dtype=torch.float64)
        close(table[t, 2 * i], angle.sin())
        close(table[t, 2 * i + 1], angle.cos())


@pytest.mark.parametrize("shift", [1, 7])
def test_a_shift_is_the_same_linear_map_wherever_it_starts(shift):
    table = SinusoidalPositions(D)(zeros(60))[0]  # section 3.5
    found = torch.linalg.lstsq(table[:30], table[shift : 30 + shift]).solution  # (D, D)
    close(table[30:50] @ found, table[30 + shift : 50 + shift], atol=1e-9)


@pytest.mark.parametrize("make", [lambda: SinusoidalPositions(D), lambda: LearnedPositions(200, D), lambda: Rotary(D)])
def test_an_offset_is_the_place_of_the_first_token(make):
    positions, x = make().double(), normal(2, 3, 150, D)
    x = x if isinstance(positions, Rotary) else x[0]
    whole = positions(x)
    assert not torch.allclose(whole[..., 70:, :], positions(x[..., 70:, :]))
    for first in (1, 70, 149):
        close(positions(x[..., first:, :], first), whole[..., first:, :])


def test_rotary_scores_depend_on_the_distance_alone():
    rotary, q, k = Rotary(D), normal(1, 1, 1, D), normal(1, 1, 1, D, seed=1)

    def score(query_place, key_place):
        return (rotary(q, query_place) * rotary(k, key_place)).sum()

    for distance in (0, 1, 9):
        close(score(distance, 0), score(distance + 50, 50))
    assert not torch.allclose(score(1, 0), score(2, 0))
    assert not torch.allclose(score(1, 0), score(0, 1))  # the direction counts
    close(rotary(q, 31).norm(), q.norm())
    close(rotary(q, 0), q)


def test_a_table_made_while_a_text_is_written_serves_in_training_and_in_any_type():
    rotary = Rotary(D)
    with torch.inference_mode():
        rotary(torch.randn(1, 1, 3, D))
    x = torch.randn(1, 1, 3, D, requires_grad=True)
    rotary(x).sum().backward()
    for length in (60, 80):  # within the table that was made for float32, and beyond it
        x = normal(1, 1, length, D)
        close(rotary(x).norm(dim=3), x.norm(dim=3))  # nothing is rounded to float32
    assert not rotary.state_dict()


@pytest.mark.parametrize(
    ("call", "telling"),
    [
        (lambda: LearnedPositions(4, D)(torch.zeros(1, 5, D)), r"sequence of 5 tokens is longer than model.max_len=4"),
        (lambda: LearnedPositions(4, D)(torch.zeros(1, 1, D), 4), r"sequence of 5 tokens is longer"),
        (lambda: Rotary(5), "5 is odd"),
        (lambda: FeedForward(D, WIDTH, activation="gelu_than"), "did you mean 'gelu_tanh'"),
    ],
)
def test_what_cannot_be_is_one_line(call, telling):
    with pytest.raises(UserError, match=telling):
        call()


def equal_layers(kind, **options):
    """Ours and torch's, with the same numbers for weights, in float64."""
    torch.manual_seed(0)
    activation = options.pop("activation", "relu")
    theirs = getattr(nn, f"Transformer{kind.__name__}")(
        *(D, HEADS, WIDTH), dropout=0.0, activation=activation, batch_first=True, **options
    ).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours = kind(D, HEADS, WIDTH, activation=activation, **options).double()
    ours.load_state_dict({our_name(name): value for name, value in theirs.state_dict().items()})
    return ours, theirs


OPTIONS = ({}, {"norm_first": True, "activation": "gelu"}, {"layer_norm_eps": 0.1, "bias": False})


@pytest.mark.parametrize("options", OPTIONS, ids=["post_norm", "pre_norm_gelu", "eps_no_bias"])
@pytest.mark.parametrize("kind", [EncoderLayer, DecoderLayer])
def test_layers_equal_those_of_torch_forward_and_backward(kind, options):
    ours, theirs = equal_layers(kind, **options)
    x, memory = normal(B, T, D), normal(B, S, D, seed=1)
    causal = nn.Transformer.generate_square_subsequent_mask(T, dtype=torch.float64)
    if kind is EncoderLayer:
        mask = torch.arange(T) < torch.tensor([[T], [3]])
        inputs, found = (x,), ours(x, mask, is_causal=True)
        expected = theirs(x, src_mask=causal < 0, src_key_padding_mask=~mask, is_causal=True)
    else:
        mask = torch.arange(S) < torch.tensor([[S], [3]])
        inputs, found = (x, memory), ours(x, memory, mask)
        expected = theirs(x, memory, tgt_mask=causal, memory_key_padding_mask=~mask, tgt_is_causal=True)
    close(found, expected, atol=1e-10)
    weights = normal(*found.shape, seed=2).detach()
    gradients = [
        torch.autograd.grad((y * weights).sum(), [*inputs, *layer.parameters()])
        for y, layer in ((found, ours), (expected, theirs))
    ]
    for a, b in zip(gradients[0][: len(inputs)], gradients[1], strict=False):
        close(a, b, atol=1e-9)
    names = [[name for name, _ in layer.named_parameters()] for layer in (ours, theirs)]
    expected = {our_name(n): g for n, g in zip(names[1], gradients[1][len(inputs) :], strict=True)}
    for name, gradient in zip(names[0], gradients[0][len(inputs) :], strict=True):
        close(gradient, expected[name], atol=1e-9)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("kind", [EncoderLayer, DecoderLayer])
def test_a_layer_goes_on_from_its_cache(kind, norm_first):
    ours, _ = equal_layers(kind, norm_first=norm_first)
    x, memory = normal(B, T, D), normal(B, S, D, seed=1)
    arguments = (memory,) if kind is DecoderLayer else ()
    options = {"is_causal": True} if kind is EncoderLayer else {}
    whole = ours(x, *arguments, **options)
    first, cache = ours(x[:, :3], *arguments, cache=(), **options)
    second, cache = ours(x[:, 3:], *arguments, cache=cache, **options)
    close(torch.cat([first, second], 1), whole)
    assert cache[0].shape == (B, HEADS, T, D // HEADS)


@pytest.mark.parametrize("which", ["dropout", "attention_dropout", "activation_dropout"])
@pytest.mark.parametrize("kind", [EncoderLayer, DecoderLayer])
def test_each_dropout_acts_in_training_alone(kind, which):
    torch.manual_seed(0)
    layer = kind(D, HEADS, WIDTH, **{which: 0.5})
    arguments = (torch.randn(B, T, D),) * (1 if kind is EncoderLayer else 2)
    assert not torch.equal(layer(*arguments), layer(*arguments))
    layer.eval()
    assert torch.equal(layer(*arguments), layer(*arguments))
    rates = {
        "dropout": [layer.dropout.p],
        "attention_dropout": [m.dropout for m in layer.modules() if isinstance(m, MultiHeadAttention)],
        "activation_dropout": [layer.feed_forward.dropout.p],
    }
    assert {p for name, found in rates.items() for p in found if name != which} == {0.0}
    assert set(rates[which]) == {0.5}


def test_dropout_leaves_what_was_there_alone():
    """Everything that is added is dropped, so a pre-norm layer is the identity (p = 1 is not for use)."""
    layer, x = EncoderLayer(D, HEADS, WIDTH, norm_first=True, dropout=1.0), torch.randn(B, T, D)
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", torch.relu),
        ("gelu", nn.functional.gelu),
        ("gelu_tanh", lambda x: nn.functional.gelu(x, approximate="tanh")),
        ("silu", nn.functional.silu),
    ],
)
def test_feed_forward_is_equation_2(name, function):
    layer, x = FeedForward(D, WIDTH, activation=name).double(), normal(B, T, D)
    hidden = function(x @ layer.linear1.weight.T + layer.linear1.bias)
    close(layer(x), hidden @ layer.linear2.weight.T + layer.linear2.bias)
