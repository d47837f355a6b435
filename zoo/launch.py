"""The only place that starts processes: one, several on this machine, or those that torchrun has started."""

import os
import uuid
from collections.abc import Callable
from typing import Any


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
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

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
    statuses = elastic_launch(settings, job)(config)
    return int(statuses[0])
