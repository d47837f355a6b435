"""SIGTERM, SIGUSR1 and Ctrl-C end a run with everything saved, and its last line goes on with it."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from zoo.callbacks.checkpointing import AtomicCheckpointIO, RunCheckpoint
from zoo.callbacks.curves import iterations_done
from zoo.checkpoint import read
from zoo.data.digits import Digits
from zoo.run import configure, run
from zoo.running.signals import LISTENER

TRAIN = Path(__file__).parent.parent.parent / "train.py"
SMALL = ("model.hidden_features=[8]", "model.dropout=0.2", "trainer.max_epochs=2", "logger=none")  # 40 iterations
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 75, signal.SIGUSR1: 75}


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def last(folder):
    return read(folder / "checkpoints" / "last.ckpt")["state_dict"]


@pytest.fixture(autouse=True)
def hears_ctrl_c():
    """A runner in the background ignores Ctrl-C, and a run in it would leave that so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The last weights of a run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(configure(*SMALL, run_dir=folder)) == 0
    return last(folder)


# ---- in this process: a signal at an exact place


def call_before(patch, owner, name, action):
    real = getattr(owner, name)

    def both(*arguments, **options):
        action(*arguments)
        return real(*arguments, **options)

    patch.setattr(owner, name, both)


def at(iteration, action):
    return lambda keeper, trainer, *_: iterations_done(trainer) == iteration and action()


def place(patch, stage, action):
    """Calls `action` when a run comes to that stage."""
    if stage == "data":
        call_before(patch, Digits, "read", lambda *_: action())
    elif stage == "build":
        call_before(patch, sys.modules["zoo.build"], "build_task", lambda *_: action())
    elif stage == "start of the fit":
        call_before(patch, RunCheckpoint, "on_train_start", lambda *_: action())
    elif stage == "first batch":
        call_before(patch, RunCheckpoint, "on_train_batch_start", at(1, action))
    elif stage == "a batch":
        call_before(patch, RunCheckpoint, "on_train_batch_start", at(27, action))
    elif stage == "last batch":
        call_before(patch, RunCheckpoint, "on_train_batch_start", at(40, action))
    elif stage == "end of a batch":
        call_before(patch, RunCheckpoint, "on_train_batch_end", at(27, action))
    elif stage == "end of an epoch":
        call_before(patch, RunCheckpoint, "on_epoch_complete", lambda *_: action())
    elif stage == "end of the fit":
        call_before(patch, RunCheckpoint, "on_train_end", lambda *_: action())
    else:
        call_before(patch, RunCheckpoint, "on_test_start", lambda *_: action())


STAGES = {  # and the iteration from which the run goes on
    "data": None,
    "build": None,
    "start of the fit": 0,
    "first batch": 1,
    "a batch": 27,
    "last batch": 40,
    "end of a batch": 28,
    "end of an epoch": 20,
    "end of the fit": 40,
    "test": 40,
}


def everywhere():
    """Each stage with SIGTERM; the other signals at two of them, and at all of them where there is time."""
    for stage in STAGES:
        for number in STATUS:
            quick = number == signal.SIGTERM or stage in ("data", "a batch")
            yield pytest.param(stage, number, id=f"{stage}, {number.name}", marks=[] if quick else pytest.mark.slow)


@pytest.mark.parametrize(("stage", "number"), list(everywhere()))
def test_the_last_line_goes_on_from_wherever_it_was(stage, number, whole, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *SMALL, "run_dir=run"])
    with pytest.MonkeyPatch.context() as patch, caplog.at_level("INFO"):
        place(patch, stage, lambda: os.kill(os.getpid(), number))
        assert run(configure(*sys.argv[1:])) == STATUS[number]
    python, program, *typed = shlex.split(caplog.messages[-1].splitlines()[-1])
    assert (python, program) == ("python", "train.py")
    if STAGES[stage] is None:
        assert typed == sys.argv[1:], "nothing is there yet: the run begins again"
    else:
        assert typed == ["resume=run"]
        assert metrics(tmp_path / "run")["status"] == "interrupted"
    assert run(configure(*typed)) == 0
    found = metrics(tmp_path / "run")
    assert (found["status"], found["resumed_from_iteration"]) == ("finished", STAGES[stage] or 0)
    assert all(torch.equal(whole[name], value) for name, value in last(tmp_path / "run").items())


