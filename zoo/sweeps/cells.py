"""The processes of a sweep: each cell is one, forked after the heavy imports were done once, or started afresh.

The parent imports and does no tensor work, so a fork is safe. Every cell leads a process group of its own: Ctrl-C
reaches the parent alone, which passes it on once.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from zoo.running.peers import cores

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))

# One asks Hydra for tracebacks; with the other a run asks SLURM to queue the job again, which the sweep does itself.
NOT_A_CELLS = ("HYDRA_FULL_ERROR", "SLURM_JOB_ID")


def share_cores(jobs: int) -> int:
    """Leaves each of `jobs` cells its part of the cores; call it before torch is imported."""
    share = max(1, cores() // jobs)
    if jobs > 1:
        asked = os.environ.get("OMP_NUM_THREADS", "")
        os.environ["OMP_NUM_THREADS"] = str(min(share, int(asked)) if asked.isdigit() and int(asked) else share)
    return share


class Signals:
    """While open, signals that ask to stop are passed on to the cells; `asked` is the first of them."""

    def __init__(self) -> None:
        self.asked: int | None = None
        self.cells: list[Cell] = []
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # started in the background, or by nohup
                self.before[number] = signal.signal(number, self.heard)
        return self

    def __exit__(self, *exception: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def heard(self, number: int, frame: FrameType | None) -> None:
        self.asked = self.asked or number
        for cell in self.cells:
            cell.send(signal.SIGTERM if number == getattr(signal, "SIGHUP", None) else number)

    @contextlib.contextmanager
    def blocked(self) -> Iterator[None]:
        """No signal arrives between a cell's start and the moment it is known."""
        old = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS) if hasattr(signal, "pthread_sigmask") else None
        try:
            yield
        finally:
            if old is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, old)


class Tee:
    """Writes to a stream and into a file."""

    def __init__(self, stream: TextIO, file: Any) -> None:
        self.stream, self.file = stream, file

    def write(self, text: str) -> int:
        os.write(self.file.fileno(), text.encode(errors="replace"))
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Cell:
    """A running cell. With `quiet` nothing of it reaches the console; it has its run.log.

    Args:
        arguments: of train.py.
        run_cell: runs train.py with these arguments in this process and returns its status; None starts a new one.
        quiet: other cells run beside it.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        run_cell: Callable[[list[str]], int] | None,
        signals: Signals,
        *,
        quiet: bool,
    ) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - read when the process has ended
        self.process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.status: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        with signals.blocked():
            if run_cell is None:
                self.start(arguments, quiet)
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # of threads: torch's are not started yet
                    self.pid = os.fork()
                if self.pid == 0:
                    self.child(list(arguments), run_cell, signals, quiet)
            signals.cells.append(self)

    def start(self, arguments: Sequence[str], quiet: bool) -> None:
        command = [sys.executable, str(Path(__file__).parent.parent.parent / "train.py"), *arguments]
        environment = {key: value for key, value in os.environ.items() if key not in NOT_A_CELLS}
        options: dict[str, Any] = {"stdout": subprocess.DEVNULL if quiet else None, "env": environment}
        options["stderr"] = None if not quiet and sys.stderr.isatty() else self.errors
        if os.name == "posix":
            # Signals are blocked here, and what is blocked stays so across exec.
            options |= {"process_group": 0, "preexec_fn": unblock}
        self.process = subprocess.Popen(command, **options)
        self.pid = self.process.pid

    def child(self, arguments: list[str], run_cell: Callable[[list[str]], int], signals: Signals, quiet: bool) -> None:
        """The forked process; it never returns."""
        status = 1
        try:
            os.setpgid(0, 0)
            signals.__exit__()
            unblock()
            os.environ.pop("SLURM_JOB_ID", None)
            if quiet:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os.dup2(self.errors.fileno(), 2)
            else:
                sys.stderr = Tee(sys.stderr, self.errors)
            status = run_cell(arguments)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(status)

    def send(self, number: int) -> None:
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def poll(self) -> int | None:
        """The exit status, negative for a signal, or None while it runs."""
        if self.status is None and self.process is not None:
            self.status = self.process.poll()
        elif self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status

    def said(self) -> str:
        """What it wrote to stderr."""
        self.errors.seek(0)
        text = self.errors.read().decode(errors="replace")
        self.errors.close()
        return text


def unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
