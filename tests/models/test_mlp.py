from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.neural_network import MLPClassifier
from torch import nn

from zoo.errors import UserError
from zoo.layers.by_name import ACTIVATIONS
from zoo.losses.supervised import cross_entropy
from zoo.models.mlp import MLP

SIZES = [(4, [], 3), (5, [7], 3), (64, [16, 8], 10), (3, [4, 4, 4], 2)]


def inputs(num_samples: int, num_features: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_samples, num_features, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("activation", "theirs"), [("ReLU", "relu"), ("Tanh", "tanh"), ("Sigmoid", "logistic"), ("Identity", "identity")]
)
@pytest.mark.parametrize(("num_features", "hidden", "num_classes"), [(3, [5], 2), (4, [7], 3), (20, [16, 8, 4], 10)])
def test_probabilities_equal_those_of_scikit_learn(num_features, hidden, num_classes, activation, theirs):
    x = inputs(50, num_features)
    twin = MLPClassifier(hidden, activation=theirs, random_state=0)
    twin.partial_fit(x.numpy(), np.arange(50) % num_classes, classes=np.arange(num_classes))
    num_outputs = 1 if num_classes == 2 else num_classes
    model = MLP(in_features=num_features, out_features=num_outputs, hidden_features=hidden, activation=activation)
    linears = [module for module in model.double().modules() if isinstance(module, nn.Linear)]
    for linear, weight, bias in zip(linears, twin.coefs_, twin.intercepts_, strict=True):
        linear.weight.data.copy_(torch.from_numpy(weight.T))
        linear.bias.data.copy_(torch.from_numpy(bias))
    logits = model(x)
    ours = torch.cat([1 - logits.sigmoid(), logits.sigmoid()], 1) if num_outputs == 1 else logits.softmax(1)
    np.testing.assert_allclose(ours.detach().numpy(), twin.predict_proba(x.numpy()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", ["Tanh", "ReLU"])
@pytest.mark.parametrize(("num_samples", "num_features", "width", "num_classes"), [(1, 2, 3, 2), (17, 8, 5, 4)])
def test_gradients_equal_a_backward_pass_written_by_hand(num_samples, num_features, width, num_classes, activation):
    model = MLP(in_features=num_features, out_features=num_classes, hidden_features=[width], activation=activation)
    model = model.double()
    torch.nn.init.normal_(model.hidden[0].linear.bias, generator=torch.Generator().manual_seed(1))
    x, targets = inputs(num_samples, num_features), torch.arange(num_samples) % num_classes
    loss = cross_entropy(model(x), targets)
    loss.backward()

    w1, b1, w2, b2 = (p.detach().numpy() for p in model.parameters())
    a = x.numpy() @ w1.T + b1  # (B, D)
    h = np.tanh(a) if activation == "Tanh" else np.maximum(a, 0)
    z = h @ w2.T + b2  # (B, K)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    dz = (p - np.eye(num_classes)[targets.numpy()]) / num_samples
    dh = dz @ w2
    da = dh * (1 - h**2) if activation == "Tanh" else dh * (a > 0)
    by_hand = [da.T @ x.numpy(), da.sum(0), dz.T @ h, dz.sum(0)]
    for parameter, gradient in zip(model.parameters(), by_hand, strict=True):
        np.testing.assert_allclose(parameter.grad.numpy(), gradient, rtol=0, atol=1e-12)
    np.testing.assert_allclose(loss.item(), -np.log(p[np.arange(num_samples), targets.numpy()]).mean(), rtol=1e-12)


@pytest.mark.parametrize("name", ["BatchNorm1d", "LayerNorm"])
@pytest.mark.parametrize(("after", "order"), [(False, "linear normalization activation dropout"),
                                              (True, "linear activation normalization dropout")])  # fmt: skip
def test_normalization_stands_before_or_after_the_activation_as_named(name, after, order):
    model = MLP(in_features=4, out_features=2, hidden_features=[6, 5], normalization=name, dropout=0.1,
                normalize_after_activation=after)  # fmt: skip
    for layer, width in zip(model.hidden, [6, 5], strict=True):
        assert [part for part, _ in layer.named_children()] == order.split()
        assert type(layer.normalization).__name__ == name
        assert layer.normalization.weight.shape == (width,)
    x = inputs(32, 4).float()
    layer = model.hidden[0]
    layer.dropout.p = 0.0
    linear = layer.linear(x)
    normalize = nn.BatchNorm1d(6) if name == "BatchNorm1d" else nn.LayerNorm(6)
    expected = normalize(linear.relu()) if after else normalize(linear).relu()
    torch.testing.assert_close(layer(x), expected)


def test_dropout_is_off_in_evaluation():
    model = MLP(in_features=8, out_features=3, hidden_features=[16], dropout=0.5, input_dropout=0.5).double()
    twin = MLP(in_features=8, out_features=3, hidden_features=[16]).double()
    twin.load_state_dict(model.state_dict())
    x = inputs(20, 8)
    assert torch.equal(model.eval()(x), twin(x))
    assert not torch.equal(model.train()(x), twin(x))


@pytest.mark.parametrize("share", [0.2, 0.5])
@pytest.mark.parametrize("where", ["dropout", "input_dropout"])
def test_dropout_zeroes_its_share_in_training_and_scales_the_rest_up(where, share):
    torch.manual_seed(0)
    model = MLP(in_features=50, out_features=1, hidden_features=[50], activation="Identity", **{where: share})
    dropout = model.hidden[0].dropout if where == "dropout" else model.input_dropout
    seen = []
    dropout.register_forward_hook(lambda module, before, after: seen.append((before[0], after)))
    model.double()(inputs(400, 50))
    before, after = seen[0]
    dropped = after == 0
    assert abs(dropped.double().mean().item() - share) < 0.02  # 20,000 units: four standard deviations are 0.014
    torch.testing.assert_close(after[~dropped], before[~dropped] / (1 - share), rtol=1e-12, atol=0)


def test_dropout_stands_where_it_is_asked_for_alone():
    model = MLP(in_features=3, out_features=1, hidden_features=[4, 4], input_dropout=0.3)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.3]


@pytest.mark.parametrize("where", ["dropout", "input_dropout"])
@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_0_to_1_is_refused(where, share):
    with pytest.raises(ValueError, match="probability"):
        MLP(in_features=3, out_features=1, **{where: share})


@pytest.mark.parametrize("num_outputs", [1, 4])
def test_without_hidden_layers_it_is_linear(num_outputs):
    model = MLP(in_features=6, out_features=num_outputs, hidden_features=[]).double()
    x, y = inputs(5, 6), inputs(5, 6, seed=1)
    torch.testing.assert_close(model(x), x @ model.output.weight.T + model.output.bias, rtol=0, atol=1e-12)
    bias = model.output.bias
    torch.testing.assert_close(model(2 * x - 3 * y) - bias, 2 * (model(x) - bias) - 3 * (model(y) - bias))


def test_layers_without_a_nonlinearity_collapse_into_one():
    model = MLP(in_features=4, out_features=3, hidden_features=[9, 8, 7], activation="Identity").double()
    x = inputs(10, 4)
    bias = model(torch.zeros(1, 4, dtype=torch.float64))
    matrix = model(torch.eye(4, dtype=torch.float64)) - bias  # (F, K)
    torch.testing.assert_close(model(x), x @ matrix + bias, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("num_features", "hidden", "num_outputs"), SIZES)
@pytest.mark.parametrize("normalization", [None, "BatchNorm1d", "LayerNorm"])
def test_number_of_parameters_follows_from_the_widths(num_features, hidden, num_outputs, normalization):
    model = MLP(in_features=num_features, out_features=num_outputs, hidden_features=hidden, normalization=normalization)
    widths = [num_features, *hidden, num_outputs]
    expected = sum(before * after + after for before, after in pairwise(widths))
    expected += 2 * sum(hidden) if normalization else 0
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize(("num_features", "hidden", "num_outputs"), SIZES)
def test_the_output_has_no_nonlinearity_and_any_input_shape_is_flattened(num_features, hidden, num_outputs):
    model = MLP(in_features=num_features, out_features=num_outputs, hidden_features=hidden).double()
    x = inputs(40, num_features)
    outputs = model(x)
    assert outputs.shape == (40, num_outputs)
    assert torch.equal(outputs, model.output(model.hidden(x)))
    model.output.bias.data.fill_(-1e6)  # no squashing, no rectifying
    assert (model(x) < -9e5).all()
    model.output.bias.data.zero_()
    assert torch.equal(model(x.reshape(40, 1, num_features, 1)), outputs)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_that_is_offered_builds_and_passes_gradients(activation):
    model = MLP(in_features=4, out_features=2, hidden_features=[6, 5], activation=activation).double()
    torch.testing.assert_close(model.hidden[0].activation(inputs(3, 4)), getattr(nn, activation)()(inputs(3, 4)))
    model(inputs(30, 4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"activation": "relu"}, "There is no activation 'relu'.*did you mean 'ReLU'"),
        ({"activation": "ReLu"}, "There is no activation 'ReLu'.*did you mean 'ReLU'"),
        ({"activation": "Sigmiod"}, "did you mean 'Sigmoid'"),
        ({"output_activation": "softmax"}, "There is no output activation 'softmax'.*did you mean 'Softmax'"),
        ({"normalization": "BatchNorm"}, "There is no normalization 'BatchNorm'.*did you mean 'BatchNorm1d'"),
    ],
)
def test_a_misspelt_name_gets_a_did_you_mean(wrong, message):
    with pytest.raises(UserError, match=message):
        MLP(in_features=2, out_features=2, hidden_features=[3], **wrong)


