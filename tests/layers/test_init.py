"""`init=`: the variance of what is drawn follows the formula, and what is left alone stays."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.build import build
from zoo.config.commandline import options
from zoo.config.instantiate import make
from zoo.errors import UserError
from zoo.layers import init
from zoo.layers.weights import maps_of
from zoo.models.mlp import MLP
from zoo.run import configure
from zoo.scratch import init as written

LARGE: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: nn.Linear(300, 200),
    "Conv1d": lambda: nn.Conv1d(100, 60, 5),
    "Conv2d": lambda: nn.Conv2d(60, 100, 3),
    "grouped Conv2d": lambda: nn.Conv2d(96, 192, 3, groups=4),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(60, 100, 3),
    "grouped ConvTranspose2d": lambda: nn.ConvTranspose2d(192, 96, 3, groups=4),
    "GRU": lambda: nn.GRU(150, 100),
}
# By hand, not by the code under test: inputs and outputs of a group times the places of the kernel.
FANS = {
    "Linear": (300, 200),
    "Conv1d": (500, 300),
    "Conv2d": (540, 900),
    "grouped Conv2d": (24 * 9, 48 * 9),
    "ConvTranspose2d": (540, 900),
    "grouped ConvTranspose2d": (48 * 9, 24 * 9),
    "GRU": (150, 100),
}
SLACK = 0.03  # of at least 20,000 draws a variance is off by 1 % (one standard deviation, normal), or less


def weight_of(layer):
    return maps_of(layer)[0].parameter.detach()  # the GRU's of its input


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("fill", [init.he_normal, init.he_uniform])
@pytest.mark.parametrize("kind", LARGE)
def test_hes_variance_is_two_over_the_fan_of_choice(kind, fill, mode):
    torch.manual_seed(0)
    layer = LARGE[kind]()
    fill(layer, mode=mode)
    fan_in, fan_out = FANS[kind]
    fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
    assert weight_of(layer).var().item() * fan == pytest.approx(2, rel=SLACK)


@pytest.mark.parametrize("fill", [init.xavier_normal, init.xavier_uniform])
@pytest.mark.parametrize("kind", LARGE)
def test_xaviers_variance_is_two_over_the_sum_of_both_fans(kind, fill):
    torch.manual_seed(0)
    layer = LARGE[kind]()
    fill(layer, gain=1.5)
    assert weight_of(layer).var().item() * sum(FANS[kind]) == pytest.approx(2 * 1.5**2, rel=SLACK)


@pytest.mark.parametrize("slope", [0.01, 0.5, 1.0])
def test_a_slope_below_zero_takes_from_hes_variance(slope):
    torch.manual_seed(0)
    layer = nn.Linear(300, 200)
    init.he_normal(layer, slope=slope)
    assert layer.weight.var().item() * 300 == pytest.approx(2 / (1 + slope**2), rel=SLACK)


@pytest.mark.parametrize("kind", ["Linear", "Conv1d", "Conv2d"])
def test_torchs_own_default_is_a_third_of_one_over_fan_in(kind):
    torch.manual_seed(0)
    weight = LARGE[kind]().weight
    fan_in = FANS[kind][0]
    assert weight.var().item() * fan_in == pytest.approx(1 / 3, rel=SLACK)
    assert weight.abs().max().item() <= 1 / math.sqrt(fan_in)  # uniform: it ends there


@pytest.mark.parametrize("kind", LARGE)
def test_normal_and_uniform_are_the_same_in_every_layer(kind):
    torch.manual_seed(0)
    layer = LARGE[kind]()
    init.normal(layer, std=0.02)
    assert weight_of(layer).std().item() == pytest.approx(0.02, rel=SLACK)
    init.uniform(layer, bound=0.3)
    assert weight_of(layer).abs().max().item() == pytest.approx(0.3, rel=0.01)
    assert weight_of(layer).var().item() == pytest.approx(0.03, rel=SLACK)


def test_a_uniform_draw_is_uniform_and_a_normal_one_is_not():
    torch.manual_seed(0)
    layer = nn.Linear(300, 200)
    for fill, reach in ((init.he_uniform, math.sqrt(3)), (init.he_normal, 4)):
        fill(layer)
        standard = layer.weight.detach() / layer.weight.std()
        within = standard.abs().max().item()
        assert within <= 1.01 * math.sqrt(3) if fill is init.he_uniform else within >= reach - 0.5


@pytest.mark.parametrize(("ours", "twin"), [
    (lambda m: init.he_normal(m, mode="fan_out"), lambda w: written.he_normal_(w, "fan_out")),
    (init.he_uniform, written.he_uniform_),
    (init.xavier_normal, written.xavier_normal_),
    (lambda m: init.xavier_uniform(m, gain=2.0), lambda w: written.xavier_uniform_(w, 2.0)),
    (lambda m: init.orthogonal(m, gain=2.0), lambda w: written.orthogonal_(w, 2.0)),
    (lambda m: init.normal(m, std=0.1), lambda w: written.normal_(w, 0.0, 0.1)),
    (lambda m: init.uniform(m, bound=0.1), lambda w: written.uniform_(w, -0.1, 0.1)),
])  # fmt: skip
@pytest.mark.parametrize("layer", [nn.Linear(7, 4), nn.Linear(4, 7), nn.Conv2d(3, 5, 3)], ids=str)
def test_the_numbers_are_those_of_the_written_out_twin_under_the_same_seed(ours, twin, layer):
    layer = layer.double()
    torch.manual_seed(5)
    ours(layer)
    found = layer.weight.detach().clone()
    torch.manual_seed(5)
    torch.testing.assert_close(found, twin(layer.weight.detach()), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("gain", [1.0, math.sqrt(2)])
@pytest.mark.parametrize("layer", [
    nn.Linear(20, 12), nn.Linear(12, 20), nn.Linear(9, 9), nn.Conv2d(4, 6, 3), nn.Conv2d(8, 12, 3, groups=4),
    nn.ConvTranspose2d(8, 4, 3), nn.ConvTranspose1d(8, 12, 5, groups=2), nn.LSTM(6, 10), nn.GRUCell(10, 6),
    nn.MultiheadAttention(8, 2),
], ids=str)  # fmt: skip
def test_orthogonal_rows_or_columns_of_each_map(layer, gain):
    init.orthogonal(layer.double(), gain=gain)
    for one in maps_of(layer):
        for matrix in one.units.flatten(2):  # (U, I k)
            gram = matrix @ matrix.T if len(matrix) <= one.fan_in else matrix.T @ matrix
            torch.testing.assert_close(gram, gain**2 * torch.eye(len(gram), dtype=gram.dtype), rtol=0, atol=1e-12)


@pytest.mark.parametrize("layer", [nn.Linear(5, 4), nn.ConvTranspose2d(4, 6, 3), nn.LSTM(6, 10),
                                   nn.MultiheadAttention(8, 2)], ids=str)  # fmt: skip
def test_biases_become_0(layer):
    done = init.he_normal(layer)
    biases = {name for name, p in layer.named_parameters() if p.ndim == 1}
    assert biases <= set(done) == {name for name, _ in layer.named_parameters()}
    assert all((p == 0).all() for name, p in layer.named_parameters() if name in biases)


def mixed() -> nn.Module:
    model = nn.Sequential(nn.Embedding(9, 4, padding_idx=0), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LayerNorm(4))
    model.register_parameter("position", nn.Parameter(torch.ones(3, 4)))
    return model


@pytest.mark.parametrize("fill", [init.xavier_normal, init.he_uniform, init.orthogonal])
def test_norms_embeddings_and_loose_parameters_stay_as_the_model_made_them(fill):
    model = mixed()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    done = fill(model)
    assert done == ["1.weight", "1.bias"]
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters() if name not in done)
    assert init.left_alone(model, done) == {"Sequential": 1, "Embedding": 1, "BatchNorm1d": 2, "LayerNorm": 2}


@pytest.mark.parametrize("fill", [init.zero, init.normal, init.uniform])
def test_what_has_one_size_for_all_layers_sets_embeddings_too_but_for_their_padding(fill):
    model = mixed()
    model[0].weight.data.fill_(7.0)
    assert set(fill(model)) == {"0.weight", "1.weight", "1.bias"}
    assert (model[0].weight[0] == 0).all()
    assert model[0].weight.abs().max() < 1


def test_a_weight_that_an_embedding_shares_with_the_output_is_drawn_once():
    model = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 50, bias=False))
    model[1].weight = model[0].weight
    torch.manual_seed(0)
    assert init.normal(model) == ["1.weight"]
    torch.manual_seed(0)
    torch.testing.assert_close(model[0].weight.detach(), torch.empty(50, 8).normal_(0, 0.01))


def test_an_unknown_mode_is_told():
    with pytest.raises(UserError, match=r"init.mode=fan; did you mean 'fan_in'\?"):
        init.he_normal(nn.Linear(2, 2), mode="fan")


# What the formulas are for


def sizes_through(fill, depth: int = 20, width: int = 256) -> list[float]:
    """The mean square of what comes out of the first and of the last of `depth` ReLU layers."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(depth)))
    fill(model)
    x, found = torch.randn(64, width), []
    with torch.no_grad():
        for layer in model:
            x = layer(x)
            found.append(x.square().mean().item())
    return [found[0], found[-1]]


