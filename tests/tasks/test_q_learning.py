"""Q-learning as it is trained: what a step does, who acts, what is measured, and whole runs."""

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from zoo.batches import TransitionBatch
from zoo.build import build
from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.callbacks.curves import iterations_done
from zoo.checkpoint import load_model, read
from zoo.data.control import Control
from zoo.data.environments import CartPole, Chain
from zoo.errors import UserError
from zoo.models.mlp import MLP
from zoo.run import configure, run
from zoo.running.signals import LISTENER
from zoo.tasks.q_learning import QLearning
from zoo.trained.evaluate import evaluate

ROOT = Path(__file__).parent.parent.parent
SGD = partial(torch.optim.SGD, lr=0.1)


class Table(nn.Module):
    """Values that are written down: state (B, 1) is the row's number."""

    def __init__(self, *rows):
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))

    def forward(self, state):
        return self.rows[state[:, 0].long()]


def task_of(**options):
    """Values of three states, which the target network holds to be others."""
    task = QLearning(Table([1.0, 2.0], [5.0, 4.0], [0.0, 0.0]), SGD, discount=0.5, **options)
    with torch.no_grad():
        task.target.rows.copy_(torch.tensor([[0.0, 0.0], [10.0, 20.0], [30.0, 7.0]]))
    return task


def transitions(*rows):
    """(state, action, reward, next state, ended)"""
    state, action, reward, after, ended = zip(*rows, strict=True)
    states = [torch.tensor(each)[:, None].float() for each in (state, after)]
    return TransitionBatch(states[0], torch.tensor(action), torch.tensor(reward), states[1], torch.tensor(ended))


def attached(task, data, step=0):
    task.trainer = SimpleNamespace(datamodule=data, global_step=step, global_rank=0, world_size=1)
    return task


def chain_data(**settings):
    sizes = {"num_envs": 4, "num_train": 40, "capacity": 400, "num_val": 6, "num_test": 6, "num_updates": 5}
    return Control(environment=Chain(length=4, time_limit=9), **(sizes | settings))


def linear(**options):
    torch.manual_seed(0)
    return QLearning(MLP(in_features=4, out_features=2, hidden_features=[8]), SGD, **options)


# ---- a step


@pytest.mark.parametrize(("double", "follows"), [(False, 20.0), (True, 10.0)])
def test_a_goal_is_what_came_and_what_the_target_network_says_of_the_next_state(double, follows):
    """Of state 1 the target network thinks action 1 is best, the network that learns action 0."""
    batch = transitions((0, 1, 3.0, 1, False))
    found = task_of(double=double, delta=100.0).losses(batch)
    error = 3.0 + 0.5 * follows - 2.0
    assert found["td_error"].item() == pytest.approx(error)
    assert found["loss"].item() == pytest.approx(0.5 * error**2)
    assert found["value"].item() == 2.0


@pytest.mark.parametrize("double", [False, True])
def test_nothing_follows_an_end(double):
    found = task_of(double=double).losses(transitions((0, 0, 3.0, 1, True)))
    assert found["td_error"].item() == pytest.approx(3.0 - 1.0)


def test_a_great_error_counts_in_proportion_and_the_goal_stands_still():
    task = task_of(delta=1.0)
    task.losses(transitions((0, 1, 3.0, 1, False)))["loss"].backward()
    gradient = task.model.rows.grad
    assert gradient[0].tolist() == [0.0, -1.0]  # Huber's, of an error of 11
    assert gradient[1:].abs().sum() == 0
    assert task.target.rows.grad is None


def test_the_target_network_follows_every_so_often():
    for options, expected in (({"target_every": 3}, [0, 0, 3, 3, 3, 6]), ({"target_rate": 0.5}, None)):
        task, seen = attached(linear(**({"target_every": 1} | options)), chain_data(overfit=True, batch_size=4)), []
        weight, slow = task.model.output.bias, torch.zeros(2)
        for step in range(1, 7):
            with torch.no_grad():
                weight.fill_(float(step))
            task.trainer.global_step = step
            task.on_train_batch_start(None, step)
            slow = slow + 0.5 * (step - slow)
            seen.append(task.target.output.bias[0].item())
            if expected is None:
                assert seen[-1] == pytest.approx(slow[0].item())
        assert expected is None or seen == expected


def test_only_the_network_that_learns_is_kept_by_a_checkpoint_as_the_model(tmp_path):
    whole = ["model=mlp", "data=chain", "trainer.max_epochs=1", "logger=none", "callbacks.progress=null"]
    assert run(configure(*whole, run_dir=tmp_path)) == 0
    model, saved = load_model(tmp_path), read(tmp_path)["state_dict"]
    assert {name.partition(".")[0] for name in saved} == {"model", "target"}
    assert torch.equal(model.output.weight, saved["model.output.weight"])


# ---- who acts


