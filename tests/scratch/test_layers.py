"""Each layer written out is equal to torch's, forward and backward, in float64."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from zoo.layers import convolution as ours
from zoo.scratch import recurrent
from zoo.scratch.layers import ClassicDropout, collapse
from zoo.scratch.swap import TWINS, from_scratch

CASES = [
    (nn.Linear(5, 3), (4, 5)),
    (nn.Linear(5, 3, bias=False), (2, 7, 5)),
    (nn.Conv1d(3, 4, 3), (2, 3, 9)),
    (nn.Conv1d(4, 6, 4, padding=1, stride=3, dilation=2, groups=2), (2, 4, 17)),
    (nn.Conv1d(2, 3, 4, padding="same", dilation=3), (2, 2, 11)),
    (nn.Conv2d(3, 4, 3), (2, 3, 8, 9)),
    (nn.Conv2d(3, 4, 1, stride=2), (2, 3, 8, 9)),
    (nn.Conv2d(1, 6, 5, padding=2, stride=2), (2, 1, 11, 11)),
    (nn.Conv2d(2, 3, (1, 3), padding=(0, 2), stride=(1, 2), dilation=2, bias=False), (2, 2, 7, 7)),
    (nn.Conv2d(4, 6, 3, groups=2, padding=1), (2, 4, 5, 6)),
    (nn.Conv2d(4, 8, 3, groups=4, padding=1, stride=2), (2, 4, 5, 6)),
    (nn.Conv2d(2, 3, (2, 5), padding="same", dilation=(3, 1)), (2, 2, 7, 7)),
    (nn.Conv2d(2, 3, 3, padding="valid", stride=2), (2, 2, 7, 7)),
    (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 2, 7, 7)),
    (nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="circular"), (2, 2, 7, 7)),
    (ours.Conv1d(2, 3, 4, padding="same", stride=3), (2, 2, 11)),
    (ours.Conv2d(2, 3, (2, 5), padding="same", stride=2), (2, 2, 9, 7)),
    (ours.Conv2d(2, 3, 3, padding="same"), (2, 2, 9, 7)),
    (nn.ConvTranspose1d(3, 4, 3, stride=2), (2, 3, 5)),
    (nn.ConvTranspose1d(4, 2, 4, stride=3, padding=2, output_padding=1, groups=2), (2, 4, 5)),
    (nn.ConvTranspose2d(3, 4, 3), (2, 3, 4, 5)),
    (nn.ConvTranspose2d(3, 4, 2, stride=2, bias=False), (2, 3, 4, 5)),
    (nn.ConvTranspose2d(3, 2, (3, 4), stride=(2, 3), padding=(0, 2), output_padding=(1, 2)), (2, 3, 4, 5)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), (2, 4, 4, 5)),
    (nn.MaxPool1d(3, stride=2, padding=1), (2, 3, 9)),
    (nn.MaxPool2d(2), (2, 3, 7, 6)),
    (nn.MaxPool2d(3, stride=2, padding=1), (2, 3, 8, 9)),
    (nn.MaxPool2d((2, 3), stride=(1, 2), dilation=2), (2, 3, 9, 9)),
    (nn.AvgPool1d(3, stride=2, padding=1), (2, 3, 9)),
    (nn.AvgPool1d(3, padding=1, count_include_pad=False), (2, 3, 9)),
    (nn.AvgPool2d(2), (2, 3, 7, 6)),
    (nn.AvgPool2d(3, stride=1), (2, 3, 5, 5)),
    (nn.AvgPool2d((3, 2), stride=2, padding=1), (2, 3, 8, 9)),
    (nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), (2, 3, 8, 9)),
    (nn.AvgPool2d(2, divisor_override=3), (2, 3, 7, 6)),
    (nn.AdaptiveAvgPool1d(1), (2, 3, 7)),
    (nn.AdaptiveAvgPool1d(3), (2, 3, 7)),
    (nn.AdaptiveAvgPool2d(1), (2, 3, 7, 6)),
    (nn.AdaptiveAvgPool2d((3, None)), (2, 3, 7, 4)),
    (nn.BatchNorm1d(4), (6, 4)),
    (nn.BatchNorm1d(4, eps=0.1, affine=False), (3, 4, 5)),
    (nn.BatchNorm2d(4), (3, 4, 5, 2)),
    (nn.BatchNorm2d(4, track_running_stats=False), (3, 4, 5, 2)),
    (nn.LayerNorm(6), (3, 6)),
    (nn.LayerNorm((4, 5), bias=False), (3, 2, 4, 5)),
    (nn.LayerNorm(6, elementwise_affine=False, eps=0.1), (3, 2, 6)),
    (nn.Sigmoid(), (40,)),
    (nn.Tanh(), (40,)),
    (nn.Hardtanh(), (40,)),
    (nn.Hardtanh(-0.3, 2.0), (40,)),
    (nn.ReLU(), (40,)),
    (nn.ReLU6(), (4, 400)),
    (nn.LeakyReLU(), (40,)),
    (nn.LeakyReLU(0.3), (40,)),
    (nn.ELU(), (40,)),
    (nn.ELU(0.3), (40,)),
    (nn.GELU(), (40,)),
    (nn.GELU("tanh"), (40,)),
    (nn.SiLU(), (40,)),
    (nn.Softmax(1), (4, 5)),
    (nn.Softmax(-3), (2, 4, 5, 3)),
    (nn.LogSoftmax(1), (4, 5)),
    (nn.Dropout(0.3), (400,)),
    (nn.Dropout(1.0), (40,)),
]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def shaken(layer: nn.Module) -> nn.Module:
    """The layer in float64 with other parameters than it begins with, so that none is 0 or 1 by chance."""
    layer = copy.deepcopy(layer).double()
    for i, parameter in enumerate(layer.parameters()):
        parameter.data += randn(*parameter.shape, seed=i + 1) / 10
    return layer


def assert_twins(layer: nn.Module, twin: nn.Module, x: torch.Tensor) -> None:
    """Same outputs, same gradients by input and parameters, same buffers."""
    found = []
    for module in (layer, twin):
        leaf = x.clone().requires_grad_()
        torch.manual_seed(1)
        y = module(leaf)
        weight = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y)
        gradients = torch.autograd.grad((y * weight).sum(), [leaf, *module.parameters()])
        found.append([y.detach(), *gradients, *module.buffers()])
    for theirs, own in zip(*found, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")  # torch's is slow there
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("layer", "shape"), CASES, ids=lambda value: str(value)[:60])
def test_a_twin_is_equal_to_torch_forward_and_backward(layer, shape, training):
    layer = shaken(layer).train(training)
    twin = copy.deepcopy(layer)
    assert from_scratch(twin) == ([type(layer).__name__], [])
    assert list(twin.state_dict()) == list(layer.state_dict())
    for seed in range(3):  # running statistics go on from step to step
        assert_twins(layer, twin, randn(*shape, seed=seed))


def test_every_twin_is_tested():
    recurrent_ones = {kind for kind, twin in TWINS.items() if twin.__module__ == recurrent.__name__}
    assert {type(layer) for layer, _ in CASES} >= set(TWINS) - recurrent_ones - {nn.Embedding}


@pytest.mark.parametrize("padding_idx", [None, 0, -2])
@pytest.mark.parametrize("shape", [(), (6,), (3, 7)])
def test_an_embedding_looks_up_as_torchs_and_padding_learns_nothing(shape, padding_idx):
    table = shaken(nn.Embedding(5, 3, padding_idx=padding_idx))
    twin = copy.deepcopy(table)
    assert from_scratch(twin) == (["Embedding"], [])
    tokens = torch.randint(5, shape, generator=torch.Generator().manual_seed(0))
    for layer in (table, twin):
        y = layer(tokens)
        (y * torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y)).sum().backward()
    torch.testing.assert_close(twin(tokens), table(tokens), rtol=0, atol=0)
    torch.testing.assert_close(twin.weight.grad, table.weight.grad, rtol=1e-13, atol=1e-13)
    assert padding_idx is None or not twin.weight.grad[padding_idx].any()


@pytest.mark.parametrize("token", [-1, 5])
def test_a_token_outside_the_vocabulary_is_no_row(token):
    table = nn.Embedding(5, 3)
    from_scratch(table)
    with pytest.raises(IndexError):
        table(torch.tensor([token]))


@pytest.mark.parametrize("layer", [nn.MaxPool2d(3, stride=2, padding=1), nn.MaxPool2d(2, stride=1), nn.MaxPool1d(3)])
def test_of_several_largest_values_the_first_gets_the_gradient_as_in_torch(layer):
    x = torch.relu(randn(2, 3, *(12,) * (2 if isinstance(layer, nn.MaxPool2d) else 1))).round()  # mostly 0
    twin = copy.deepcopy(layer)
    from_scratch(twin)
    assert_twins(layer, twin, x)


@pytest.mark.parametrize("layer", [
    nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(2, return_indices=True), nn.AvgPool1d(2, ceil_mode=True),
    nn.Softmax(), nn.Softplus(), nn.GroupNorm(2, 4), nn.Embedding(5, 2, sparse=True), nn.Embedding(5, 2, max_norm=1.0),
    nn.Embedding(5, 2, scale_grad_by_freq=True), nn.LSTM(3, 4, proj_size=2),
])  # fmt: skip
def test_what_has_no_twin_keeps_torchs_layer_and_is_named(layer):
    assert from_scratch(layer) == ([], [type(layer).__name__])
    assert type(layer).__module__.startswith("torch.")


@pytest.mark.parametrize("layer", [nn.Identity(), nn.Flatten(), nn.Sequential()])
def test_what_computes_nothing_is_not_spoken_of(layer):
    assert from_scratch(layer) == ([], [])


class Doubled(nn.Linear):
    """A user's own layer, with whatever it may do."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_a_users_own_layer_stays():
    layer = Doubled(3, 2)
    assert from_scratch(nn.Sequential(layer)) == ([], [])
    assert type(layer) is Doubled


