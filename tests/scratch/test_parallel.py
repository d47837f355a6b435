"""Two processes that average gradients make the run of one; averaging parameters does where a step is linear."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

DRIVER = Path(__file__).parents[1] / "drivers" / "parallel.py"
spec = importlib.util.spec_from_file_location("drivers_parallel", DRIVER)
driver = importlib.util.module_from_spec(spec)
spec.loader.exec_module(driver)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What each of the two processes has left."""
    folder = tmp_path_factory.mktemp("parallel")
    command = [sys.executable, str(DRIVER)]
    started = [subprocess.Popen([*command, str(rank), str(folder)], stderr=subprocess.PIPE) for rank in (0, 1)]
    try:
        for process in started:
            _, said = process.communicate(timeout=240)
            assert process.returncode == 0, said.decode()
    finally:
        for process in started:
            process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def distance(ours, theirs):
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("optimizer", driver.OPTIMIZERS)
def test_with_averaged_gradients_two_processes_make_the_run_of_one(both, optimizer):
    assert all(distance(one[f"{optimizer} data parallel"], driver.whole(optimizer)) < 1e-12 for one in both)


@pytest.mark.parametrize(("optimizer", "equal"), [("descent", True), ("momentum", True), ("adam", False)])
def test_parameters_averaged_after_every_step_are_averaged_gradients_where_a_step_is_linear(both, optimizer, equal):
    found = max(distance(one[f"{optimizer} every 1"], one[f"{optimizer} data parallel"]) for one in both)
    assert (found < 1e-12) == equal
    assert equal or found > 1e-3


def test_parameters_averaged_after_every_4_steps_are_alike_and_those_of_another_run(both):
    first, second = (one["descent every 4"] for one in both)
    assert distance(first, second) == 0.0
    assert distance(first, driver.whole("descent")) > 1e-4


def test_a_network_in_two_stages_has_the_gradients_of_one(both):
    model, (x, y) = driver.network(), driver.batches()[0]
    F.cross_entropy(model(x), y).backward()
    found = [*both[0]["stage"], *both[1]["stage"]]
    assert distance(found, [p.grad for p in model.parameters()]) < 1e-12


def test_a_synchronized_batch_norm_is_that_of_one_process_whatever_the_shares(both):
    """Shares of 7 and 5 images: answers, gradients of the input, sums of the weights' gradients, running statistics.

    The last is the gradient of a gradient.
    """
    whole = driver.normalized(slice(None))
    ours = [one["batch norm"] for one in both]
    assert whole[-1].abs().max() > 1e-2
    for i in (0, 1, -1):
        assert distance([torch.cat([part[i] for part in ours])], [whole[i]]) < 1e-12
    for i in (2, 3):
        assert distance([ours[0][i] + ours[1][i]], [whole[i]]) < 1e-12
    assert all(distance(part[4:-1], whole[4:-1]) < 1e-12 for part in ours)
    assert whole[4].min() > 0.4, "a tenth of the mean of 5 is remembered"