@pytest.mark.parametrize(("epsilon", "share"), [(0.0, 1.0), (0.4, 0.8), (1.0, 0.5)])
def test_actions_are_the_best_that_is_known_and_some_are_any(epsilon, share):
    task = attached(task_of(epsilon_start=epsilon, epsilon_end=epsilon), Control(environment=CartPole(), num_train=10))
    task.data.prepare()
    state = torch.arange(2).repeat(2000)[:, None].float()
    action = task.explore(state, torch.Generator().manual_seed(0))
    assert (action == torch.tensor([1, 0]).repeat(2000)).float().mean().item() == pytest.approx(share, abs=0.03)
    assert torch.equal(task.policy(state), torch.tensor([1, 0]).repeat(2000))


def test_epsilon_falls_evenly_with_the_steps_that_were_taken():
    data = chain_data()
    data.prepare()
    task = attached(linear(epsilon_start=0.9, epsilon_end=0.1, epsilon_steps=80), data)
    assert task.epsilon == pytest.approx(0.5)  # 40 steps were taken before learning
    data.num_steps = 1000
    assert task.epsilon == pytest.approx(0.1)


def test_each_iteration_takes_a_step_in_each_environment_and_remembers_it():
    data = chain_data()
    task = attached(linear(epsilon_start=0.0), data)
    before = data.prepare() and data.state
    task.on_train_batch_start(None, 0)
    assert len(data.memory) == 44
    newest = data.memory[torch.arange(40, 44)]
    assert torch.equal(newest.state, before)
    assert torch.equal(newest.action, task.policy(before))


def test_acting_does_not_look_at_a_network_in_training():
    """Dropout is for learning; who acts knows what he knows."""
    torch.manual_seed(0)
    model = MLP(in_features=4, out_features=2, hidden_features=[64], dropout=0.9)
    task = attached(QLearning(model, SGD, epsilon_start=0.0, epsilon_end=0.0).train(), chain_data())
    state = task.data.prepare() and task.data.state
    task.on_train_batch_start(None, 0)
    assert model.training
    assert torch.equal(task.data.memory[torch.arange(40, 44)].action, model.eval()(state).argmax(1))


# ---- what is measured


def test_episodes_are_played_to_their_end_and_counted_until_there():
    """From place p of 4 to the goal it takes 4 - p steps; what comes after the end does not count."""
    task = attached(linear(discount=0.5), chain_data())
    with torch.no_grad():
        task.model.output.weight.zero_()
        task.model.output.bias.copy_(torch.tensor([0.0, 7.0]))  # always to the right
    played = task.play(torch.eye(4))
    assert played.rewards.sum(0).tolist() == [1, 1, 1, 1]
    assert played.running.sum(0).tolist() == [4, 3, 2, 1]
    step = task.data.environment.step(torch.eye(4), torch.ones(4, dtype=torch.int64))
    task.evaluate("val", TransitionBatch(torch.eye(4), torch.ones(4, dtype=torch.int64), step[1], step[0], step[2]))
    found = task.means["val"].compute()
    assert found["return"] == 1
    assert found["length"] == 2.5
    assert found["discounted_return"] == pytest.approx((1 + 0.5 + 0.25 + 0.125) / 4)
    assert found["expected_return"] == pytest.approx(7)


def test_episodes_that_never_end_are_cut_short():
    task = attached(linear(), chain_data())
    with torch.no_grad():
        task.model.output.weight.zero_()
        task.model.output.bias.copy_(torch.tensor([1.0, 0.0]))  # always to the left
    played = task.play(torch.eye(4))
    assert len(played.rewards) == 9
    assert played.running.all()


def test_an_episode_is_shown_and_drawn_where_it_can_be():
    data = Control(environment=CartPole(time_limit=20), num_train=10, num_envs=2)
    shown = attached(linear(), data).eval().show(data.part("val")[torch.arange(3)])
    assert set(shown) == {"episode", "frames"}
    assert set(attached(linear(), chain_data()).eval().show(chain_data().part("val")[torch.arange(3)])) == {"episode"}


# ---- whole runs

TINY = ("model=dqn", "model.hidden_features=[16]", "data.num_train=100", "data.num_updates=10", "data.capacity=250")
TINY += ("data.num_val=3", "data.num_test=3", "data.environment.time_limit=30", "data.batch_size=8")
TINY += ("task.target_every=7", "task.epsilon_steps=400", "trainer.max_epochs=3", "callbacks.progress=null")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(configure(*TINY, "logger=csv", run_dir=folder)) == 0
    return folder


