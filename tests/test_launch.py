"""Every way to start several processes ends alike: one run folder, one log, one line for what was wrong.

Each test of several is a subprocess: a fork of a threaded runner would hang.
"""

import contextlib
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from zoo.checkpoint import read
from zoo.run import configure, run

ROOT = Path(__file__).parent.parent
TRAIN = [sys.executable, str(ROOT / "train.py")]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
QUICK = ["trainer.accelerator=cpu", "data.batch_size=100", "trainer.max_epochs=2"]
ENDLESS = ["trainer.accelerator=cpu", "data.batch_size=100", "trainer.max_epochs=100000", "logger=none"]
STARTERS = ("HYDRA_FULL_ERROR", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_ID")


@pytest.fixture(autouse=True, scope="module")
def without_waiting_for_imports(warm):
    global start_from
    start_from = warm


start_from = None


def begin(cwd, *command, **variables):
    """Starts a command in a session of its own, as a terminal would.

    What starts its processes anew itself (torchrun, spawn) is started anew, too.
    """
    environment = {k: v for k, v in os.environ.items() if k not in STARTERS} | {"OMP_NUM_THREADS": "1"} | variables
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def listening():  # a runner started in the background ignores Ctrl-C, and its children would with it
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [str(part) for part in command]
    if command[: len(TRAIN)] == TRAIN and not any("spawn" in word for word in command):
        return start_from.start(command, cwd=cwd, env=environment, start_new_session=True)
    return subprocess.Popen(command, cwd=cwd, env=environment, start_new_session=True, preexec_fn=listening, **pipes)


def members(session):
    """Processes that a command has started, itself among them."""
    listed = ["ps", "-o", "pid=", "--sid", str(session)]
    return subprocess.run(listed, capture_output=True, text=True, check=False).stdout.split()


def ended(*processes, timeout=100):
    """[(status, stdout, stderr)] once all have ended; none is left behind, whatever happens."""
    try:
        found = [(p, p.communicate(timeout=timeout)) for p in processes]
        wait_for(lambda: not any(members(p.pid) for p in processes), 5)  # spawn's own helper ends a moment later
        return [(p.returncode, *said) for p, said in found]
    finally:
        for pid in [pid for process in processes for pid in members(process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def weights(folder):
    return read(folder / "checkpoints" / "last.ckpt")["state_dict"]


def same_bits(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def assert_one_run(folder, root, world_size=2):
    """One folder with one whole configuration, one log that has each message once, and one event file."""
    assert [path.parent for path in root.glob("**/config.yaml")] == [folder]
    assert "world_size" not in (folder / "config.yaml").read_text()
    assert "model:" in (folder / "config.yaml").read_text()
    assert len(list(root.glob("**/*tfevents*"))) == 1
    assert [path.name for path in root.glob("**/*.log")] == ["run.log"]
    lines = (folder / "run.log").read_text().splitlines()
    assert sum("Run folder:" in line for line in lines) == 1
    assert sum("epoch 2/2" in line for line in lines) == 1
    found = metrics(folder)
    assert (found["status"], found["world_size"], found["iteration"]) == ("finished", world_size, 26)


@pytest.mark.slow
def test_deterministic_runs_of_two_processes_have_the_same_bits(tmp_path):
    """By fork and by spawn, with dropout; started at once, to save time."""
    typed = [*TRAIN, *QUICK, "trainer.devices=2", "model.dropout=0.3", "deterministic=true"]
    fork, spawn = (
        begin(tmp_path, *typed, f"run_dir={name}/run", f"launcher.start_method={name}") for name in ("fork", "spawn")
    )
    for (status, out, err), name in zip(ended(fork, spawn), ("fork", "spawn"), strict=True):
        assert (status, err) == (0, ""), out
        assert out.count("Run folder:") == 1
        assert_one_run(tmp_path / name / "run", tmp_path / name)
    assert same_bits(weights(tmp_path / "fork" / "run"), weights(tmp_path / "spawn" / "run"))


def test_torchrun_makes_one_run_in_a_folder_that_all_agree_on(tmp_path):
    process = begin(tmp_path, *TORCHRUN, "--standalone", "--nproc-per-node=2", *TRAIN[1:], *QUICK)
    ((status, out, err),) = ended(process)
    assert (status, err) == (0, ""), out
    (folder,) = (tmp_path / "outputs").glob("*/*")
    assert_one_run(folder, tmp_path)


@pytest.mark.parametrize(
    ("typed", "telling"),
    [
        (["trainer.devices=500"], "asks for more processes than"),
        (["trainer.accelerator=gpu", "trainer.devices=99"], "asks for more GPUs than"),
        (["trainer.devices=2", "launcher.start_method=clone"], "There is no launcher.start_method=clone"),
        (["launcher.max_restarts=x"], "must be a whole number"),
        (["launcher.num_nodes=2"], "needs launcher.rendezvous=host:port"),
    ],
)
def test_a_start_that_cannot_work_is_one_line(tmp_path, typed, telling):
    process = begin(tmp_path, *TRAIN, *QUICK, *typed, "run_dir=run")
    ((status, _, err),) = ended(process)
    assert status == 2, err
    assert err.startswith("Error: ")
    assert telling in err
    assert len(err.strip().splitlines()) == 1


def test_machines_that_would_not_share_a_folder_are_told_so(tmp_path):
    rendezvous = f"launcher.rendezvous=localhost:{free_port()}"
    ((status, _, err),) = ended(begin(tmp_path, *TRAIN, *QUICK, "launcher.num_nodes=2", rendezvous))
    assert status == 2
    assert err.startswith("Error: launcher.num_nodes=2 needs run_dir=")


def test_what_all_processes_object_to_is_said_once(tmp_path):
    """A batch too small for two, under our own launcher and under names that somebody else has set."""
    typed = [*TRAIN, "trainer.accelerator=cpu", "data.batch_size=1"]
    own = begin(tmp_path, *typed, "trainer.devices=2", "run_dir=own")
    names = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    others = [begin(tmp_path, *typed, "run_dir=others", RANK=r, LOCAL_RANK=r, **names) for r in ("0", "1")]
    one, *two = ended(own, *others)
    assert [status for status, *_ in (one, *two)] == [2, 2, 2]
    for said in (one[2], two[0][2] + two[1][2]):
        assert said.count("Error: data.batch_size=1 is the batch of all processes together") == 1
        assert len(said.strip().splitlines()) == 1


@pytest.mark.slow
def test_two_machines_make_one_run(tmp_path):
    """Two starts of our own launcher, and two of torchrun, beside each other."""
    ours, theirs = f"localhost:{free_port()}", f"localhost:{free_port()}"
    own = [*TRAIN, *QUICK, "launcher.num_nodes=2", f"launcher.rendezvous={ours}", "run_dir=own/run"]
    run = [*TORCHRUN, "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint={theirs}"]
    (tmp_path / "torchrun").mkdir()
    processes = [begin(tmp_path, *own) for _ in range(2)]
    processes += [begin(tmp_path / "torchrun", *run, *TRAIN[1:], *QUICK) for _ in range(2)]
    for status, _, err in ended(*processes):
        assert status == 0, err
    assert_one_run(tmp_path / "own" / "run", tmp_path / "own")
    (folder,) = (tmp_path / "torchrun" / "outputs").glob("*/*")
    assert_one_run(folder, tmp_path / "torchrun")
    assert same_bits(weights(folder), weights(tmp_path / "own" / "run"))


@pytest.mark.slow
def test_who_cannot_be_reached_is_one_line(tmp_path):
    """A port that is taken, a first process that never comes, a machine and a second process that never come."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        short = [*TRAIN, *QUICK, "launcher.timeout=5"]
        names = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(taken.getsockname()[1])}
        nobody, lonely = ({**names, "MASTER_PORT": str(free_port())} for _ in range(2))
        alone = [*short, "launcher.num_nodes=2", f"launcher.rendezvous=localhost:{free_port()}", "run_dir=alone"]
        processes = [
            begin(tmp_path, *short, "run_dir=taken", RANK="0", LOCAL_RANK="0", **names),
            begin(tmp_path, *short, "run_dir=taken", RANK="1", LOCAL_RANK="1", **names),
            begin(tmp_path, *short, "run_dir=nobody", RANK="1", LOCAL_RANK="1", **nobody),
            begin(tmp_path, *alone),
            begin(tmp_path, *short, "run_dir=first", RANK="0", LOCAL_RANK="0", **lonely),
        ]
        found = ended(*processes)
    telling = (
        "is taken by another program",
        "cannot be reached",
        "cannot be reached",
        "2 machines did not meet",
        "Only 1 of 2",
    )
    for (status, _, err), words in zip(found, telling, strict=True):
        assert status == 2, err
        assert words in err
        assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "number", "status"),
    [([], signal.SIGINT, 130), ([], signal.SIGUSR1, 75), (["launcher.start_method=spawn"], signal.SIGTERM, 75)],
)
def test_a_signal_to_all_processes_saves_once(tmp_path, start, number, status):
    process = begin(tmp_path, *TRAIN, *ENDLESS, "trainer.devices=2", *start, "run_dir=run")
    wait_for((tmp_path / "run" / "config.yaml").is_file)
    time.sleep(2)
    os.killpg(process.pid, number)
    ((code, out, err),) = ended(process, timeout=30)
    assert (code, err) == (status, ""), out
    assert out.count("Stopped and saved.") == 1
    assert out.strip().endswith("resume=run")
    last = read(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert (
        last["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"]
        == metrics(tmp_path / "run")["iteration"]
    )


@pytest.fixture
def any_algorithms_again(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # set with them
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("any_algorithms_again")
def test_deterministic_runs_have_the_same_bits(tmp_path):
    """Without other processes, so in this one."""
    typed = [*QUICK, "model.dropout=0.3", "deterministic=true", "logger=none", "trainer.num_threads=1"]
    for name in ("one", "two"):
        assert run(configure(*typed, run_dir=tmp_path / name)) == 0
        assert torch.are_deterministic_algorithms_enabled()
    assert same_bits(weights(tmp_path / "one"), weights(tmp_path / "two"))


def slurm_answers():
    if not shutil.which("sinfo"):
        return False
    asked = subprocess.run(["sinfo", "-h"], capture_output=True, text=True, check=False, timeout=30)
    return asked.returncode == 0 and bool(asked.stdout.strip())


def asked_of_slurm(*command, cwd):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


@pytest.mark.slow
def test_a_slurm_job_that_runs_out_of_time_goes_on_by_itself(tmp_path, monkeypatch):
    """scripts/train.sbatch: warned, saved by both processes, queued again, finished; equal to an uninterrupted run."""
    if not slurm_answers():
        pytest.skip("sinfo does not answer here: there is no SLURM")
    monkeypatch.setenv("PYTHON", sys.executable)
    typed = ["trainer.accelerator=cpu", "data.batch_size=100", "trainer.max_epochs=150", "model.dropout=0.2"]
    typed += ["logger=none", "trainer.num_threads=1"]
    run, log = tmp_path / "run", tmp_path / "job.out"
    job = asked_of_slurm(
        "sbatch",
        "--parsable",
        f"--output={log}",
        str(ROOT / "scripts" / "train.sbatch"),
        *typed,
        f"run_dir={run}",
        cwd=ROOT,
    )
    try:
        wait_for((run / "config.yaml").is_file)
        time.sleep(1)
        asked_of_slurm("scancel", "--signal=USR1", job, cwd=ROOT)
        whole = begin(ROOT, *TRAIN, *typed, "trainer.devices=2", f"run_dir={tmp_path / 'whole'}")
        assert ended(whole)[0][0] == 0
        wait_for(lambda: not asked_of_slurm("squeue", "-h", "-j", job, cwd=ROOT), 200)
    finally:
        subprocess.run(["scancel", job], check=False)
    said = log.read_text()
    assert said.count("is queued again.") == 1, said
    assert said.count("Going on from iteration") == 1, said
    assert "Traceback" not in said
    assert "srun` command is available" not in said
    assert metrics(run)["status"] == "finished"
    assert metrics(run)["world_size"] == 2
    assert metrics(run)["resumed_from_iteration"] > 0
    assert same_bits(weights(run), weights(tmp_path / "whole"))


def test_what_cannot_be_imported_is_said_later_in_one_line():
    from zoo.launch import preload

    preload(["zoo.models.nope.Net", "zoo.data.digits.Digits"])
    assert gc.isenabled()


def test_the_first_machine_of_a_list_is_asked_for_where_it_cannot_be_known(monkeypatch):
    from zoo.errors import UserError
    from zoo.running.peers import first_host

    monkeypatch.setenv("PATH", "/nowhere")
    assert first_host("node7") == "node7"
    with pytest.raises(UserError, match="set MASTER_ADDR"):
        first_host("node[01-04]")


@pytest.mark.parametrize(("there", "number", "meant"), [(0, 2, "cpu"), (1, 2, "cpu"), (2, 2, "gpu"), (4, 2, "gpu")])
def test_auto_means_a_gpu_for_each_process_or_none(monkeypatch, there, number, meant):
    import torch

    from zoo.running.peers import accelerator_for

    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    assert accelerator_for(number, "auto") == meant
    assert accelerator_for(number, "cpu") == "cpu"
