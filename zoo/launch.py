"""The only place that starts processes: one, several on this machine, or those that torchrun has started."""

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.errors import UserError

LOST_RANK = 3


def reporting(job: Callable[[dict[str, Any]], int], config: dict[str, Any], folder: str) -> int:
    """`job(config)`; what a user can mend is left in `folder`, since an exception does not cross processes."""
    try:
        return job(config)
    except UserError as error:
        (Path(folder) / os.environ["RANK"]).write_text(str(error), encoding="utf-8")
        sys.exit(2)


def launch(job: Callable[[dict[str, Any]], int], config: dict[str, Any], num_processes: int, *, gpu: bool) -> int:
    """Runs `job(config)` in as many processes as there are devices, and returns the exit status of the first.

    Args:
        job: a function of a module's top level; it sees RANK and WORLD_SIZE in its environment.
        config: plain containers, the same for all processes.
        num_processes: processes on this machine.
        gpu: each process will use a GPU of its own.
    """
    if num_processes <= 1 or "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_NTASKS" in os.environ:
        return job(config)
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they report is raised as well

    # The parent has done no tensor work yet, so a fork is safe and needs no second import; CUDA does not survive it.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes)))
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        start_method="spawn" if gpu else "fork",
        max_restarts=0,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=uuid.uuid4().hex,
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            statuses = elastic_launch(settings, reporting)(job, config, folder)
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise
        except ChildFailedError as error:
            messages = sorted(Path(folder).iterdir())
            if messages:
                raise UserError(messages[0].read_text(encoding="utf-8")) from None
            rank, failure = error.get_first_failure()
            if failure.exitcode >= 0:
                raise  # a bug of ours, with its traceback
            print(f"Error: process {rank} was ended by signal {-failure.exitcode}; the last checkpoint is kept.",
                  file=sys.stderr)  # fmt: skip
            return LOST_RANK
    return int(statuses[0])
