"""Sees what a run does, from inside its process, and kills it at a given moment; for kills.py.

The moments are: "step begins", "forward", "update" and "updated" (around the optimizer's step), "batch ends" (before
a checkpoint may be written), "step ended"; "validation begins" and "ended"; "epoch complete" (before the checkpoint at
an epoch's end), "epoch ended"; "write last" and "write best" (after a number of bytes), "last is written" and "best is
written"; "test begins" and "ended".
"""

import dataclasses
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.launch import end_with_parent

SECONDS = 300  # a run that takes longer hangs


@dataclasses.dataclass(frozen=True)
class Kill:
    """`what` happens in iteration `iteration`; of a write, after `byte` bytes."""

    what: str
    iteration: int
    byte: int = 0


class Witness:
    """In a forked process: notes in a file what happens, which survives the kill, and kills at the given moment."""

    def __init__(self, path: Path, kill: Kill | None) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.kill, self.iteration = kill, 0

    def note(self, *entry: Any) -> None:
        os.write(self.file, (json.dumps(entry) + "\n").encode())

    def reached(self, what: str) -> None:
        self.note("moment", what, self.iteration)
        if self.kill is not None and (self.kill.what, self.kill.iteration) == (what, self.iteration):
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str, before: Any = None, after: Any = None) -> None:
        """Wraps a method; `before` and `after` name a moment or are called with its arguments."""
        original = getattr(owner, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.tell(before, arguments)
            result = original(*arguments, **options)
            self.tell(after, arguments)
            return result

        setattr(owner, name, wrapped)

    def tell(self, what: Any, arguments: tuple[Any, ...]) -> None:
        if callable(what):
            what(*arguments)
        elif what:
            self.reached(what)

    def watch(self) -> None:
        """Puts itself around what a run does."""
        import torch
        from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
        from lightning.pytorch.strategies import Strategy
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        from zoo.callbacks.checkpointing import AtomicCheckpointIO, RunCheckpoint
        from zoo.running.loop import LeanEpochLoop, RunLoop

        self.around(LeanEpochLoop, "advance", self.begin_step, self.end_step)
        self.around(Strategy, "training_step", "forward")
        register_optimizer_step_pre_hook(lambda *_: self.reached("update"))
        register_optimizer_step_post_hook(lambda *_: self.reached("updated"))
        self.around(RunCheckpoint, "on_train_batch_end", "batch ends")
        self.around(_EvaluationLoop, "run", self.evaluates("begins"), self.evaluates("ended"))
        self.around(RunLoop, "on_advance_end", None, "epoch ended")
        self.around(RunCheckpoint, "on_epoch_complete", "epoch complete")
        self.around(AtomicCheckpointIO, "save_checkpoint", None, self.end_write)
        self.torch_save, torch.save = torch.save, self.save

    def begin_step(self, loop: Any, *_: Any) -> None:
        self.iteration = loop.batch_progress.total.ready + 1
        self.reached("step begins")

    def end_step(self, *_: Any) -> None:
        self.note("step", self.iteration)
        self.reached("step ended")

    def evaluates(self, what: str) -> Callable[[Any], None]:
        return lambda loop: self.reached(f"{'test' if loop.trainer.testing else 'validation'} {what}")

    def save(self, checkpoint: Any, file: Any) -> None:
        what = written_name(file.name)
        fatal = self.kill is not None and (self.kill.what, self.kill.iteration) == (f"write {what}", self.iteration)
        self.torch_save(checkpoint, Fatal(file, self.kill.byte) if fatal and self.kill is not None else file)
        file.flush()
        self.note("moment", f"write {what}", self.iteration, file.tell())
        if fatal:  # all bytes are written, and the name is not given yet
            os.kill(os.getpid(), signal.SIGKILL)

    def end_write(self, _: Any, checkpoint: dict[str, Any], path: Any, *options: Any) -> None:
        what = written_name(path)
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        self.note("written", what, progress["total"]["ready"])
        self.reached(f"{what} is written")


def written_name(path: Any) -> str:
    """last or best, of a checkpoint or of the file beside it that it is written to."""
    return Path(path).name.strip(".").split(".")[0]


class Fatal:
    """A file that takes so many bytes and then ends the process that writes them."""

    def __init__(self, file: Any, most: int) -> None:
        self.file, self.left = file, most

    def write(self, data: Any) -> int:
        if len(data) > self.left:
            self.file.write(bytes(data)[: self.left])
            self.file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= len(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


class Log:
    """What a `Witness` has noted.

    Attributes:
        moments: (what, iteration, bytes of a write) in their order, up to the end of the run.
        first: how many of them lie before the first checkpoint.
        checkpoints: the iterations of last.ckpt, in the order of writing.
        steps: the iterations whose step was executed to its end.
        epoch_ends: the last iteration of each epoch.
    """

    def __init__(self, path: Path) -> None:
        entries = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        self.moments = [(e[1], e[2], e[3] if len(e) > 3 else 0) for e in entries if e[0] == "moment"]
        self.first = next((i for i, m in enumerate(self.moments) if m[0] == "last is written"), len(self.moments))
        self.checkpoints = [e[2] for e in entries if e[:2] == ["written", "last"]]
        self.steps = [e[1] for e in entries if e[0] == "step"]
        self.epoch_ends = {m[1] for m in self.moments if m[0] == "epoch complete"}
        newest = 0
        self.newest: list[int] = []  # the checkpoint that a run killed at each moment has
        for what, iteration, _ in self.moments:
            newest = iteration if what == "last is written" else newest
            self.newest.append(newest)


def forked(start: Callable[[], Any], out: Path) -> int:
    """Runs a function in a forked process; its exit status, negative for a signal."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 1
    try:
        end_with_parent()
        signal.alarm(SECONDS)
        file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        start()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def answer(question: Callable[[], Any], path: Path) -> Any:
    """What a function returns that is run in a forked process: this one does no tensor work."""
    path.unlink(missing_ok=True)
    out = path.with_suffix(".out")
    if forked(lambda: path.write_text(json.dumps(question())), out):
        raise RuntimeError(out.read_text(errors="replace"))
    return json.loads(path.read_text())