@pytest.mark.parametrize("after", [14, 20])
def test_a_stopped_run_goes_on_with_the_bits_of_what_it_remembers(whole, tmp_path, after):
    """Stopped inside an epoch and at its end: weights, target network, memory, episodes and metrics come out equal."""
    real = RunCheckpoint.on_train_batch_start

    def hear(self, trainer, *arguments):
        if iterations_done(trainer) == after:
            LISTENER.asked = signal.SIGINT
        real(self, trainer, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_start", hear)
        assert run(configure(*TINY, "logger=csv", run_dir=tmp_path / "half")) == 130
    assert run(configure(f"resume={tmp_path}/half")) == 0
    one, other = (read(folder / "checkpoints" / "last.ckpt") for folder in (whole, tmp_path / "half"))
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())
    memories = [checkpoint["Control"].pop("memory") for checkpoint in (one, other)]
    assert memories[0]["written"] == memories[1]["written"] == 100 + 3 * 10 * 10
    assert all(torch.equal(a, b) for a, b in zip(*(memory["tensors"] for memory in memories), strict=True))
    assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(other["Control"][k])) for k, v in one["Control"].items())
    own = ("seconds", "peak_memory_mb", "resumed_from_iteration")
    told = [json.loads((folder / "metrics.json").read_text()) for folder in (whole, tmp_path / "half")]
    assert told[1]["resumed_from_iteration"] == after
    assert {k: v for k, v in told[0].items() if k not in own} == {k: v for k, v in told[1].items() if k not in own}


def test_a_run_tells_returns_of_training_validation_test_and_of_random_actions(whole):
    found = json.loads((whole / "metrics.json").read_text())
    assert found["test/return"] == found["test/length"] <= 30
    assert 9 < found["baseline/return"] <= 30
    assert 1 <= found["train/return"] <= 30
    assert 0.05 <= found["train/epsilon"] < 1
    assert (found["monitor"], found["mode"], found["iteration"]) == ("val/return", "max", 30)
    assert found["samples_seen"] == 30 * 8
    assert {"val/expected_return", "val/discounted_return", "val/loss", "test/td_error"} <= set(found)


def test_a_checkpoint_is_judged_again_as_its_run_did(whole):
    told = json.loads((whole / "metrics.json").read_text())
    found = evaluate(str(whole)).metrics
    assert found["test/return"] == told["test/return"]
    assert found["test/expected_return"] == pytest.approx(told["test/expected_return"])


@pytest.mark.slow
def test_two_processes_act_and_learn_as_one(tmp_path):
    """Both act alike and remember the same; each learns from its own rows of a batch."""
    ends = []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        typed = [*TINY, "trainer.precision=64-true", "trainer.accelerator=cpu", f"trainer.devices={devices}"]
        words = [sys.executable, str(ROOT / "train.py"), *typed, "logger=none", f"run_dir={folder}"]
        subprocess.run(words, cwd=tmp_path, capture_output=True, check=True, timeout=200)
        ends.append(read(folder / "checkpoints" / "last.ckpt"))
    for name, value in ends[0]["state_dict"].items():
        torch.testing.assert_close(value, ends[1]["state_dict"][name], rtol=0, atol=1e-12)
    one, other = (end["Control"]["memory"]["tensors"] for end in ends)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "typed", ["callbacks.ema.decay=0.9", "trainer.precision=bf16-mixed", "trainer.precision=64-true", "scratch=true",
              "trainer.accumulate_grad_batches=2", "data.overfit=true", "optimizer=lbfgs", "model.dropout=0.5"]
)  # fmt: skip
def test_it_goes_together_with(typed, tmp_path):
    assert run(configure(*TINY, "trainer.max_epochs=1", "logger=none", typed, run_dir=tmp_path)) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("model=dqn data=digits task=q_learning", "Data sets that do: cartpole, chain"),
        ("model=mlp data=cartpole task=classification", "needs data.num_classes"),
        ("model=lenet5 data=cartpole", "needs data.image_shape"),
        ("model=autoencoder data=cartpole", "is for a ImageBatch or TableBatch, and the data gives a TransitionBatch"),
        ("model=perceptron data=cartpole", "use data with classes"),
        ("model=dqn baselines=true", "baselines=true is for"),
        ("model=dqn task.discount=1", "task.discount=1 must be from 0 on and below 1"),
        ("model=dqn task.epsilon_end=2", "task.epsilon_end=2 must be from 0 to 1"),
        ("model=dqn task.target_rate=0", "task.target_rate=0 must be above 0 and at most 1"),
        ("model=dqn task.target_every=0", "task.target_every=0 must be a whole number from 1 on"),
        ("model=dqn task.epsilon_steps=0", "task.epsilon_steps=0 must be a whole number from 1 on"),
    ],
)
def test_what_cannot_work_is_one_line(typed, told, tmp_path):
    with pytest.raises(UserError, match=told) as error:
        build(configure(*typed.split(), "logger=none", run_dir=tmp_path / "run"))
    assert "\n" not in str(error.value)


def test_a_model_that_does_not_act_is_not_sent_to_a_world(tmp_path):
    with pytest.raises(UserError, match=r"Data sets that do: .*iris") as error:
        build(configure("model=rbm", "data=waves", "logger=none", run_dir=tmp_path))
    assert "cartpole" not in str(error.value)
