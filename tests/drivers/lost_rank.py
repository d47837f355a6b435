"""Kills a process of a run, again and again, and looks at how the run ends.

python tests/drivers/lost_rank.py tries=10 out=lost_rank.json

A first run of several processes is left alone. Then, in each try, a drawn process is killed (SIGKILL) at a drawn
iteration, at a drawn place of that step, while a checkpoint is written after it, or in the test:

with `launcher.max_restarts=3` the run must end with status 0, after one restart, from the newest checkpoint there could
be, and with the bits of the run that was left alone: weights, optimizer, every metric;
without restarts it must end within `seconds=` with status 3, one `Error:` line that names the process, and as its last
line the command to go on, which, typed, must end with the same bits.

No process of a run may be left when it has ended. Prints JSON, a row for each try; ends with status 1 where one fails.
"""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from zoo.callbacks.curves import iterations_done
from zoo.config.commandline import guarded, script_arguments
from zoo.running.peers import place, restarts

ROOT = Path(__file__).resolve().parent.parent.parent
KEYS = {
    "tries": "of each kind (10)",
    "kinds": "restart,stop: with restarts, and without (restart,stop)",
    "model": "a name of configs/model (mlp)",
    "processes": "of each run (2)",
    "epochs": "of each run (6)",
    "every": "iterations between checkpoints (10)",
    "seconds": "within which a run without restarts must end once a process is lost (10)",
    "limit": "seconds after which a run counts as hung (120)",
    "seed": "of what is drawn (0)",
    "also": "more arguments of train.py, with spaces between (model.dropout=0.2, where the model is mlp)",
    "folder": "where the runs are written (a temporary folder)",
    "out": "a file for the JSON",
}
PLACES = ("on_train_batch_start", "on_after_backward", "on_before_optimizer_step", "on_train_batch_end")
WRITING, TESTING = "on_save_checkpoint", "on_test_batch_end"
MARK = "ZOO_TESTS_LOST_RANK"  # in the environment of all processes of a try


class Kill(Callback):
    """Kills its process once, with nothing said; `folder` remembers that, and the number of each restart."""

    lean = True

    def __init__(self, folder: str, rank: int, iteration: int, where: str) -> None:
        self.folder, self.rank, self.iteration, self.where = Path(folder), rank, iteration, where

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if trainer.is_global_zero and stage == "fit":
            with (self.folder / "attempts").open("a") as file:
                file.write(json.dumps(restarts()) + "\n")

    def on_train_batch_start(self, trainer: Any, *arguments: Any) -> None:
        self.perhaps(trainer, "on_train_batch_start")

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.perhaps(trainer, "on_after_backward")

    def on_before_optimizer_step(self, trainer: Any, *arguments: Any) -> None:
        self.perhaps(trainer, "on_before_optimizer_step")

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        self.perhaps(trainer, "on_train_batch_end")

    def on_save_checkpoint(self, trainer: Any, *arguments: Any) -> None:
        self.perhaps(trainer, WRITING)

    def on_test_batch_end(self, trainer: Any, *arguments: Any) -> None:
        self.perhaps(trainer, TESTING)

    def perhaps(self, trainer: Any, where: str) -> None:
        if (place()[0], iterations_done(trainer), where) != (self.rank, self.iteration, self.where):
            return
        try:
            with (self.folder / "killed").open("x") as file:
                file.write(repr(time.time()))
        except FileExistsError:  # in an earlier attempt
            return
        os.kill(os.getpid(), signal.SIGKILL)