@pytest.mark.parametrize("fill", [init.he_normal, init.he_uniform, lambda m: init.orthogonal(m, gain=math.sqrt(2))])
def test_through_20_relu_layers_he_keeps_the_size(fill):
    first, last = sizes_through(fill)
    assert first == pytest.approx(1, rel=0.1)
    assert 0.5 < last / first < 2


@pytest.mark.parametrize("fill", [init.xavier_normal, init.xavier_uniform])
def test_through_20_relu_layers_xavier_loses_half_of_it_each_time(fill):
    first, last = sizes_through(fill)
    assert first == pytest.approx(1 / 2, rel=0.1)
    assert 0.5 < last / first * 2**19 < 2


def test_through_20_relu_layers_a_small_normal_draw_vanishes():
    first, last = sizes_through(lambda model: init.normal(model, std=0.01))
    assert last / first < 1e-30  # 256 * 0.01^2 / 2 = 0.0128 each time


def test_fan_out_keeps_the_size_of_gradients_where_layers_narrow():
    widths = [1024, 512, 256, 128, 64, 32]
    found = {}
    for mode in ("fan_in", "fan_out"):
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)))
        init.he_normal(model, mode=mode)
        x = torch.randn(256, widths[0], requires_grad=True)
        y = model(x)
        (gradient,) = torch.autograd.grad(y, x, torch.randn_like(y))
        found[mode] = gradient.square().mean().item()
    assert 0.5 < found["fan_out"] < 2
    assert found["fan_in"] == pytest.approx(found["fan_out"] / 2**5, rel=0.5)  # each fan_in is twice the fan_out


