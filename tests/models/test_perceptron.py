import pytest
import torch
from sklearn.linear_model import Perceptron as SklearnPerceptron

from zoo.losses.supervised import cross_entropy, half_squared_error
from zoo.models.mlp import MLP
from zoo.models.perceptron import Perceptron
from zoo.optim import PerceptronRule, perceptron_update

CORNERS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
XOR = torch.tensor([0, 1, 1, 0])


def started_at_random(num_features: int, num_units: int, seed: int = 0) -> Perceptron:
    generator = torch.Generator().manual_seed(seed)
    model = Perceptron(in_features=num_features, num_classes=num_units).double()
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def samples(num_samples: int, num_features: int, num_classes: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_samples, num_features, generator=generator, dtype=torch.float64)
    return x, torch.randint(max(2, num_classes), (num_samples,), generator=generator)


def learn(model: Perceptron, rule: PerceptronRule, x: torch.Tensor, y: torch.Tensor) -> bool:
    """One sample; whether it was mistaken."""
    outputs = model(x.unsqueeze(0))
    loss = half_squared_error(outputs, y.reshape(1))
    rule.zero_grad()
    loss.backward()
    rule.step()
    return loss.item() > 0


@pytest.mark.parametrize("lr", [1.0, 0.3])
@pytest.mark.parametrize(("num_features", "num_units"), [(1, 1), (7, 1), (7, 10), (64, 10)])
def test_every_gradient_step_is_the_perceptron_rule_as_written(num_features, num_units, lr):
    model = started_at_random(num_features, num_units)
    rule = PerceptronRule(model.parameters(), lr=lr)
    weight, bias = (p.detach().clone() for p in model.parameters())
    corrected = 0
    for x, y in zip(*samples(300, num_features, num_units), strict=True):
        wanted = torch.eye(num_units, dtype=torch.float64)[y] if num_units > 1 else y.reshape(1).double()
        weight, bias = perceptron_update(weight, bias, x, wanted, lr)
        corrected += learn(model, rule, x, y)
        torch.testing.assert_close(model.units.weight.data, weight, rtol=0, atol=1e-12)
        torch.testing.assert_close(model.units.bias.data, bias, rtol=0, atol=1e-12)
    assert 50 < corrected <= 300


def test_the_rule_moves_only_units_that_are_wrong_and_towards_the_wanted_answer():
    weight, bias = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]), torch.zeros(3)
    x, y = torch.tensor([2.0, 5.0]), torch.tensor([1.0, 0.0, 1.0])  # units 0 and 1 fire, 2 does not
    new_weight, new_bias = perceptron_update(weight, bias, x, y, lr=0.5)
    assert new_weight.tolist() == [[1.0, 0.0], [0.0, -2.5], [0.0, 2.5]]
    assert new_bias.tolist() == [0.0, -0.5, 0.5]


@pytest.mark.parametrize("passes", [1, 5])
@pytest.mark.parametrize(("num_features", "num_classes"), [(2, 2), (20, 2), (5, 3), (20, 10)])
def test_weights_equal_those_of_scikit_learn_after_some_passes(num_features, num_classes, passes):
    num_units = 1 if num_classes == 2 else num_classes
    model = started_at_random(num_features, num_units)  # from zero, net inputs of exactly 0 would be judged apart
    x, y = samples(60, num_features, num_classes)
    y[:num_classes] = torch.arange(num_classes)
    twin = SklearnPerceptron(shuffle=False, tol=None, max_iter=passes).fit(
        x.numpy(),
        y.numpy(),
        coef_init=model.units.weight.detach().numpy().copy(),
        intercept_init=model.units.bias.detach().numpy().copy(),
    )
    rule = PerceptronRule(model.parameters())
    for _ in range(passes):
        for sample, label in zip(x, y, strict=True):
            learn(model, rule, sample, label)
    torch.testing.assert_close(model.units.weight.data, torch.from_numpy(twin.coef_), rtol=0, atol=1e-10)
    torch.testing.assert_close(model.units.bias.data, torch.from_numpy(twin.intercept_), rtol=0, atol=1e-10)
    with torch.no_grad():
        predicted = model.scores(x).argmax(1) if num_units > 1 else model(x)[:, 0].long()
    assert predicted.tolist() == twin.predict(x.numpy()).tolist()


@pytest.mark.parametrize("margin", [0.3, 0.15, 0.07])
@pytest.mark.parametrize("seed", [0, 1])
def test_mistakes_on_separable_data_stay_within_novikoffs_bound(margin, seed):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.cat([torch.randn(2, generator=generator), torch.tensor([0.3])]).double()
    truth /= truth.norm()  # two weights and the bias, of length 1
    x = 2 * torch.rand(2000, 2, generator=generator, dtype=torch.float64) - 1
    augmented = torch.cat([x, torch.ones(len(x), 1)], dim=1)  # the bias is the weight of a constant 1
    distance = augmented @ truth
    kept = (distance.abs() >= margin).nonzero()[:60, 0]
    x, y = x[kept], (distance[kept] > 0).long()
    assert 0 < y.sum() < len(y)
    bound = float((augmented[kept].norm(dim=1).max() / margin) ** 2)
    model = Perceptron(in_features=2, num_classes=1).double()
    rule = PerceptronRule(model.parameters())
    mistakes, of_this_pass = 0, 1
    while of_this_pass and mistakes <= bound:
        of_this_pass = sum(learn(model, rule, *sample) for sample in zip(x, y, strict=True))
        mistakes += of_this_pass
    assert of_this_pass == 0
    assert 0 < mistakes <= bound


@pytest.mark.parametrize("seed", [0, 1])
def test_the_perceptron_never_learns_xor(seed):
    model = started_at_random(2, 1, seed)
    rule = PerceptronRule(model.parameters(), lr=0.1)
    best = 0.0
    for _ in range(300):
        assert sum(learn(model, rule, *sample) for sample in zip(CORNERS, XOR, strict=True)) > 0
        best = max(best, (model(CORNERS)[:, 0] == XOR).double().mean().item())
    assert best <= 0.75


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("activation", ["Tanh", "Sigmoid"])
def test_a_hidden_layer_learns_xor(activation, seed):
    torch.manual_seed(seed)
    model = MLP(in_features=2, out_features=2, hidden_features=[8], activation=activation).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        cross_entropy(model(CORNERS), XOR).backward()
        optimizer.step()
    assert model(CORNERS).argmax(1).tolist() == XOR.tolist()


@pytest.mark.parametrize("shape", [(5, 6), (5, 1, 2, 3)])
@pytest.mark.parametrize("num_units", [1, 4])
def test_outputs_are_0_or_1_and_fire_above_a_net_input_of_0(shape, num_units):
    model = started_at_random(6, num_units)
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[0] = -x[1]
    model.units.bias.data.zero_()  # samples 0 and 1 are then judged apart
    outputs, scores = model(x), model.scores(x)
    assert outputs.shape == scores.shape == (5, num_units)
    assert set(outputs.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(outputs, (scores > 0).double())


def test_an_untrained_unit_at_its_threshold_does_not_fire():
    assert Perceptron(in_features=3, num_classes=2)(torch.ones(1, 3)).tolist() == [[0.0, 0.0]]


def test_scores_rank_the_classes_where_no_unit_or_several_fire():
    model = Perceptron(in_features=1, num_classes=3).double()
    model.units.weight.data.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    assert model(x).tolist() == [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    assert model.scores(x).argsort(1, descending=True).tolist() == [[2, 1, 0], [0, 1, 2]]
