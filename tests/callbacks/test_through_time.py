"""How far back in time a gradient reaches, measured and shown."""

import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.callbacks.through_time import gates_of, gradient_by_step, reach, unpadded
from zoo.models.gru import GRU
from zoo.models.lstm import LSTM
from zoo.models.rnn import RNN
from zoo.run import configure, run

SIZES = {"num_outputs": 2, "input_size": 3, "hidden_size": 8}


@pytest.fixture
def x():
    return torch.rand(5, 30, 3, generator=torch.Generator().manual_seed(0))


def test_the_identity_passes_every_step_on_alike(x):
    network = RNN(nonlinearity="relu", recurrent_init="identity", **SIZES)
    with torch.no_grad():
        network.layers.weight_ih_l0.abs_()  # units that are on at each step
    norms = gradient_by_step(network, (x,))
    torch.testing.assert_close(norms, norms[:1].expand(30))
    assert reach(norms) == 30


def test_a_state_that_is_halved_at_each_step_forgets(x):
    network = RNN(**SIZES)
    with torch.no_grad():
        network.layers.weight_hh_l0.copy_(0.5 * torch.eye(8))
    norms = gradient_by_step(network, (x,))
    most = torch.linalg.matrix_norm(network.layers.weight_ih_l0.detach(), 2) * 0.5 ** torch.arange(30)
    assert (norms <= most + 1e-12).all()
    assert reach(norms) <= 7, "0.5 ** 7 is below a hundredth"


def test_a_gate_that_keeps_its_cell_remembers_what_an_elman_net_forgets(x):
    torch.manual_seed(0)
    elman, lstm = RNN(recurrent_init="uniform", **SIZES), LSTM(forget_bias=8.0, **SIZES)
    assert reach(gradient_by_step(lstm, (x,))) == 30 > 2 * reach(gradient_by_step(elman, (x,)))


def test_measuring_changes_nothing(x):
    network = LSTM(dropout=0.5, **SIZES).train()
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    gradient_by_step(network, (x,))
    gates_of(network, (x,))
    assert network.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_padding_is_cut_off(x):
    mask = torch.arange(30) < torch.tensor([30, 12, 20, 5, 9])[:, None]
    (longest,) = unpadded((x, mask))
    assert torch.equal(longest, x[[0, 2], :20])


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_gates_lie_between_closed_and_open(kind, x):
    found = gates_of(kind(**SIZES), (x,))
    closed_to_open = [found[name] for name in ("input", "forget", "output", "reset", "update") if name in found]
    assert len(closed_to_open) == (3 if kind is LSTM else 2)
    assert all(values.shape == (30, 8) and ((values > 0) & (values < 1)).all() for values in closed_to_open)


def test_a_run_shows_both(tmp_path):
    assert run(configure("model=lstm", "data=digits", "model.hidden_size=8", "data.fraction=0.2",
                         "trainer.max_epochs=2", "trainer.num_threads=1", run_dir=tmp_path)) == 0  # fmt: skip
    board = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert {"samples/gradient_through_time", "samples/gates"} <= set(board.Tags()["images"])
    steps = json.loads((tmp_path / "metrics.json").read_text())["gradient_reach_steps"]
    assert board.Scalars("through_time/reach")[-1].value == steps
    assert 1 <= steps <= 8, "8 rows of pixels"
