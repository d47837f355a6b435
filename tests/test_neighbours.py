"""Processes of one machine add up through memory that they share.

The processes are started as a script: a fork of a threaded runner would hang.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = """
import json, os, sys, time
import torch
from torch.distributed import TCPStore, init_process_group

rank, world_size, port, case = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_WORLD_SIZE=str(world_size))
os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=port)
torch.set_num_threads(1)
init_process_group("gloo")
from zoo import neighbours as module

if case == "no memory":
    def refuse(*_):
        raise OSError("no space")
    module.os.posix_fallocate = refuse
beside = module.neighbours()
others = [tuple(torch.randn(n, generator=torch.Generator().manual_seed(10 * k + r)).to(kind)
          for n, kind in ((3, torch.float64), (n, torch.float32)))
          for k, n in enumerate((5, 1000, 7, 70_000)) for r in range(world_size)]
ok = []
for k in range(4):
    of_all = others[k * world_size : (k + 1) * world_size]
    mine = [t.clone() for t in of_all[rank]]
    if case == "lost" and k == 2:
        if rank == 1:
            os._exit(0)
        started = time.monotonic()
        try:
            beside.add_up(*mine)
        except RuntimeError as error:
            print(json.dumps([str(error), time.monotonic() - started]))
            os._exit(0)
    beside.add_up(*mine)
    for i, tensor in enumerate(mine):
        total = of_all[0][i] + of_all[1][i]
        for other in of_all[2:]:
            total = total + other[i]
        exact = case != "no memory"
        ok.append(torch.equal(tensor, total) if exact else torch.allclose(tensor, total, rtol=1e-5, atol=1e-6))
print(json.dumps([ok, beside.capacity > 0]))
"""


def together(world_size: int, case: str, free_port: int) -> list[list]:
    """What each process printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), str(world_size), str(free_port), case],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for rank in range(world_size)
    ]  # fmt: skip
    said = [process.communicate(timeout=120) for process in running]
    assert all(process.returncode == 0 for process in running), said
    return [json.loads(out) if out else [] for out, _ in said]


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def test_every_process_gets_the_sum_in_the_order_of_ranks(free_port):
    """To the bit, for several tensors in one message and for messages that grow; and no file is left in memory."""
    began = time.time()
    assert together(3, "sums", free_port) == [[[True] * 8, True]] * 3
    assert not [path for path in Path("/dev/shm").glob("zoo-*") if path.stat().st_mtime >= began]


def test_without_memory_the_sums_go_through_gloo(free_port):
    assert together(2, "no memory", free_port) == [[[True] * 8, False]] * 2


def test_a_lost_neighbour_is_said_at_once(free_port):
    """Not waited for: the launcher has to end the others, or to begin again."""
    (text, seconds), _ = together(2, "lost", free_port)
    assert text == "Connection closed by peer: process 1"
    assert seconds < 20
