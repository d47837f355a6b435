"""Starts the processes of a run: one, several on this machine, or those that torchrun or SLURM have started.

Where each of them runs is told by torch's own names, RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. A
process that dies takes the others with it within seconds; with `launcher.max_restarts` all of them begin again from the
newest checkpoint.
"""

import ctypes
import gc
import importlib
import logging
import logging.config
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.running.peers import (
    CAN_FORK,
    accelerator_for,
    agreed,
    begin_job,
    cores,
    first_to_say,
    place,
    started_by_others,
)
from zoo.running.signals import LISTENER, SIGNALS, Stop

LOST_RANK = 3
BAD_INPUT = 2
PER_CORE = 4  # processes on a CPU core; more only wait for each other
LOST = 13  # how a process ends whose neighbour was lost; only the launcher sees it
Job = Callable[[dict[str, Any]], int]
has_run = False  # a fork after torch has used its threads would hang


def processes(config: dict[str, Any]) -> dict[str, Any]:
    """What `launch` needs to know of a configuration: how many processes on this machine, and of what kind."""
    trainer, settings = config["trainer"], dict(config.get("launcher") or {})
    number = trainer.get("devices", 1)
    if config.get("nothing_left"):
        number, settings = 1, {}
    if number > 1:
        trainer["accelerator"] = accelerator_for(number, trainer.get("accelerator", "auto"))
    return {"num_processes": number, "gpu": trainer.get("accelerator") in ("gpu", "cuda"), "settings": settings}


def together(arguments: Sequence[str]) -> list[str]:
    """The command line of one of several processes that others have started: one run folder, one log for all."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # else each lost connection brings a page of its frames
    if not started_by_others():
        return list(arguments)
    arguments = list(arguments)
    if not any(argument.startswith("run_dir=") for argument in arguments):
        job = os.environ.get("SLURM_JOB_ID")
        timeouts = [a.partition("=")[2] for a in arguments if a.startswith("launcher.timeout=")]
        timeout = float(timeouts[-1]) if timeouts and timeouts[-1].isdigit() else 300.0
        own = f"outputs/{datetime.now():%Y-%m-%d/%H-%M-%S-%f}_ddp"
        arguments.append(f"run_dir={f'outputs/slurm_{job}' if job else agreed('run_dir', own, timeout)}")
    return arguments if place()[0] == 0 else [*arguments, "hydra/job_logging=none"]


def joined(job: Job, config: dict[str, Any]) -> int:
    """`job(config)` in one of several processes that others have started; only one says what went wrong."""
    try:
        return job(config)
    except RuntimeError as error:
        if not is_about_a_lost_process(error):
            raise
        time.sleep(1)  # whoever went first may have to say why
        if first_to_say():
            print(f"Error: process {place()[0]} has lost the others.", file=sys.stderr)
        return LOST_RANK


def end_with_parent() -> None:
    """Asks Linux to end this process when its parent dies, so that a killed run leaves none behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def worker(job: Job, config: dict[str, Any], folder: str, log_settings: dict[str, Any] | None) -> int:
    """`job(config)` in one of several processes. What its user can mend is left in `folder`.

    An exception does not cross processes, and an error that only says that a neighbour is gone is no news.
    """
    end_with_parent()
    LISTENER.stubborn = True
    LISTENER.listen()
    if log_settings and not logging.getLogger().handlers:  # a process that was not forked
        logging.config.dictConfig(log_settings)
    if any(path.name.isdigit() for path in Path(folder).iterdir()):
        sys.exit(BAD_INPUT)  # what a user has to mend is not mended by a new beginning
    try:
        status = job(config)
    except Stop as stop:
        status = stop.status
    except UserError as error:
        (Path(folder) / os.environ["RANK"]).write_text(str(error), encoding="utf-8")
        sys.exit(BAD_INPUT)
    except RuntimeError as error:
        if not is_about_a_lost_process(error):
            raise
        obey()
        if LISTENER.asked is None:  # the news is here before it is with the launcher, which names whom it sees first
            time.sleep(5)
        sys.exit(LOST)
    if LISTENER.asked == signal.SIGTERM and not LISTENER.agreed and not was_asked(Path(folder)):
        sys.exit(LOST)  # the launcher ends what is left of a run; a status would wait here until it is read
    obey()
    return status


