"""Processes of one machine add up through memory that they share.

The processes are started as a script: a fork of a threaded runner would hang.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zoo.running.neighbours import Neighbours

ROOT = Path(__file__).parent.parent.parent
SCRIPT = """
import json, os, sys, time
import torch
from torch.distributed import init_process_group

rank, world_size, port = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_WORLD_SIZE=str(world_size))
os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=port)
torch.set_num_threads(1)
init_process_group("gloo")
from zoo.running import neighbours as module

sizes = (5, 1000, 7, 70_000)

def of_all(k):
    return [tuple(torch.randn(n, generator=torch.Generator().manual_seed(10 * k + r)).to(kind)
            for n, kind in ((3, torch.float64), (sizes[k], torch.float32))) for r in range(world_size)]

def sums(beside, exact):
    ok = []
    for k in range(len(sizes)):
        parts = of_all(k)
        mine = [t.clone() for t in parts[rank]]
        beside.add_up(*mine)
        for i, tensor in enumerate(mine):
            total = parts[0][i] + parts[1][i]
            for other in parts[2:]:
                total = total + other[i]
            ok.append(torch.equal(tensor, total) if exact else torch.allclose(tensor, total, rtol=1e-5, atol=1e-6))
    return [ok, beside.capacity > 0]

def refuse(*_):
    raise OSError("no space")

said, beside = {}, module.neighbours()
said["sums"] = sums(beside, True)
real, module.os.posix_fallocate = module.os.posix_fallocate, refuse
said["no memory"] = sums(module.neighbours(), False)
module.os.posix_fallocate = real
if rank == 1:
    print(json.dumps(said), flush=True)
    for peer in beside.sockets.values():
        peer.recv(1)  # once they wait for its own byte
    os._exit(0)
started = time.monotonic()
try:
    for k in range(len(sizes)):
        beside.add_up(*(t.clone() for t in of_all(k)[rank]))
except RuntimeError as error:
    said["lost"] = [str(error), time.monotonic() - started]
print(json.dumps(said), flush=True)
os._exit(0)
"""
WORLD_SIZE = 3


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def said() -> list[dict[str, list]]:
    """What each of three processes says: of sums, of sums without shared memory, and of the loss of process 1."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    port = free_port()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), str(WORLD_SIZE), str(port)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for rank in range(WORLD_SIZE)
    ]  # fmt: skip
    found = [process.communicate(timeout=120) for process in running]
    assert all(process.returncode == 0 for process in running), found
    return [json.loads(out) for out, _ in found]


BEGAN = time.time()


def test_every_process_gets_the_sum_in_the_order_of_ranks(said):
    """To the bit, for several tensors in one message and for messages that grow; and no file is left in memory."""
    assert [one["sums"] for one in said] == [[[True] * 8, True]] * WORLD_SIZE
    assert not [path for path in Path("/dev/shm").glob("zoo-*") if path.stat().st_mtime >= BEGAN]


def test_without_memory_the_sums_go_through_gloo(said):
    assert [one["no memory"] for one in said] == [[[True] * 8, False]] * WORLD_SIZE


def test_a_lost_neighbour_is_said_at_once(said):
    """Not waited for: the launcher has to end the others, or to begin again."""
    assert "lost" not in said[1]
    for one in (said[0], said[2]):
        text, seconds = one["lost"]
        assert text == "Connection closed by peer: process 1"
        assert seconds < 20


@pytest.fixture
def pair(monkeypatch):
    """A process whose only neighbour is at the other end of a socket."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    here, there = socket.socketpair()
    yield Neighbours({1: here}), there
    here.close()
    there.close()


def test_a_neighbour_that_is_lost_is_told_whether_bytes_are_sent_or_awaited(pair):
    """The first is a broken pipe and the second an end of file; whoever ends the run knows one of them."""
    neighbours, there = pair
    there.sendall(b".")
    neighbours.meet()
    there.close()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="Connection closed by peer: process 1"):
            neighbours.meet()
