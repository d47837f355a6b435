"""Commands as they are typed, each in a fork of one process that has imported torch and Lightning already.

A command spends most of a short test on its imports. Here one process makes them and waits for orders, a line of json
each. `{"words": [...], "cwd": ..., "env": ..., "session": ..., "out": ..., "err": ...}` forks a child that goes to the
folder, writes to the files `out` and `err`, and runs the script as Python runs it; the answer is its number.
`{"ask": number}` is answered with its exit status, or null where it is still running.
Nothing but imports is shared: no thread has begun, no random number was drawn, no folder was looked at.
"""

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Started:
    """A command that runs, with what tests use of `subprocess.Popen`; both outputs are there once it has ended."""

    def __init__(self, warm: "Warm", words: Sequence[str], pid: int, folder: tempfile.TemporaryDirectory) -> None:
        self.warm, self.args, self.pid, self.folder = warm, words, pid, folder
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.warm.answer(ask=self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(0.02)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        with self.folder as folder:
            out, err = (Path(folder, name).read_text("utf-8") for name in ("out", "err"))
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Warm:
    """Runs commands `python <script> <words>`; `close` ends it."""

    def __init__(self) -> None:
        words = [sys.executable, "-u", __file__]
        self.server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(self, **order: Any) -> Any:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        print(json.dumps(order), file=self.server.stdin, flush=True)
        return json.loads(self.server.stdout.readline())

    def start(
        self,
        words: Sequence[str | Path],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        start_new_session: bool = False,
    ) -> Started:
        """As `subprocess.Popen` with pipes for both outputs; Ctrl-C is heard, whatever the runner does with it."""
        folder, listed = tempfile.TemporaryDirectory(), [str(word) for word in words]
        pid = self.answer(
            words=listed[1:], cwd=str(cwd or Path.cwd()), env=dict(os.environ if env is None else env),
            session=start_new_session, out=f"{folder.name}/out", err=f"{folder.name}/err",
        )  # fmt: skip
        return Started(self, listed, pid, folder)

    def run(
        self, words: Sequence[str | Path], *, timeout: float | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run(words, capture_output=True, text=True)`, without input; options as for `start`."""
        started = self.start(words, **options)
        try:
            out, err = started.communicate(timeout)
        finally:
            started.kill()
        return subprocess.CompletedProcess(words, started.wait(), out, err)

    def close(self) -> None:
        with self.server:  # which closes its pipes and waits for it
            pass


def child(order: dict[str, Any]) -> None:
    """Does what is ordered and ends the process with its exit status."""
    if order["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(order["env"])
    for number, name in ((0, os.devnull), (1, str(order["out"])), (2, str(order["err"]))):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(name, flags, 0o600), number)
    os.chdir(str(order["cwd"]))
    sys.argv = list(order["words"])
    sys.path[0] = str(Path(sys.argv[0]).parent)
    status: object = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        status = end.code
    except Exception:
        traceback.print_exc()
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def serve() -> None:
    """Imports what the commands import, then takes orders until its input ends."""
    sys.path.insert(1, str(Path(__file__).parents[2]))
    import lightning.pytorch  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import torch.utils.tensorboard  # noqa: F401
    import torchvision  # noqa: F401

    statuses: dict[int, int] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if "ask" in order:
            number = order["ask"]
            if number not in statuses:
                found, status = os.waitpid(number, os.WNOHANG)
                statuses |= {number: os.waitstatus_to_exitcode(status)} if found else {}
            print(json.dumps(statuses.get(number)), flush=True)
            continue
        number = os.fork()
        if number == 0:
            child(order)
        print(number, flush=True)


if __name__ == "__main__":
    serve()
