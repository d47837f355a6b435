import math
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from zoo import optim
from zoo.models.lenet5 import LeNet5
from zoo.models.mlp import MLP


def networks() -> dict[str, nn.Module]:
    return {
        "mlp": MLP(in_features=4, out_features=3, hidden_features=[6, 5], normalization="BatchNorm1d"),
        "layer norm": MLP(in_features=4, out_features=1, hidden_features=[6], normalization="LayerNorm"),
        "lenet5": LeNet5(in_channels=1, image_size=28, num_classes=10),
    }


def sgd(lr: float = 0.1, **options: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr, **options)


def rates(described: dict, optimizer: torch.optim.Optimizer, num_steps: int) -> list[float]:
    """The learning rate of each of `num_steps` steps, and the one after them."""
    found = [optimizer.param_groups[0]["lr"]]
    for _ in range(num_steps):
        optimizer.step()
        described["scheduler"].step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("name", list(networks()))
def test_decay_is_for_matrices_and_kernels_and_not_for_biases_and_normalization(name):
    model = networks()[name]
    decayed, spared = optim.parameter_groups(model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert {names[p] for p in decayed["params"]} == {
        f"{path}.weight" for path, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))
    }
    assert all(names[p].endswith("bias") or "normalization" in names[p] for p in spared["params"])
    assert "weight_decay" not in decayed
    assert spared["weight_decay"] == 0
    assert len(decayed["params"]) + len(spared["params"]) == len(names)  # each in one group


@pytest.mark.parametrize("optimizer", [
    partial(torch.optim.AdamW, lr=0.1, weight_decay=0.5),
    partial(torch.optim.SGD, lr=0.1, weight_decay=0.5),
    partial(torch.optim.AdamW, lr=0.1),  # decays by 0.01 unless told otherwise
])  # fmt: skip
def test_a_decayed_step_without_gradient_shrinks_matrices_and_leaves_biases(optimizer):
    model = networks()["mlp"]
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    optim.build_optimizer(optimizer, model).step()
    for name, parameter in model.named_parameters():
        assert bool((parameter < 1).all()) == (parameter.ndim >= 2), name
        assert bool((parameter == 1).all()) == (parameter.ndim < 2), name


@pytest.mark.parametrize("optimizer", [
    partial(torch.optim.SGD, lr=0.1), partial(torch.optim.Adam, lr=0.1, weight_decay=0.0),
    partial(torch.optim.LBFGS, lr=1.0), partial(optim.PerceptronRule, lr=1.0),
])  # fmt: skip
def test_without_decay_there_is_one_group_with_every_parameter(optimizer):
    model = networks()["mlp"]
    (group,) = optim.build_optimizer(optimizer, model).param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_frozen_parameters_are_left_out(weight_decay):
    model = networks()["mlp"]
    model.hidden.requires_grad_(False)
    built = optim.build_optimizer(partial(torch.optim.SGD, lr=0.1, weight_decay=weight_decay), model)
    held = {id(p) for group in built.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.output.parameters()}


def test_a_group_without_parameters_is_left_out():
    model = nn.Linear(3, 2, bias=False)
    assert [len(group["params"]) for group in optim.parameter_groups(model)] == [1]


@pytest.mark.parametrize(("total", "final_factor"), [(10, 0.0), (1000, 0.0), (1000, 0.1), (1, 0.5)])
def test_cosine_starts_at_the_rate_and_ends_at_its_final_share(total, final_factor):
    optimizer = sgd(0.2)
    described = optim.cosine(optimizer, total, 5, final_factor=final_factor)
    found = rates(described, optimizer, total + 3)
    assert described["interval"] == "step"
    assert found[0] == 0.2
    expected = [
        0.2 * (final_factor + (1 - final_factor) * (1 + math.cos(math.pi * t / total)) / 2) for t in range(total + 1)
    ]
    assert found[: total + 1] == pytest.approx(expected, abs=1e-12)
    assert found[total:] == pytest.approx([0.2 * final_factor] * 4, abs=1e-12)  # and stays there