def obey() -> None:
    """Lets the launcher end this process, which has nothing left to save."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)


def was_asked(folder: Path) -> bool:
    """Whether a signal came to the run from outside; `pass_on` leaves word, perhaps after it was heard here."""
    for _ in range(20):
        if (folder / "asked").exists():
            return True
        time.sleep(0.05)
    return False


def is_about_a_lost_process(error: BaseException) -> bool:
    from torch.distributed import DistError

    words = ("gloo", "Connection closed by peer", "Connection reset", "NCCL", "Broken pipe", "TCPStore", "Socket")
    return isinstance(error, DistError) or any(word in str(error) for word in words)


def launch(
    job: Job,
    config: dict[str, Any],
    *,
    num_processes: int,
    gpu: bool = False,
    settings: dict[str, Any] | None = None,
    log_settings: dict[str, Any] | None = None,
    classes: Iterable[str] = (),
) -> int:
    """Runs `job(config)` in as many processes as there are devices, and returns the exit status of the first.

    Args:
        job: a function of a module's top level; it sees RANK and WORLD_SIZE in its environment.
        config: plain containers, the same for all processes.
        num_processes: processes on this machine.
        gpu: each process will use a GPU of its own.
        settings: the launcher group: max_restarts, num_nodes, rendezvous, start_method, timeout.
        log_settings: for logging.config, where a process does not inherit what this one has set up.
        classes: what the configuration calls, by dotted name; see `preload`.
    """
    global has_run
    settings = settings or {}
    begin_job()
    num_nodes = settings.get("num_nodes", 1)
    if started_by_others() or (num_processes <= 1 and num_nodes <= 1 and not settings.get("max_restarts")):
        has_run = True
        return joined(job, config) if started_by_others() else job(config)
    check_nodes(settings)
    check_devices(num_processes, gpu)
    method = settings.get("start_method") or ("spawn" if gpu or has_run or not CAN_FORK else "fork")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // num_processes)))
    with tempfile.TemporaryDirectory() as folder:
        return started(method, (job, config, folder, log_settings), num_processes, settings, Path(folder), classes)


def preload(names: Iterable[str] = ()) -> None:
    """Imports what every process will need, so that a fork has it at once.

    No tensor is touched: a fork hangs once torch has used its threads. A class says in `imports` what it imports later.

    Args:
        names: dotted names of the classes that a configuration calls.
    """
    gc.disable()
    for name in ("zoo.run.run", "zoo.build.build", *names):
        module, _, attribute = name.rpartition(".")
        if module.startswith("zoo."):
            with suppress(ImportError):  # said later, in one line
                found = getattr(importlib.import_module(module), attribute, None)
                for other in getattr(found, "imports", ()):
                    importlib.import_module(other)
    gc.enable()
    gc.freeze()


def started(
    method: str,
    arguments: tuple[Any, ...],
    num_processes: int,
    settings: dict[str, Any],
    folder: Path,
    classes: Iterable[str] = (),
) -> int:
    """Starts the processes through torch's agent, waits, and says in one line what went wrong."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in (*logging.Logger.manager.loggerDict, "torch.distributed.elastic", "torch.distributed.launcher"):
        if name.startswith("torch."):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what they report is raised as well
    num_nodes, rendezvous = settings.get("num_nodes", 1), settings.get("rendezvous")
    timeout = int(settings.get("timeout", 300))
    if method == "fork":
        preload(classes)
    plan = LaunchConfig(
        min_nodes=num_nodes,
        max_nodes=num_nodes,
        nproc_per_node=num_processes,
        start_method=method,
        max_restarts=settings.get("max_restarts", 0),
        rdzv_backend="c10d",
        rdzv_endpoint=rendezvous or "localhost:0",
        rdzv_configs={"join_timeout": timeout, "read_timeout": min(timeout, 60)} if rendezvous else {},
        signals_to_handle="SIGHUP,SIGQUIT",  # the others: `pass_on`
        run_id="zoo" if rendezvous else uuid.uuid4().hex,
    )
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, partial(pass_on, folder))
    try:
        statuses = elastic_launch(plan, worker)(*arguments)
    except SignalException as error:
        raise Stop(error.sigval) from None
    except RendezvousError as error:
        raise UserError(
            f"The {num_nodes} machines did not meet at launcher.rendezvous={rendezvous} within {timeout} seconds; "
            "check that it is host:port of one of them, and that the run was started on every machine."
        ) from error
    except ChildFailedError as error:
        messages = sorted(path for path in folder.iterdir() if path.name.isdigit())
        if messages:
            raise UserError(messages[0].read_text(encoding="utf-8")) from None
        return lost(error)
    return int(max(statuses.values()))


def pass_on(folder: Path, number: int, frame: Any) -> None:
    """Gives a signal to the processes of the run, which save and end; a second Ctrl-C does not wait for that."""
    children = multiprocessing.active_children()
    if not children or (number == signal.SIGINT and number in PASSED):
        raise Stop(number)
    PASSED.add(number)
    (folder / "asked").touch()
    for child in children:
        if child.pid is not None:
            os.kill(child.pid, number)


PASSED: set[int] = set()


def lost(error: Any) -> int:
    """Names the process that ended first. A bug of ours passes through with its traceback."""
    failures = {rank: f for rank, f in error.failures.items() if f.exitcode != LOST}
    rank, failure = min(failures.items(), key=lambda item: item[1].timestamp, default=error.get_first_failure())
    if failure.exitcode >= 0 and failure.exitcode != LOST:
        raise error
    how = f"by signal {-failure.exitcode}" if failure.exitcode < 0 else "without a word"
    print(f"Error: process {rank} was ended {how}, and the others with it.", file=sys.stderr)
    return LOST_RANK


def check_nodes(settings: dict[str, Any]) -> None:
    """Raises UserError for machines that cannot meet, and for a way to start processes that there is not."""
    num_nodes, method = settings.get("num_nodes", 1), settings.get("start_method")
    if num_nodes > 1 and not settings.get("rendezvous"):
        raise UserError(
            f"launcher.num_nodes={num_nodes} needs launcher.rendezvous=host:port, the same on every machine."
        )
    methods = [name for name in multiprocessing.get_all_start_methods() if name != "forkserver"]
    if method is not None and method not in methods:
        raise UserError(f"There is no launcher.start_method={method}; there is: {', '.join(methods)}.")


def check_devices(num_processes: int, gpu: bool) -> None:
    """Raises UserError for more processes than there are GPUs, or than the cores can carry."""
    most = PER_CORE * cores()
    if not gpu and num_processes > most:
        raise UserError(
            f"trainer.devices={num_processes} asks for more processes than {cores()} cores can carry; give at most "
            f"{most}."
        )
    if not gpu:
        return
    import torch

    there = torch.cuda.device_count()
    if num_processes > there:
        raise UserError(f"trainer.devices={num_processes} asks for more GPUs than the {there} of this machine.")