def draw(generator: random.Random, processes: int, steps: int, every: int) -> dict[str, Any]:
    """Which process, when and where, after the first checkpoint; now and then while one is written, or in the test."""
    rank, chance = generator.randrange(processes), generator.random()
    if chance < 0.1:
        return {"rank": rank, "iteration": steps, "where": TESTING}
    if chance < 0.3:
        return {"rank": rank, "iteration": every * generator.randint(2, steps // every), "where": WRITING}
    return {"rank": rank, "iteration": generator.randint(every + 1, steps), "where": generator.choice(PLACES)}


def expected_start(drawn: dict[str, Any], every: int) -> int:
    """The iteration of the newest checkpoint when the process was killed: after every `every`, and when all is done."""
    return drawn["iteration"] if drawn["where"] == TESTING else (drawn["iteration"] - 1) // every * every


def left_over(mark: str) -> list[int]:
    """Processes of a try that are still there, whatever group or session they are in."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            alive = (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            if alive and f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # it has ended since, or is somebody else's
            continue
    return found


def execute(command: list[str], folder: Path, limit: float) -> dict[str, Any]:
    """Runs a command; status None where it had to be stopped at the limit."""
    mark = uuid.uuid4().hex
    paths = [str(ROOT / "tests" / "drivers"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), MARK: mark}
    started = time.monotonic()
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:  # a pipe would wait for every orphan
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err, start_new_session=True)
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
    ended, seconds = time.time(), time.monotonic() - started
    left = left_over(mark)
    for number in left:
        os.kill(number, signal.SIGKILL)
    process.wait()
    lines = {name: (folder / name).read_text().splitlines() for name in ("out", "err")}
    return {"status": status, "seconds": round(seconds, 1), "ended": ended, "left_over": len(left), **lines}


def train(folder: Path, limit: float, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "train.py"), "trainer.accelerator=cpu", "trainer.num_threads=1"]
    return execute([*command, *arguments, f"run_dir={folder / 'run'}"], folder, limit)


def result_of(folder: Path, name: str = "run") -> dict[str, Any]:
    """What must not depend on a lost process: all tensors of both checkpoints, and the metrics."""
    from zoo.checkpoint import read

    kept = {}
    for file in ("last.ckpt", "best.ckpt"):
        checkpoint = read(folder / name / "checkpoints" / file)
        kept[file] = {key: checkpoint[key] for key in ("state_dict", "optimizer_states", "lr_schedulers")}
    metrics = json.loads((folder / name / "metrics.json").read_text())
    counts = ("epoch", "best_epoch", "iteration", "samples_seen", "world_size", "status")
    return kept | {"metrics": {k: v for k, v in metrics.items() if "/" in k or k in counts}}


def same(one: Any, other: Any) -> bool:
    """Whether two results agree, to the bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def killing(folder: Path, drawn: dict[str, Any]) -> list[str]:
    settings = {"_target_": "lost_rank.Kill", "folder": str(folder), **drawn}
    return [f"+callbacks.kill.{key}={value}" for key, value in settings.items()]


def attempts(folder: Path) -> list[int]:
    """How many restarts there had been, each time that training began."""
    return [json.loads(line) for line in (folder / "attempts").read_text().splitlines()]


def resumed_from(folder: Path) -> int:
    return int(json.loads((folder / "run" / "metrics.json").read_text())["resumed_from_iteration"])


def killed_at(folder: Path) -> float:
    """When the process was killed, in seconds since 1970; 0 where it was not."""
    return json.loads((folder / "killed").read_text()) if (folder / "killed").exists() else 0.0


def with_restarts(folder: Path, drawn: dict[str, Any], alone: dict[str, Any], every: int, limit: float,
                  arguments: list[str]) -> dict[str, Any]:  # fmt: skip
    """A try that must come to the same end by itself."""
    ended = train(folder, limit, *arguments, "launcher.max_restarts=3", *killing(folder, drawn))
    row = drawn | {"kind": "restart", **{key: ended[key] for key in ("status", "seconds", "left_over")}}
    row |= {"killed": (folder / "killed").exists(), "attempts": attempts(folder), "equal": False}
    if ended["status"] == 0:
        row["equal"] = same(result_of(folder), alone)
        row["resumed_from_iteration"] = json.loads((folder / "run" / "metrics.json").read_text())[
            "resumed_from_iteration"
        ]
    start = expected_start(drawn, every)
    row["holds"] = (
        row["status"] == 0 and row["killed"] and row["equal"] and not row["left_over"]
        and row["attempts"] == [0, 1] and row["resumed_from_iteration"] == start > 0
    )  # fmt: skip
    return row if row["holds"] else row | {"out": ended["out"][-20:], "err": ended["err"][-20:]}


def without_restarts(folder: Path, drawn: dict[str, Any], alone: dict[str, Any], every: int, limit: float,
                     arguments: list[str], seconds: float) -> dict[str, Any]:  # fmt: skip
    """A try that must end at once, and say how to go on."""
    ended = train(folder, limit, *arguments, *killing(folder, drawn))
    row = drawn | {"kind": "stop", **{key: ended[key] for key in ("status", "seconds", "left_over")}}
    row["killed"] = (folder / "killed").exists()
    row["seconds_to_end"] = round(ended["ended"] - killed_at(folder), 2)
    row["err"], row["last_line"] = ended["err"], (ended["out"] or [""])[-1]
    row["holds"] = (
        row["status"] == 3 and row["killed"] and not row["left_over"] and row["seconds_to_end"] < seconds
        and len(row["err"]) == 1 and row["err"][0].startswith(f"Error: process {drawn['rank']} ")
        and row["last_line"].startswith("python ") and "resume=" in row["last_line"]
    )  # fmt: skip
    if row["holds"]:
        again = execute([sys.executable, *shlex.split(row["last_line"])[1:]], folder, limit)
        row |= {"resume_status": again["status"], "equal": False}
        if again["status"] == 0:
            row |= {"equal": same(result_of(folder), alone), "resumed_from_iteration": resumed_from(folder)}
        start = expected_start(drawn, every)
        row["holds"] = row["equal"] and row["resumed_from_iteration"] == start > 0 and not again["left_over"]
        row |= {} if row["holds"] else {"resume_out": again["out"][-20:], "resume_err": again["err"][-20:]}
    return row


def main() -> int:
    given = {"tries": "10", "kinds": "restart,stop", "model": "mlp", "processes": "2", "epochs": "6", "every": "10"}
    given |= {"seconds": "10", "limit": "120", "seed": "0"} | script_arguments(sys.argv[1:], KEYS)
    also = given.get("also", "model.dropout=0.2" if given["model"] == "mlp" else "").split()
    processes, every, limit = int(given["processes"]), int(given["every"]), float(given["limit"])
    arguments = [f"model={given['model']}", "data.batch_size=96", f"trainer.devices={processes}", *also]
    arguments += [f"trainer.max_epochs={given['epochs']}", f"checkpoint_every={every}"]
    generator, rows = random.Random(int(given["seed"])), []
    with tempfile.TemporaryDirectory(dir=given.get("folder")) as name:
        folder = Path(name) / "alone"
        folder.mkdir()
        ended = train(folder, limit, *arguments)
        if ended["status"] != 0:
            raise RuntimeError("\n".join(["The run that was left alone failed:", *ended["out"], *ended["err"]]))
        alone = result_of(folder)
        for number in range(int(given["tries"])):
            for kind in given["kinds"].split(","):
                drawn = draw(generator, processes, alone["metrics"]["iteration"], every)
                folder = Path(name) / f"{kind}_{number}"
                folder.mkdir()
                if kind == "restart":
                    row = with_restarts(folder, drawn, alone, every, limit, arguments)
                else:
                    row = without_restarts(folder, drawn, alone, every, limit, arguments, float(given["seconds"]))
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
    count = {kind: f"{sum(r['holds'] for r in rows if r['kind'] == kind)} of {given['tries']}"
             for kind in given["kinds"].split(",")}  # fmt: skip
    result = {"command": " ".join(["python", *sys.argv]), **count, "seconds_alone": ended["seconds"], "rows": rows}
    text = json.dumps(result, indent=1)
    if "out" in given:
        Path(given["out"]).write_text(text + "\n")
    print(text)
    return 0 if all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(guarded(main))