@pytest.mark.parametrize(("name", "probabilities"), [("Softmax", lambda x: x.softmax(1)), ("Sigmoid", torch.sigmoid)])
def test_an_output_activation_turns_the_logits_into_probabilities_and_is_declared(name, probabilities):
    logits, model = (MLP(in_features=3, out_features=4, output_activation=which) for which in (None, name))
    model.load_state_dict(logits.state_dict())
    torch.testing.assert_close(model(inputs(5, 3).float()), probabilities(logits(inputs(5, 3).float())))
    assert model.gives_probabilities
    assert not logits.gives_probabilities


def test_softmax_is_over_the_classes_and_two_of_them_make_a_sigmoid():
    model = MLP(in_features=3, out_features=2, output_activation="Softmax").double()
    x = inputs(5, 3)
    logits = model.output(model.hidden(x))
    torch.testing.assert_close(model(x).sum(1), torch.ones(5).double())
    torch.testing.assert_close(model(x)[:, 1], torch.sigmoid(logits[:, 1] - logits[:, 0]))


def test_the_list_of_widths_is_left_as_it_is():
    hidden = [5, 4]
    MLP(in_features=3, out_features=2, hidden_features=hidden)
    assert hidden == [5, 4]


@pytest.mark.parametrize("activation", ["ReLU", "Tanh"])
def test_initial_weights_keep_the_size_of_the_signal_through_ten_layers(activation):
    torch.manual_seed(0)
    model = MLP(in_features=256, out_features=256, hidden_features=[256] * 10, activation=activation).double()
    x = inputs(64, 256) * (1.0 if activation == "ReLU" else 0.1)
    with torch.no_grad():
        ratio = (model.hidden(x).square().mean() / x.square().mean()).sqrt().item()
    assert 0.5 < ratio < 2  # with torch's own initialization of Linear it is 0.00009 and 0.004
    assert all(layer.linear.bias.abs().max() == 0 for layer in model.hidden)


def test_residual_connections_add_the_input_where_widths_agree():
    model = MLP(in_features=6, out_features=2, hidden_features=[6, 4, 4], residual=True).double()
    x = inputs(5, 6)
    first, second, third = model.hidden
    h = x + first.linear(x).relu()
    h = second.linear(h).relu()  # from 6 to 4
    h = h + third.linear(h).relu()
    torch.testing.assert_close(model(x), model.output(h))
    plain = MLP(in_features=6, out_features=2, hidden_features=[6, 4, 4]).double()
    plain.load_state_dict(model.state_dict())
    assert not torch.equal(plain(x), model(x))


def test_hidden_biases_start_where_they_are_asked_to():
    model = MLP(in_features=3, out_features=2, hidden_features=[4, 5], hidden_bias=-2.0)
    assert all((layer.linear.bias == -2).all() for layer in model.hidden)
    assert (model.output.bias == 0).all()
