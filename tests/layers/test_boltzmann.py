"""A machine's formulas against all of its states written out."""

import math

import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.layers.boltzmann import RBMLayer, SigmoidStack
from zoo.metrics.partition import binary_states
from zoo.noise import Noise

V, H = 5, 4


def machine(visible="bernoulli", num_visible=V, num_hidden=H):
    torch.manual_seed(0)
    layer = RBMLayer(num_visible, num_hidden, visible=visible, std=0.8).double()
    nn.init.normal_(layer.visible_bias)
    nn.init.normal_(layer.hidden_bias)
    return layer.requires_grad_(False)


def energies(layer, v, h):
    """E(v, h) of each pair, (S, T), as the docstring has it."""
    own = 0.5 * (v - layer.visible_bias).square().sum(1) if layer.visible == "gaussian" else -v @ layer.visible_bias
    return own[:, None] - (v @ layer.weight @ h.T) - h @ layer.hidden_bias


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_free_energy_and_chances_are_those_of_all_hidden_states(visible):
    layer, h = machine(visible), binary_states(H, dtype=torch.float64)
    v = binary_states(V, dtype=torch.float64) if visible == "bernoulli" else torch.randn(50, V).double()
    joint = -energies(layer, v, h)  # (S, 2^H)
    torch.testing.assert_close(-layer.free_energy(v), joint.logsumexp(1))
    torch.testing.assert_close(layer(v), joint.softmax(1) @ h)


def test_the_other_sides_free_energy_is_that_of_all_visible_states():
    layer = machine()
    v, h = binary_states(V, dtype=torch.float64), binary_states(H, dtype=torch.float64)
    joint = -energies(layer, v, h)
    torch.testing.assert_close(-layer.hidden_free_energy(h), joint.logsumexp(0))
    torch.testing.assert_close(layer.visible_means(h), joint.softmax(0).T @ v)


def test_gaussian_units_are_normal_about_what_hidden_units_say():
    """p(v, h) = p(h) p(v | h) holds for every v and h, with the normal density written out."""
    layer, h, v = machine("gaussian"), binary_states(H, dtype=torch.float64), torch.randn(7, V).double()
    squares = (v[:, None] - layer.visible_means(h)).square().sum(2)  # (7, 2^H)
    density = -0.5 * squares - 0.5 * V * math.log(2 * math.pi)
    torch.testing.assert_close(-energies(layer, v, h), density - layer.hidden_free_energy(h))


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_what_is_drawn_has_the_mean_and_spread_that_it_should(visible):
    layer, h = machine(visible), binary_states(H)[5].double()
    noise = ((torch.arange(20000) + 0.5) / 20000).double()[:, None].expand(-1, V)  # every chance alike
    drawn, mean = layer.sample_visible(h.expand(20000, -1), noise), layer.visible_means(h)
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0, atol=1e-3)
    variance = torch.ones(V).double() if visible == "gaussian" else mean * (1 - mean)
    torch.testing.assert_close(drawn.var(0), variance, rtol=1e-2, atol=1e-3)
    assert layer.sample_visible(h, torch.zeros(V).double()).isfinite().all(), "a draw of exactly 0"
    on = layer.sample_hidden(torch.ones(20000, V).double(), noise[:, :H])
    torch.testing.assert_close(on.mean(0), layer(torch.ones(V).double()), rtol=0, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gaussian_units_are_drawn_in_16_bits(dtype):
    layer = RBMLayer(4, 3, visible="gaussian").to(dtype)
    means = torch.zeros(500, 4, dtype=dtype)
    drawn = layer.drawn(means, Noise(0).uniform((4,), at=(0,), rows=500, like=means))
    assert drawn.dtype == dtype
    assert drawn.isfinite().all()
    assert abs(drawn.float().std() - 1) < 0.05
    ends = torch.tensor([[0.0, 0.5, 0.5, 1.0]], dtype=dtype)  # 1: where another source of noise rounds up
    low, middle, _, high = layer.drawn(means[:1], ends)[0].tolist()
    assert low < -5
    assert middle == 0
    assert 5 < high < 10


def test_gibbs_sampling_reaches_the_distribution_of_the_machine():
    layer, states = machine(num_visible=3, num_hidden=2), binary_states(3, dtype=torch.float64)
    h = layer.dream(20000, 30, torch.Generator().manual_seed(0))
    v = layer.sample_visible(h, torch.rand(20000, 3, generator=torch.Generator().manual_seed(1)))
    found = torch.bincount((v @ torch.tensor([4.0, 2, 1]).double()).long(), minlength=8) / 20000
    wanted = (-layer.free_energy(states)).softmax(0)
    assert (found - wanted).abs().sum() / 2 < 0.015
    assert (wanted - 1 / 8).abs().sum() / 2 > 0.1, "a distribution that could tell"


def test_a_stack_with_a_head_is_a_perceptron_of_sigmoids_and_leaves_visible_biases_alone():
    torch.manual_seed(0)
    stack = SigmoidStack(in_features=6, hidden_features=[5, 4], num_outputs=3).double()
    nn.init.normal_(stack.classify.weight)
    linear = [nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)]
    plain = nn.Sequential(nn.Flatten(), linear[0], nn.Sigmoid(), linear[1], nn.Sigmoid(), linear[2]).double()
    for layer, other in zip(stack.layers, linear, strict=False):
        other.weight.data, other.bias.data = layer.weight.data.T.clone(), layer.hidden_bias.data.clone()
    linear[2].load_state_dict(stack.classify.state_dict())
    x = torch.rand(7, 2, 3).double()
    torch.testing.assert_close(stack(x), plain(x))
    stack(x).square().sum().backward()
    plain(x).square().sum().backward()
    for layer, other in zip(stack.layers, linear, strict=False):
        torch.testing.assert_close(layer.weight.grad, other.weight.grad.T)
        torch.testing.assert_close(layer.hidden_bias.grad, other.bias.grad)
    without = [name for name, p in stack.named_parameters() if p.grad is None]
    assert without == ["layers.0.visible_bias", "layers.1.visible_bias"]
    assert not any(p.requires_grad for name, p in stack.named_parameters() if name in without)


def test_a_stack_goes_up_and_down_to_any_depth():
    stack = SigmoidStack(in_features=6, image_shape=[1, 2, 3], hidden_features=[5, 4])
    x = torch.rand(7, 1, 2, 3)
    assert [stack.up(x, depth).shape[1] for depth in (0, 1, 2, None)] == [6, 5, 4, 4]
    assert torch.equal(stack.up(x, 1), stack.layers[0](x.flatten(1)))
    assert stack.down(stack.up(x)).shape == x.shape
    assert torch.equal(stack.down(stack.up(x, 1), 1).flatten(1), stack.layers[0].visible_means(stack.up(x, 1)))
    kinds = [layer.visible for layer in SigmoidStack(in_features=6, hidden_features=[5, 4]).layers]
    assert kinds == ["gaussian", "bernoulli"], "rows of a table below, probabilities above"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"in_features": 4, "hidden_features": []}, "model.hidden_features is empty"),
        ({"in_features": None, "hidden_features": [3]}, "are for images and tables alone; use data=digits"),
        ({"in_features": 4, "hidden_features": [3], "visible": "gausian"}, "did you mean 'gaussian'"),
    ],
)
def test_sizes_that_say_nothing_are_one_line(settings, told):
    with pytest.raises(UserError, match=told):
        SigmoidStack(**settings)
