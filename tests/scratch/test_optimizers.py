"""Each optimizer written out moves the weights as torch's does over 20 steps, and remembers the same."""

import copy
import inspect

import pytest
import torch
from torch import nn

from zoo.scratch import optimizers
from zoo.scratch.optimizers import two_loops
from zoo.scratch.swap import OPTIMIZERS

STEPS = 20
CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.01, "momentum": 0.5, "maximize": True, "weight_decay": 0.1}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.2, "eps": 1e-3}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.9, "weight_decay": 0.1, "eps": 1e-3}),
    ("RMSprop", {"centered": True, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.1, "eps": 1e-3}),
    ("Adam", {"amsgrad": True, "maximize": True}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.5, "amsgrad": True}),
    ("LBFGS", {"lr": 0.1}),
    ("LBFGS", {"lr": 0.5, "max_iter": 3, "history_size": 2}),
    ("LBFGS", {"lr": 0.3, "max_iter": 10, "max_eval": 4}),
    ("LBFGS", {"lr": 1.0, "tolerance_grad": 1e-2}),
    ("LBFGS", {"lr": 0.1, "tolerance_change": 1e-2}),
]


class Problem:
    """A small net, a batch of its own for each step, and the closure that optimizers call."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        self.x, self.y = torch.randn(2, 8, 4, dtype=torch.float64)
        self.y = self.y[:, :3]
        self.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))  # never has a gradient
        self.parameters = [*self.net.parameters(), self.unused]

    def closure(self) -> torch.Tensor:
        for p in self.parameters:
            p.grad = None
        loss = (self.net(self.x) - self.y).square().mean()
        loss.backward()
        return loss


def assert_same_state(own: dict, theirs: dict) -> None:
    assert {index for index, remembered in own.items() if remembered} == set(theirs)
    for index, remembered in theirs.items():
        assert set(own[index]) == set(remembered)
        for name, value in own[index].items():
            torch.testing.assert_close(value, remembered[name], rtol=1e-9, atol=1e-12, check_dtype=False)


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{name} {list(o)}" for name, o in CASES])
def test_weights_losses_and_state_are_torchs_over_20_steps(name, options):
    ours, theirs = Problem(), Problem()
    own = getattr(optimizers, name)(ours.parameters, **options)
    torchs = getattr(torch.optim, name)(theirs.parameters, **options)
    for step in range(STEPS):
        if step == 10:  # schedules change the rate in the group
            for optimizer in (own, torchs):
                optimizer.param_groups[0]["lr"] *= 0.5
        torch.testing.assert_close(own.step(ours.closure), torchs.step(theirs.closure), rtol=1e-9, atol=1e-12)
    for a, b in zip(ours.parameters, theirs.parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    if name != "LBFGS":
        assert_same_state(own.state_dict()["state"], torchs.state_dict()["state"])
    else:
        (remembered,) = torchs.state_dict()["state"].values()
        (found,) = own.state_dict()["state"].values()
        assert (found["n_iter"], found["func_evals"]) == (remembered["n_iter"], remembered["func_evals"])
        for key in ("old_stps", "old_dirs", "prev_flat_grad", "d"):
            torch.testing.assert_close(found[key], remembered[key], rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case[0] != "LBFGS"][::2])
def test_a_state_saved_by_one_is_taken_up_by_the_other(name, options):
    first, second = Problem(), Problem()
    torchs, own = getattr(torch.optim, name)(first.parameters, **options), getattr(optimizers, name)(second.parameters)
    for _ in range(3):
        torchs.step(first.closure)
    second.net.load_state_dict(first.net.state_dict())
    own.load_state_dict(copy.deepcopy(torchs.state_dict()))
    for _ in range(3):
        torch.testing.assert_close(own.step(second.closure), torchs.step(first.closure), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", OPTIMIZERS, ids=lambda kind: kind.__name__)
def test_a_twin_has_torchs_arguments_and_a_step_of_its_own(kind):
    twin = OPTIMIZERS[kind]
    assert issubclass(twin, torch.optim.Optimizer)
    assert inspect.signature(twin) == inspect.signature(kind)
    assert not inspect.unwrap(twin.step).__module__.startswith("torch.")


def test_coupled_decay_is_rescaled_by_adam_and_decoupled_decay_is_not():
    for name, expected in (("Adam", 1 - 0.1), ("AdamW", 1 - 0.1 * 0.5)):
        p = nn.Parameter(torch.ones(1, dtype=torch.float64))
        p.grad = torch.zeros_like(p)
        getattr(optimizers, name)([p], lr=0.1, weight_decay=0.5).step()
        assert p.item() == pytest.approx(expected, abs=1e-7)  # coupled: a whole step of lr, however small the decay


def test_two_loops_give_the_inverse_hessian_once_every_direction_is_known():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, dtype=torch.float64, generator=generator)
    hessian = root @ root.T + torch.eye(4)
    directions = torch.linalg.eigh(hessian).eigenvectors.T  # conjugate, so BFGS is exact after one round of them
    steps = list(directions)
    g = torch.randn(4, dtype=torch.float64, generator=generator)
    found = two_loops(g, steps, [hessian @ s for s in steps], 1.0)
    torch.testing.assert_close(found, torch.linalg.solve(hessian, g), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("lr", "converges"), [(0.079, True), (0.081, False)])
def test_on_a_bowl_of_curvatures_1_and_25_the_limit_of_the_rate_is_two_over_25(lr, converges):
    w = torch.ones(2, dtype=torch.float64, requires_grad=True)
    optimizer = optimizers.SGD([w], lr=lr)
    for _ in range(400):
        optimizer.zero_grad()
        (torch.tensor([1.0, 25.0]) * w.square() / 2).sum().backward()
        optimizer.step()
    assert (w.detach().abs().max().item() < 1e-3) == converges
    assert abs(w[0].item()) < 1e-3, "along the flat axis both converge; only the steep one differs"


@pytest.mark.parametrize(("momentum", "ends"), [(0.0, 0.96), (0.5, 0.96), (0.9, -1.04), (0.95, 0.96)])
def test_momentum_may_carry_past_a_poor_minimum_and_need_not(momentum, ends):
    """(w^2 - 1)^2 + 0.3 w has a poor minimum at 0.96 and the better one at -1.04; all begin at 2."""
    w = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    optimizer = optimizers.SGD([w], lr=0.01, momentum=momentum)
    for _ in range(1000):
        optimizer.zero_grad()
        ((w**2 - 1) ** 2 + 0.3 * w).sum().backward()
        optimizer.step()
    assert w.item() == pytest.approx(ends, abs=0.005)