@pytest.mark.parametrize(("warmup_epochs", "per_epoch"), [(2, 10), (0.5, 10), (1, 1)])
def test_warm_up_rises_in_equal_steps_to_the_rate_and_the_cosine_follows(warmup_epochs, per_epoch):
    optimizer, total, warmup = sgd(0.4), 100, int(warmup_epochs * per_epoch)
    found = rates(optim.cosine(optimizer, total, per_epoch, warmup_epochs=warmup_epochs), optimizer, total)
    assert found[:warmup] == pytest.approx([0.4 * (t + 1) / warmup for t in range(warmup)], abs=1e-12)
    middle = warmup + (total - warmup) // 2
    share = (middle - warmup) / (total - warmup)
    assert found[warmup] == pytest.approx(0.4)
    assert found[middle] == pytest.approx(0.4 * (1 + math.cos(math.pi * share)) / 2)
    assert found[total] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("step_size", "gamma"), [(1, 0.5), (3, 0.1)])
def test_step_multiplies_after_every_so_many_epochs(step_size, gamma):
    optimizer = sgd(0.2)
    described = optim.step(optimizer, 100, 10, step_size=step_size, gamma=gamma)
    assert described["interval"] == "epoch"
    assert rates(described, optimizer, 9) == pytest.approx([0.2 * gamma ** (epoch // step_size) for epoch in range(10)])


@pytest.mark.parametrize("milestones", [(2, 5), (1,)])
def test_multistep_multiplies_at_each_milestone(milestones):
    optimizer = sgd(0.2)
    described = optim.multistep(optimizer, 100, 10, milestones=milestones, gamma=0.1)
    assert described["interval"] == "epoch"
    expected = [0.2 * 0.1 ** sum(epoch >= m for m in milestones) for epoch in range(8)]
    assert rates(described, optimizer, 7) == pytest.approx(expected)


@pytest.mark.parametrize(("total", "share"), [(99, 0.3), (9, 0.5), (199, 0.1)])
def test_one_cycle_peaks_at_the_rate_after_its_share_of_the_run(total, share):
    optimizer = sgd(0.5, momentum=0.9)
    described = optim.one_cycle(optimizer, total, 10, warmup_share=share)
    momentum = [optimizer.param_groups[0]["momentum"]]
    found = [optimizer.param_groups[0]["lr"]]
    for _ in range(total):
        optimizer.step()
        described["scheduler"].step()
        found.append(optimizer.param_groups[0]["lr"])
        momentum.append(optimizer.param_groups[0]["momentum"])
    peak = round(share * (total + 1)) - 1
    assert described["interval"] == "step"
    assert found.index(max(found)) == momentum.index(min(momentum)) == peak
    assert max(found) == pytest.approx(0.5)
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert found[-1] < 1e-4 * 0.5


@pytest.mark.parametrize("optimizer", [partial(torch.optim.SGD, lr=0.1), partial(torch.optim.Adam, lr=0.1),
                                       partial(torch.optim.RMSprop, lr=0.1)])  # fmt: skip
@pytest.mark.parametrize("total", [1, 2, 7])
def test_one_cycle_lasts_for_every_iteration_of_runs_of_any_length(optimizer, total):
    built = optimizer([nn.Parameter(torch.zeros(1))])
    assert len(rates(optim.one_cycle(built, total, 1), built, total)) == total + 1


@pytest.mark.parametrize("schedule", [optim.cosine, optim.one_cycle])
def test_a_schedule_over_the_whole_run_refuses_a_run_without_end(schedule):
    with pytest.raises(ValueError, match="max_epochs"):
        schedule(sgd(), -1, 10)


@pytest.mark.parametrize(("mode", "better", "worse"), [("min", 1.0, 2.0), ("max", 2.0, 1.0)])
def test_plateau_lowers_the_rate_after_more_than_its_patience_without_better(mode, better, worse):
    optimizer = sgd(0.2)
    described = optim.plateau(optimizer, 100, 10, monitor="val/x", mode=mode, factor=0.1, patience=2)
    assert (described["monitor"], described["interval"]) == ("val/x", "epoch")
    found = []
    for value in [worse, better, worse, worse, worse, worse]:
        described["scheduler"].step(value)
        found.append(optimizer.param_groups[0]["lr"])
    assert found == pytest.approx([0.2] * 4 + [0.02] * 2)


@pytest.mark.parametrize("num_features", [1, 8])
@pytest.mark.parametrize("lr", [1.0, 0.1])
def test_hebb_adds_the_rate_times_output_times_input(num_features, lr):
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(2, num_features, generator=generator, dtype=torch.float64)
    y = torch.randn((), generator=generator, dtype=torch.float64)
    updated = optim.hebb_update(weight, x, y, lr)
    assert updated.tolist() == pytest.approx([(w + lr * y * v).item() for w, v in zip(weight, x, strict=True)])


@pytest.mark.parametrize("amount", [0.3, 1.0])
def test_the_soft_threshold_is_the_proximal_map_of_the_absolute_value(amount):
    weight = torch.linspace(-2, 2, 9, dtype=torch.float64)
    candidates = torch.linspace(-3, 3, 60_001, dtype=torch.float64)  # 0.0001 apart
    costs = 0.5 * (candidates - weight.unsqueeze(1)).square() + amount * candidates.abs()  # (9, 60001)
    found = optim.soft_threshold(weight, amount)
    torch.testing.assert_close(found, candidates[costs.argmin(1)], rtol=0, atol=1e-4)
    assert (found == 0).tolist() == (weight.abs() <= amount).tolist()  # exactly


def test_limited_norms_are_scaled_down_where_they_are_longer_and_left_where_they_are_not():
    units = torch.tensor([[[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], [[0.0, -2.0], [1.0, 0.0], [0.6, 0.8]]])  # (2, 3, 2)
    before = units.clone()
    optim.limit_norms(units, 1.0)
    torch.testing.assert_close(units[0, 0], torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(units[1, 0], torch.tensor([0.0, -1.0]))
    short = before.norm(dim=2) <= 1
    assert torch.equal(units[short], before[short])
    kernels = torch.randn(1, 5, 3, 2, 2)
    optim.limit_norms(kernels, 0.5)
    torch.testing.assert_close(kernels.flatten(2).norm(dim=2), torch.full((1, 5), 0.5))


# ---- turns


def two_turns(every: int = 1) -> tuple[optim.Alternating, nn.Parameter, nn.Parameter, list[str]]:
    """(optimizer, its two parameters, whose turn it was at each call of the closure)."""
    a, b, turns = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3)), []
    both = optim.Alternating(
        {"a": torch.optim.SGD([a], lr=0.1), "b": torch.optim.Adam([b], lr=0.01)}, every={"b": every}
    )
    return both, a, b, turns


def take_step(both: optim.Alternating, losses: dict[str, nn.Parameter], turns: list[str]) -> None:
    def closure() -> torch.Tensor:
        turns.append(both.turn)
        both.zero_grad()
        loss = losses[both.turn].square().sum()
        loss.backward()
        return loss

    both.step(closure)


def test_optimizers_take_turns_and_each_sees_what_the_one_before_has_done():
    both, a, b, turns = two_turns(every=2)
    for _ in range(4):
        take_step(both, {"a": a, "b": b}, turns)
    assert turns == ["a", "a", "b", "a", "a", "b"]
    assert torch.allclose(a, torch.full((2,), 0.8**4))
    assert both.turns["b"].state[b]["step"] == 2


def test_a_schedule_moves_the_rates_of_all_turns_also_after_a_load():
    both, a, b, turns = two_turns()
    take_step(both, {"a": a, "b": b}, turns)
    both.load_state_dict(both.state_dict())
    schedule = torch.optim.lr_scheduler.LambdaLR(both, lambda step: 0.5**step)
    take_step(both, {"a": a, "b": b}, turns)
    schedule.step()
    assert [optimizer.param_groups[0]["lr"] for optimizer in both.turns.values()] == [0.05, 0.005]


def test_turns_go_on_where_they_were_saved():
    one, a, b, turns = two_turns(every=3)
    other, c, d, _ = two_turns(every=3)
    for _ in range(4):
        take_step(one, {"a": a, "b": b}, turns)
    other.load_state_dict(deepcopy(one.state_dict()))
    with torch.no_grad():
        c.copy_(a)
        d.copy_(b)
    for both, x, y in ((one, a, b), (other, c, d)):
        for _ in range(2):
            take_step(both, {"a": x, "b": y}, turns)
    assert torch.equal(a, c)
    assert torch.equal(b, d)
    assert other.iterations == 6