def test_handlers_are_given_back(tmp_path):
    before = [signal.getsignal(number) for number in STATUS]
    run(configure(*SMALL, "trainer.max_epochs=1", run_dir=tmp_path / "run"))
    assert [signal.getsignal(number) for number in STATUS] == before
    assert (LISTENER.asked, LISTENER.patient) == (None, False)


def test_a_second_ctrl_c_does_not_wait_and_leaves_what_was_saved(whole, tmp_path, monkeypatch):
    """The first in iteration 27; the second while that is being saved."""
    folder = tmp_path / "run"
    real = torch.save

    def save(checkpoint, file):
        if LISTENER.asked is not None:
            file.write(b"half of it")
            os.kill(os.getpid(), signal.SIGINT)
        real(checkpoint, file)

    with monkeypatch.context() as patch:
        place(patch, "a batch", lambda: os.kill(os.getpid(), signal.SIGINT))
        patch.setattr(torch, "save", save)
        assert run(configure(*SMALL, "checkpoint_every=10", run_dir=folder)) == 130
    assert run(configure(f"resume={folder}")) == 0
    assert metrics(folder)["resumed_from_iteration"] == 20
    assert all(torch.equal(whole[name], value) for name, value in last(folder).items())
    assert not list(folder.rglob("*.tmp")), "what a cut save has left is swept up"


def test_a_second_sigterm_lets_it_save(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        place(patch, "a batch", lambda: os.kill(os.getpid(), signal.SIGTERM))
        call_before(patch, AtomicCheckpointIO, "save_checkpoint", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        assert run(configure(*SMALL, run_dir=tmp_path / "run")) == 75
    assert metrics(tmp_path / "run")["iteration"] == 27
    last(tmp_path / "run")


def test_a_request_during_an_import_waits_for_its_end():
    LISTENER.listen()
    reached = False
    try:
        with pytest.raises(BaseException) as stop, LISTENER.deferred():  # noqa: PT012
            os.kill(os.getpid(), signal.SIGUSR1)
            reached = True
        assert reached
        assert stop.value.status == 75
    finally:
        LISTENER.rest()


# ---- a process of its own


@pytest.fixture(autouse=True, scope="module")
def without_waiting_for_imports(warm):
    global start_from
    start_from = warm


start_from = None


def start(*arguments, cwd):
    environment = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"}
    return start_from.start([sys.executable, *arguments], cwd=cwd, env=environment)


def wait_for(condition, process):
    deadline = time.monotonic() + 60
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def go_on(line, cwd):
    """Runs exactly that line in a shell; `python` is the one of the tests."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    shell = ["sh", "-c", line]
    ended = subprocess.run(shell, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""


@pytest.mark.parametrize(
    "number",
    STATUS,
    ids=lambda number: number.name,
)
@pytest.mark.slow
def test_in_a_process_of_its_own(number, tmp_path):
    folder = tmp_path / "it's a run"
    typed = ("trainer.max_epochs=100000", "checkpoint_every=7", "logger=none", f"run_dir={folder}")
    process = start(str(TRAIN), *typed, cwd=tmp_path)
    try:
        wait_for((folder / "checkpoints" / "last.ckpt").exists, process)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, stderr) == (STATUS[number], "")
    line = stdout.splitlines()[-1]
    assert line == f"python {TRAIN} 'resume=it'\"'\"'s a run'"
    before = metrics(folder)["iteration"]
    go_on(f"{line} trainer.max_epochs={metrics(folder)['epoch'] + 1}", tmp_path)
    found = metrics(folder)
    assert (found["status"], found["resumed_from_iteration"]) == ("finished", before)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 0.3, 0.6, 0.9, 1.2, 1.5, 2.0, 2.5])
def test_a_signal_while_libraries_are_loaded(delay, tmp_path):
    """The line that it ends with is typed again, whether it begins the run or goes on with it."""
    process = start(str(TRAIN), *SMALL, "trainer.max_epochs=100000", "run_dir=run", cwd=tmp_path)
    try:
        wait_for((tmp_path / "run" / "run.log").exists, process)
        time.sleep(0.1 + delay)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, stderr) == (75, "")
    line = stdout.splitlines()[-1]
    assert line.startswith(f"python {TRAIN} ")
    go_on(f"{line.replace('trainer.max_epochs=100000', '')} trainer.max_epochs=1", tmp_path)
    assert metrics(tmp_path / "run")["status"] == "finished"
