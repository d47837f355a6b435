"""Sums over the processes of one machine's CPUs, through memory that all of them see.

gloo hands every message to threads of its own; on a few cores they wait to be woken for longer than a small network
computes. Here each process writes its numbers into a place of its own, gives each neighbour a byte through a socket,
and adds up the places of all, in the order of their ranks: every process gets the same bits.

A neighbour that is lost closes its sockets, which is seen at once.
"""

import os
import select
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.running.peers import PATIENCE, cores, place

SPIN = 0.002  # seconds that a process looks for a byte before it sleeps; being woken takes about a tenth of that
ALIGNED = 64  # bytes: where each tensor begins
MOST_PROCESSES = 16  # each is connected to each


class Neighbours:
    """The processes of a run that all run on this machine.

    Args:
        sockets: one to each of the others, by rank.
    """

    def __init__(self, sockets: dict[int, socket.socket]) -> None:
        self.rank, self.world_size = place()
        self.sockets = sockets
        self.spin = SPIN if self.world_size <= cores() else 0.0
        self.turn, self.capacity = 0, 0
        self.halves: Any = None  # (2, processes, bytes) uint8: one half is written while the other may still be read

    def add_up(self, *tensors: Tensor) -> None:
        """Replaces each tensor by its sum over the processes, all of which call this with tensors of the same sizes.

        Raises:
            RuntimeError: a neighbour is lost.
        """
        starts, end = [], 0
        for tensor in tensors:
            starts.append(end)
            end += -(-tensor.numel() * tensor.element_size() // ALIGNED) * ALIGNED
        if end > self.capacity and not self.reserve(end):
            for tensor in tensors:  # no memory to be had, or little: a container's /dev/shm has 64 MiB
                torch.distributed.all_reduce(tensor)
            return
        places = self.halves[self.turn % 2]  # (processes, bytes)
        self.turn += 1
        views = []
        for tensor, start in zip(tensors, starts, strict=True):
            size = tensor.numel() * tensor.element_size()
            views.append(places[:, start : start + size].view(tensor.dtype))  # (processes, numbers)
            views[-1][self.rank].copy_(tensor.view(-1))
        self.meet()
        for tensor, view in zip(tensors, views, strict=True):
            total = torch.add(view[0], view[1], out=tensor.view(-1))
            for other in view[2:]:
                total.add_(other)

    def meet(self) -> None:
        """Returns once every process has called this."""
        for rank, peer in self.sockets.items():
            try:
                peer.sendall(b".")
            except ConnectionError:
                raise RuntimeError(f"Connection closed by peer: process {rank}") from None
        for rank, peer in self.sockets.items():
            self.hear(rank, peer)

    def hear(self, rank: int, peer: socket.socket) -> None:
        """Takes the byte that a neighbour sends."""
        deadline = time.monotonic() + self.spin
        while True:
            try:
                if not peer.recv(1, socket.MSG_DONTWAIT):
                    break
                return
            except BlockingIOError:
                if time.monotonic() > deadline and not select.select([peer], [], [], PATIENCE)[0]:
                    raise RuntimeError(f"gloo: process {rank} has not answered for {PATIENCE} seconds") from None
            except ConnectionError:
                break
        raise RuntimeError(f"Connection closed by peer: process {rank}")

    def reserve(self, num_bytes: int) -> bool:
        """Memory for `num_bytes` of each process, which all of them map; False where there is not so much."""
        size = 2 * self.world_size * num_bytes
        name: list[Any] = [None]
        if self.rank == 0:
            name = [shared_file(size)]
        torch.distributed.broadcast_object_list(name)
        if name[0] is None:
            return False
        memory = torch.from_file(name[0], shared=True, size=size, dtype=torch.uint8)
        self.halves, self.capacity = memory.view(2, self.world_size, num_bytes), num_bytes
        torch.distributed.barrier()
        if self.rank == 0:
            Path(name[0]).unlink()  # it lives as long as it is in use
        return True


def shared_file(size: int) -> str | None:
    """A file in memory of that many bytes, all of them taken now: to run out of it later would be fatal."""
    folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
    try:
        handle, name = tempfile.mkstemp(prefix="zoo-", dir=folder)
    except OSError:
        return None
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError:
        Path(name).unlink()
        return None
    finally:
        os.close(handle)
    return name


def neighbours() -> Neighbours | None:
    """The processes of this run, or None where they are on several machines, too many, or alone.

    Every process must call it.
    """
    rank, world_size = place()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 0))
    if not 1 < world_size <= MOST_PROCESSES or local != world_size or not hasattr(os, "posix_fallocate"):
        return None
    folder: list[Any] = [tempfile.mkdtemp(prefix="zoo-") if rank == 0 else None]
    torch.distributed.broadcast_object_list(folder)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{folder[0]}/{rank}")
    listener.listen(world_size)
    torch.distributed.barrier()
    found: dict[int, socket.socket] = {}
    for other in range(rank):
        found[other] = socket.socket(socket.AF_UNIX)
        found[other].connect(f"{folder[0]}/{other}")
        found[other].sendall(bytes([rank]))
    while len(found) < world_size - 1:
        peer, _ = listener.accept()
        found[peer.recv(1)[0]] = peer
    listener.close()
    torch.distributed.barrier()
    if rank == 0:
        shutil.rmtree(folder[0], ignore_errors=True)
    return Neighbours(dict(sorted(found.items())))
