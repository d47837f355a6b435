"""The backward pass by hand is autograd's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.models.mlp import MLP
from zoo.scratch import backprop

LOSSES = {
    "cross entropy": (F.cross_entropy, backprop.delta_of_cross_entropy),
    "squared error": (F.mse_loss, backprop.delta_of_squared_error),
}


def network(hidden: tuple[int, ...], activation: str) -> tuple[MLP, list, list]:
    torch.manual_seed(0)
    net = MLP(in_features=5, out_features=3, hidden_features=hidden, activation=activation).double()
    for parameter in net.parameters():
        parameter.data += torch.randn_like(parameter) / 3  # biases begin at 0, where a sign would not show
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    return net, [layer.weight for layer in layers], [layer.bias for layer in layers]


def data(loss: str) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    values = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return x, values.argmax(1) if loss == "cross entropy" else values


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", backprop.ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (6,), (6, 4, 8)])
def test_every_gradient_is_autograds(hidden, activation, loss):
    net, weights, biases = network(hidden, activation)
    x, targets = data(loss)
    function, delta_of = LOSSES[loss]
    passed = backprop.forward(x, weights, biases, activation)
    gradients = backprop.backward(passed, weights, delta_of(passed.a[-1], targets), activation)

    y = net(x.requires_grad_())
    torch.testing.assert_close(passed.a[-1], y, rtol=1e-13, atol=1e-14)
    expected = torch.autograd.grad(function(y, targets), [*weights, *biases, x])
    found = [*gradients.weights, *gradients.biases, gradients.x]
    for own, theirs in zip(found, expected, strict=True):
        assert not own.requires_grad
        torch.testing.assert_close(own, theirs, rtol=1e-12, atol=1e-14)


def test_a_backward_pass_computes_gradients_and_moves_nothing():
    net, weights, biases = network((6, 4), "Tanh")
    before = [p.detach().clone() for p in net.parameters()]
    x, labels = data("cross entropy")
    passed = backprop.forward(x, weights, biases, "Tanh")
    gradients = backprop.backward(passed, weights, backprop.delta_of_cross_entropy(passed.a[-1], labels), "Tanh")
    F.cross_entropy(net(x), labels).backward()
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))
    torch.optim.SGD(net.parameters(), lr=0.1).step()  # the update is the optimizer's, and comes after
    for weight, old, gradient in zip(weights, before[::2], gradients.weights, strict=True):
        torch.testing.assert_close(weight, old - 0.1 * gradient, rtol=1e-12, atol=1e-14)


def test_relu_passes_nothing_back_where_it_is_0():
    weights = [torch.eye(2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)]
    biases = [torch.zeros(2, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)]
    passed = backprop.forward(torch.tensor([[0.0, 3.0]], dtype=torch.float64), weights, biases, "ReLU")
    gradients = backprop.backward(passed, weights, torch.ones(1, 1, dtype=torch.float64), "ReLU")
    assert gradients.x.tolist() == [[0.0, 1.0]]