@pytest.mark.parametrize("activation", ["ReLU", "Tanh"])
def test_from_zero_with_relu_or_tanh_only_the_output_bias_moves(activation):
    model = trained_from_zero(activation)
    moved = {name for name, p in model.named_parameters() if p.count_nonzero()}
    assert moved == {"output.bias"}


def test_from_zero_with_a_sigmoid_the_units_of_a_layer_stay_alike():
    model = trained_from_zero("Sigmoid")
    for layer in (model.hidden[0].linear, model.hidden[1].linear):
        assert layer.weight.count_nonzero() > 0, "it learns"
        assert torch.equal(layer.weight, layer.weight[:1].expand_as(layer.weight)), "each unit what the others learn"
        assert torch.equal(layer.bias, layer.bias[:1].expand_as(layer.bias))
    assert torch.equal(model.output.weight, model.output.weight[:, :1].expand_as(model.output.weight))


def trained_from_zero(activation: str) -> MLP:
    torch.manual_seed(0)
    model = MLP(in_features=6, out_features=3, hidden_features=[8, 8], activation=activation).double()
    init.zero(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    x, y = torch.randn(40, 6, dtype=torch.float64), torch.randint(3, (40,))
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


# In a run

SMALL = ("data=digits", "logger=none", "callbacks.progress=null")


def built(*overrides, tmp_path):
    return build(configure(*SMALL, *overrides, run_dir=tmp_path / "run"))


def test_a_run_says_what_it_initialized_and_follows_its_seed(tmp_path):
    runs = [built("model=lenet5", "init=he_uniform", f"seed={seed}", tmp_path=tmp_path) for seed in (0, 0, 1)]
    assert "init=he_uniform: 5 weights set, 5 biases 0" in runs[0].notes
    first, again, other = (run.task.model.state_dict() for run in runs)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first if key.endswith("weight"))


@pytest.mark.parametrize("name", [name for name in options("init") if name != "default"])
def test_every_option_sets_all_weights(name, tmp_path):
    cfg = configure(f"init={name}", run_dir=tmp_path)
    model = MLP(in_features=6, out_features=3, hidden_features=[8])
    for parameter in model.parameters():
        parameter.data.fill_(7.0)
    assert len(make(cfg.init, "init", model=model)) == 4
    assert not any((parameter == 7).any() for parameter in model.parameters())


def test_by_default_the_model_initializes_itself(tmp_path):
    run = built("init=default", tmp_path=tmp_path)
    assert not [note for note in run.notes if note.startswith("init=")]


def test_a_note_tells_what_stays_as_the_model_made_it(tmp_path):
    run = built("init=he_normal", "model.normalization=BatchNorm1d", tmp_path=tmp_path)
    assert "init=he_normal: 2 weights set, 2 biases 0; as the model made them: 2 of BatchNorm1d" in run.notes


def test_pretrained_weights_are_an_initialization_that_comes_last(tmp_path):
    weights = built("seed=3", tmp_path=tmp_path).task.model.state_dict()
    torch.save(weights, tmp_path / "weights.ckpt")
    run = built("init=zero", f"pretrained={tmp_path}/weights.ckpt", tmp_path=tmp_path)
    assert all(torch.equal(value, weights[name]) for name, value in run.task.model.state_dict().items())
    assert [note.split()[0] for note in run.notes[-2:]] == ["init=zero:", "Pretrained"]
