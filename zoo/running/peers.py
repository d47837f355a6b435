"""The processes of one run as each of them sees the others: who it is among them, and how they meet and agree.

Torch's own names tell it, RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, whoever started the processes.
"""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from zoo.errors import UserError

PATIENCE = 1800  # seconds that one process waits for another that is busy
CAN_FORK = sys.platform == "linux"  # macOS forks, too, but its frameworks do not survive it
SHARED: dict[str, Any] = {}  # the store of this process, once it is reached
num_jobs = 0  # runs that this process has begun


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def accelerator_for(number: int, asked: str) -> str:
    """What `auto` means for `number` processes on this machine: a GPU for each if there are so many, else the CPU."""
    if asked != "auto":
        return asked
    import torch

    return "gpu" if torch.cuda.is_available() and torch.cuda.device_count() >= number else "cpu"


def started_by_others() -> bool:
    """Whether torchrun or srun started this process, with others beside it; srun's names are turned into torch's."""
    env = os.environ
    if "RANK" not in env and int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in env:
        env["RANK"], env["WORLD_SIZE"] = env["SLURM_PROCID"], env["SLURM_STEP_NUM_TASKS"]
        env["LOCAL_RANK"] = env["SLURM_LOCALID"]
        env["LOCAL_WORLD_SIZE"] = env["SLURM_STEP_TASKS_PER_NODE"].split("(")[0].split(",")[0]
        nodes = env.get("SLURM_STEP_NODELIST", "localhost")
        if "MASTER_ADDR" not in env:
            env["MASTER_ADDR"] = first_host(nodes)
        env.setdefault("MASTER_PORT", str(20_000 + int(env["SLURM_JOB_ID"]) % 20_000))
    return "RANK" in env and int(env.get("WORLD_SIZE", 1)) > 1


def first_host(nodes: str) -> str:
    """The first machine of a SLURM list, for instance node01 of node[01-04]."""
    try:
        asked = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=False)
        names = asked.stdout.split()
    except OSError:  # in a container, say
        names = []
    if names or "[" not in nodes:
        return names[0] if names else nodes
    raise UserError(f"The first machine of {nodes} is not known here; set MASTER_ADDR to its name.")


def place() -> tuple[int, int]:
    """(rank, number of processes) of this process."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def restarts() -> int:
    """How often torch's agent has started this process again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def begin_job() -> None:
    """Counts the runs of this process: what one of them has said is not said for the next."""
    global num_jobs
    num_jobs += 1


def store(timeout: float) -> Any:
    """The key-value store that the processes of this run share.

    Raises:
        UserError: it cannot be reached.
    """
    from torch.distributed import TCPStore

    if SHARED:
        return SHARED["store"]
    rank, world_size = place()
    address, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def connect() -> None:
        limit = timedelta(seconds=timeout)
        try:
            found.put(TCPStore(address, int(port), world_size, serves, limit, wait_for_workers=False))
        except Exception as error:
            found.put(error)

    try:
        # In a thread: torch would wait forever for another program that listens there and says nothing.
        threading.Thread(target=connect, daemon=True).start()
        answer = found.get(timeout=timeout + 5)
        if isinstance(answer, Exception):
            raise answer
        SHARED["store"] = answer
        return answer
    except (RuntimeError, ValueError, queue.Empty) as error:  # torch's own network errors are RuntimeErrors
        if "EADDRINUSE" in str(error) or "already in use" in str(error):
            raise UserError(f"Port {port} is taken by another program; give another MASTER_PORT.") from error
        raise UserError(
            f"The first process cannot be reached at {address}:{port} within {timeout:g} seconds; check that it runs, "
            "the address, and the firewall between."
        ) from error


def join(gpu: bool, timeout: float) -> None:
    """Joins the other processes of the run. Lightning finds the group there and uses it."""
    import torch
    from torch.distributed import PrefixStore

    rank, world_size = place()
    if world_size == 1 or torch.distributed.is_initialized():
        return
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Addresses of an attempt that failed stay in the store; a name of its own keeps each attempt from meeting them.
    shared = PrefixStore(f"attempt_{restarts()}", store(timeout))
    shared.add("here", 1)
    deadline = time.monotonic() + timeout
    while shared.add("here", 0) < world_size:
        if time.monotonic() > deadline:
            here = shared.add("here", 0)
            raise UserError(f"Only {here} of {world_size} processes came within launcher.timeout={timeout:g} seconds.")
        time.sleep(0.01)
    # From here on a lost process is seen at once; a slow one, that downloads or writes, is waited for.
    patience = timedelta(seconds=max(timeout, PATIENCE))
    torch.distributed.init_process_group(
        "nccl" if gpu else "gloo", store=shared, rank=rank, world_size=world_size, timeout=patience
    )


def agreed(key: str, value: str, timeout: float) -> str:
    """`value` as the first process has it, the same in all processes and after each restart."""
    rank, _ = place()
    shared = store(timeout)
    if rank == 0 and not shared.check([key]):
        shared.set(key, value)
    return str(shared.get(key).decode())


def met(name: str, seconds: float) -> int:
    """Waits until every process has called this with `name`, for `seconds` at most; returns how many came before.

    Raises:
        UserError or RuntimeError: the others are gone.
    """
    shared, key = store(max(seconds, 5)), f"{name}_{restarts()}_{num_jobs}"
    before = int(shared.add(key, 1)) - 1
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and int(shared.add(key, 0)) < place()[1]:
        time.sleep(0.02)
    return before


def first_to_say() -> bool:
    """Whether this process is the one to tell the user of an error that the others may have met as well."""
    if not started_by_others():
        return True
    reached = bool(SHARED)
    serves = place()[0] == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        return met("said", 3 if serves else 0) == 0  # who serves the others stays until they have asked
    except (RuntimeError, UserError):
        return not reached  # else the first process has ended, with a word of its own


@contextmanager
def first_process_first() -> Iterator[None]:
    """One process of each machine goes before the others, to download or unpack what all of them need."""
    import torch

    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0
    if several and not first:
        torch.distributed.barrier()
    yield
    if several and first:
        torch.distributed.barrier()