def test_turning_twice_changes_nothing():
    model = nn.Sequential(nn.Linear(3, 2), ours.Conv2d(1, 1, 3, padding="same", stride=2))
    from_scratch(model)
    kinds = [type(layer) for layer in model]
    assert from_scratch(model) == ([], [])
    assert [type(layer) for layer in model] == kinds


@pytest.mark.parametrize("momentum", [0.3, None])
def test_batch_norm_remembers_as_torch_does_over_steps(momentum):
    layer = nn.BatchNorm2d(3, momentum=momentum).double()
    twin = copy.deepcopy(layer)
    from_scratch(twin)
    for seed in range(4):
        x = randn(2, 3, 2, 2, seed=seed)
        layer(x), twin(x)
        for name, value in layer.state_dict().items():
            torch.testing.assert_close(twin.state_dict()[name], value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(twin.eval()(x), layer.eval()(x), rtol=1e-12, atol=1e-12)


def test_running_variance_is_the_unbiased_one():
    layer = nn.BatchNorm1d(1, momentum=1.0).double()
    from_scratch(layer)
    layer(torch.tensor([[0.0], [2.0]], dtype=torch.float64))
    assert layer.running_var.item() == pytest.approx(2.0)  # the batch's own, biased one is 1


def test_a_batch_of_one_value_has_no_variance_to_normalize_by():
    layer = nn.BatchNorm1d(3)
    from_scratch(layer)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(torch.zeros(1, 3))


@pytest.mark.parametrize("p", [0.2, 0.25])
def test_both_dropouts_keep_their_expectation_from_training_to_evaluation(p):
    inverted, classic = nn.Dropout(p), ClassicDropout(p)
    from_scratch(inverted)
    x = torch.linspace(-1, 2, 200, dtype=torch.float64)
    torch.manual_seed(0)
    for layer, expected in ((inverted, x), (classic, (1 - p) * x)):
        mean = layer.train()(x.expand(20_000, -1)).mean(0)
        # The mean of 20,000 draws is off by sqrt(p (1 - p) / 20,000) |x| / (1 - p), here at most 0.008.
        torch.testing.assert_close(mean, expected, rtol=0, atol=0.03)
        torch.testing.assert_close(layer.eval()(x), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("p", [0.2, 0.25])
def test_dropouts_drop_their_share_and_scale_the_rest_at_their_own_time(p):
    x = torch.ones(100_000)
    for layer, kept in ((nn.Dropout(p), 1 / (1 - p)), (ClassicDropout(p), 1.0)):
        from_scratch(layer)
        torch.manual_seed(0)
        y = layer(x)
        assert (y == 0).float().mean().item() == pytest.approx(p, abs=0.005)
        assert y.max().item() == pytest.approx(kept)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", [(5, 3), (5, 7, 3), (5, 2, 9, 4, 3)])
def test_a_stack_of_dense_layers_is_one_dense_layer(widths, bias):
    layers = (nn.Linear(*pair, bias=bias or i == 1) for i, pair in enumerate(pairwise(widths)))
    stack = nn.Sequential(*layers).double()
    x = randn(8, 5)
    torch.testing.assert_close(collapse(stack)(x), stack(x), rtol=1e-12, atol=1e-12)


def test_a_nonlinearity_keeps_a_stack_from_collapsing():
    with pytest.raises(ValueError, match="ReLU"):
        collapse(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)))
