"""Commands as they are typed, each in a fork of one process that has imported torch and Lightning already.

A command spends most of a short test on its imports. Here one process makes them and waits for orders, a line of json
each: {"words": [...], "cwd": "...", "out": "...", "err": "..."}. For each it forks a child that goes to the folder,
writes to the files `out` and `err`, and runs the script as Python runs it; then it answers with the exit status.
Nothing but imports is shared: no thread has begun, no random number was drawn, no folder was looked at.
"""

import atexit
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path


class Warm:
    """Runs commands `python <script> <words>`; `close` ends it."""

    def __init__(self) -> None:
        words = [sys.executable, "-u", __file__]
        self.server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, words: Sequence[str | Path], *, cwd: str | Path) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run(words, cwd=cwd, capture_output=True, text=True)`, without input."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            order = {"words": [str(word) for word in words[1:]], "cwd": str(cwd), "out": str(out), "err": str(err)}
            print(json.dumps(order), file=self.server.stdin, flush=True)
            status = int(self.server.stdout.readline())
            return subprocess.CompletedProcess(words, status, out.read_text("utf-8"), err.read_text("utf-8"))

    def close(self) -> None:
        with self.server:  # which closes its pipes and waits for it
            pass


def child(order: dict[str, str | list[str]]) -> None:
    """Does what is ordered and ends the process with its exit status."""
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

    for line in sys.stdin:
        number = os.fork()
        if number == 0:
            child(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
