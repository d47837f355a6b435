"""Kills runs with SIGKILL, resumes them with `resume=<folder>` alone, and compares them with a run that was let be.

python tests/drivers/kills.py model=mlp kills=50
python tests/drivers/kills.py model=mlp kills=4 variants=all
python tests/drivers/kills.py model=mlp kills=4 mutation=weights
python tests/drivers/kills.py model=lstm data=python_docs kills=5 settings="data.fraction=0.1 model.hidden_size=32"

Each run is `python train.py <arguments>` in a forked process. An uninterrupted run first notes every moment at which it
could be killed: before, inside and after each step, around validation, the end of an epoch, the writing of a
checkpoint, and the test. Kills are drawn from these moments (iterations, not seconds): a fifth and more inside a write,
at a drawn byte of it; a fifth at an epoch's end; a twelfth before the first checkpoint. Every fifth run is killed again
after it was resumed, every tenth a third time. Of some runs (`damage=`) last.ckpt is also cut off or one of its bytes
is changed. What must come out equal, and what from a clock may differ, is told in same_run.py; besides, a resumed run
must start at the newest checkpoint and execute the remaining steps and no others.

With `mutation=` a resumed run is robbed of a part of its state, and the driver must end with status 1. Prints what
differs, a summary line and JSON; the exit status is 1 where anything differs. tests/test_kills.py runs it.
"""

import collections
import gc
import importlib
import io
import json
import random
import runpy
import shlex
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from same_run import differences, unequal
from witness import Kill, Log, Witness, answer, forked

from zoo.config.commandline import CONFIGS, guarded, script_arguments
from zoo.errors import UserError, suggest

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    "model": "model= of train.py (mlp)",
    "data": "data= of train.py (digits)",
    "kills": "how many runs are killed, in each variant (50)",
    "damage": "how many further runs have their last.ckpt damaged (a tenth of kills)",
    "variants": "see VARIANTS: several with commas between, or all (plain)",
    "mutation": "see MUTATIONS: what a resumed run is robbed of (none)",
    "settings": "further arguments of train.py, in one text",
    "seed": "of what is drawn (0)",
    "out": "a file for the JSON",
    "folder": "where the runs are kept (a temporary folder, not kept)",
}
COMMON = {"scheduler": "cosine", "trainer.max_epochs": "4", "checkpoint_every": "7", "trainer.num_threads": "1"}
# What is set besides; a key that the model lacks leaves the variant out.
VARIANTS = {
    "plain": "",
    "ema": "callbacks.ema.decay=0.99",
    "early_stopping": "callbacks.early_stopping.patience=1 optimizer.lr=0.03 trainer.max_epochs=20",
    "plateau": "scheduler=plateau scheduler.patience=0 scheduler.mode=max scheduler.factor=0.5",
    "one_cycle": "scheduler=one_cycle optimizer=momentum optimizer.lr=0.05",
    "accumulate": "trainer.accumulate_grad_batches=2",
    "validation": "trainer.check_val_every_n_epoch=2 trainer.max_epochs=5",
    "csv": "logger=csv",
    "lightning_loop": "trainer.lean_loop=false trainer.gradient_clip_val=1",
    "batch_norm": "model.normalization=BatchNorm1d",
    "every_iteration": "checkpoint_every=1 trainer.max_epochs=2",
    "lbfgs": "optimizer=lbfgs trainer.max_epochs=2 checkpoint_every=3",
    "best_at_once": "",  # as a network does that is too large to wait in memory
}


def only(*kept: str) -> Callable[[], None]:
    """A mutation: of a checkpoint the weights and these parts are restored, and no more."""

    def mutate() -> None:
        from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector as Connector

        for part in ("callbacks", "loops", "optimizers_and_schedulers"):
            if part not in kept:
                setattr(Connector, f"restore_{part}", lambda self: None)

    return mutate


def no_rng() -> None:
    from zoo.callbacks import exact_resume

    exact_resume.restore_random = lambda state: None


def no_sampler() -> None:
    from zoo.data.base import Loader

    Loader.load_state_dict = lambda self, state: None  # type: ignore[method-assign]


def no_curves() -> None:
    from zoo.callbacks.loggers import TensorBoard

    TensorBoard.go_on = lambda self, position: None  # type: ignore[method-assign]


def without_part(take_away: Callable[[dict[str, Any]], Any]) -> Callable[[], None]:
    """A mutation: something is taken out of a checkpoint before it is restored."""

    def mutate() -> None:
        from zoo.callbacks.checkpointing import AtomicCheckpointIO

        load = AtomicCheckpointIO.load_checkpoint

        def mutated(*arguments: Any, **options: Any) -> Any:
            checkpoint = load(*arguments, **options)
            take_away(checkpoint)
            return checkpoint

        AtomicCheckpointIO.load_checkpoint = mutated  # type: ignore[method-assign]

    return mutate


def no_carried(checkpoint: dict[str, Any]) -> None:
    for state in checkpoint["processes"]:
        state["carried"] = None


MUTATIONS: dict[str, Callable[[], None]] = {
    "weights": only(),
    "weights_and_loops": only("loops"),
    "no_rng": no_rng,
    "no_sampler": no_sampler,
    "no_optimizer": without_part(
        lambda checkpoint: [state.update(state={}) for state in checkpoint["optimizer_states"]]
    ),
    "no_schedule": without_part(lambda checkpoint: checkpoint.update(lr_schedulers=[])),
    "no_callbacks": without_part(lambda checkpoint: checkpoint.update(callbacks={})),
    "no_curves": no_curves,
    "no_process_state": without_part(lambda checkpoint: checkpoint.update(processes=[])),
    "no_carried": without_part(no_carried),  # what one batch leaves to the next
}


class Plan:
    """Draws where runs are killed, from the moments of an uninterrupted one."""

    def __init__(self, whole: Log, seed: int) -> None:
        self.whole, self.generator = whole, random.Random(seed)
        places = list(enumerate(whole.moments))
        later = places[whole.first :]
        self.early = places[: whole.first]
        self.writes = [p for p in later if p[1][0].startswith("write ")]
        self.tests = [p for p in later if p[1][0].startswith("test ")]
        others = [p for p in later if p not in self.writes and p not in self.tests]
        self.ends = [p for p in others if p[1][1] in whole.epoch_ends]
        self.inside = [p for p in others if p[1][1] not in whole.epoch_ends]

    def pick(self, places: list[Any], number: int) -> list[Kill]:
        """So many of the places, each kind of moment as likely as another."""
        kinds = collections.defaultdict(list)
        for _, (what, iteration, size) in places:
            kinds[what].append((what, iteration, size))
        picked = []
        for _ in range(number if kinds else 0):
            what, iteration, size = self.generator.choice(kinds[self.generator.choice(sorted(kinds))])
            picked.append(Kill(what, iteration, self.generator.randint(0, size)))
        return picked

    def first_kills(self, number: int) -> list[Kill]:
        writes, ends, early, tests = -(-number * 6 // 25), max(1, number // 5), number // 12, number // 25
        found = self.pick(self.writes, writes) + self.pick(self.ends, ends) + self.pick(self.early, early)
        found += self.pick(self.tests, tests)
        found = (found + self.pick(self.inside, max(0, number - len(found))))[:number]
        self.generator.shuffle(found)
        return found

    def inside_kills(self, number: int, checkpoints: int = 1) -> list[Kill]:
        """Kills inside an epoch, after so many checkpoints, the newest of which lies inside an epoch, too."""
        newest = self.whole.newest
        enough = [*self.whole.checkpoints, *[self.whole.steps[-1]] * checkpoints][checkpoints - 1]
        fit = [p for p in self.inside if newest[p[0]] >= enough and newest[p[0]] not in self.whole.epoch_ends]
        return self.pick(fit or self.inside, number)

    def next_kill(self, newest: int) -> Kill | None:
        """A further one in a run that was resumed from iteration `newest`."""
        later = [p for p in (*self.writes, *self.ends, *self.inside) if p[1][1] > newest + 1]
        return next(iter(self.pick(later, 1)), None)


class Runs:
    """The runs of one variant, below one folder.

    Args:
        arguments: of train.py.
        patch: called in each process before the run, None for nothing.
        mutate: called in each process that resumes.
    """

    def __init__(self, folder: Path, arguments: list[str], patch: Any, mutate: Any, seed: int) -> None:
        self.folder, self.arguments, self.patch, self.mutate = folder, arguments, patch, mutate
        self.whole = folder / "whole"
        self.counts: collections.Counter[str] = collections.Counter()
        self.failures: dict[str, list[str]] = {}
        status = self.train(self.whole, [*arguments, f"run_dir={self.whole}"], 0, None)
        if status:
            raise UserError(f"The uninterrupted run ended with status {status}: {self.said(self.whole, 0)[-500:]}")
        self.log = self.log_of(self.whole, 0)
        self.metrics = json.loads((self.whole / "metrics.json").read_text())
        self.total = len(self.log.steps)
        self.plan = Plan(self.log, seed)

    def log_of(self, run: Path, attempt: int) -> Log:
        return Log(self.folder / f"{run.name}.{attempt}.log")

    def said(self, run: Path, attempt: int) -> str:
        return (self.folder / f"{run.name}.{attempt}.out").read_text(errors="replace")

    def train(self, run: Path, arguments: list[str], attempt: int, kill: Kill | None) -> int:
        """`python train.py <arguments>` in a forked process; its exit status, negative for a signal."""

        def start() -> None:
            witness = Witness(self.folder / f"{run.name}.{attempt}.log", kill)
            witness.watch()
            if self.patch:
                self.patch()
            if self.mutate and attempt:
                self.mutate()
            sys.argv = ["train.py", *arguments]
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")

        return forked(start, self.folder / f"{run.name}.{attempt}.out")

    def interrupted(self, name: str, kills: int, first: Kill, damage: str = "") -> None:
        """A run that is killed up to so many times, resumed each time, and compared."""
        run, newest, kill, problems, attempt = self.folder / name, 0, first, [], 0
        arguments = [*self.arguments, f"run_dir={run}"]
        while True:
            status = self.train(run, arguments, attempt, kill)
            log = self.log_of(run, attempt)
            problems += self.went_on(newest, log, attempt)
            if status != -signal.SIGKILL:
                break
            newest = log.checkpoints[-1] if log.checkpoints else newest
            self.count(kill, attempt == 0 and not damage, newest)
            if damage:
                newest = self.damage(run, damage, log)
            attempt, arguments = attempt + 1, [f"resume={run}"]
            kill = self.plan.next_kill(newest) if attempt < kills else None
        problems += self.ended(run, status, attempt, newest, log) + (
            self.told(run, newest) if damage and attempt else []
        )
        found = [] if status else compared(self.whole, run, self.folder / "differences.json")
        self.counts["runs"] += 1
        self.counts["equal"] += not found and not problems
        self.counts["weights differ"] += any(text.startswith("last.ckpt: state_dict") for text in found)
        self.counts["killed more than once"] += attempt > 1
        if problems or found:
            where = f"{first.what}, iteration {first.iteration}, byte {first.byte}"
            self.failures[f"{name}, killed at: {where}{', damaged' * bool(damage)}"] = problems + found

    def went_on(self, newest: int, log: Log, attempt: int) -> list[str]:
        """The steps follow one another from the newest checkpoint on."""
        if log.steps == list(range(newest + 1, newest + 1 + len(log.steps))):
            return []
        return [
            f"after {attempt} kills, with a checkpoint at {newest}, the steps {log.steps[:1]}..{log.steps[-1:]} ran"
        ]

    def ended(self, run: Path, status: int, kills: int, newest: int, log: Log) -> list[str]:
        if status:
            return [f"after {kills} kills the status was {status}: {self.said(run, kills)[-500:]}"]
        if not kills:
            return ["it was not killed"]
        problems = []
        resumed = json.loads((run / "metrics.json").read_text())["resumed_from_iteration"]
        self.counts["resumed above 0"] += resumed > 0
        self.counts["steps after the last resume"] += len(log.steps)
        if resumed != newest:
            problems.append(f"it was resumed from iteration {resumed} instead of {newest}")
        if len(log.steps) != self.total - resumed:
            problems.append(f"{len(log.steps)} steps were executed after iteration {resumed} of {self.total}")
        return problems

    def count(self, kill: Kill, first: bool, newest: int) -> None:
        for which in ("kills", *["first kills"] * first):
            self.counts[which] += 1
            self.counts[f"{which} after a checkpoint"] += newest > 0
            self.counts[f"{which} before a checkpoint"] += newest == 0
            self.counts[f"{which} in a write"] += kill.what.startswith("write ")
            self.counts[f"{which} at an epoch's end"] += kill.iteration in self.log.epoch_ends

    def damage(self, run: Path, how: str, log: Log) -> int:
        """Cuts last.ckpt off or changes a byte; returns the iteration that is left to resume from."""
        path = run / "checkpoints" / "last.ckpt"
        before = path.read_bytes()
        content, place = bytearray(before), self.plan.generator.randrange(len(before))
        if how == "cut off":
            content = content[:place]
        else:
            content[place] ^= 1 << self.plan.generator.randrange(8)
        path.write_bytes(content)
        noticed = refused(path, before, self.folder / "refused.json")
        self.counts[f"damaged: {how}"] += 1
        self.counts["damaged where nothing is read from"] += not noticed
        return log.checkpoints[-2 if noticed else -1]

    def told(self, run: Path, newest: int) -> list[str]:
        lines, last = self.said(run, 1).splitlines(), str(run / "checkpoints" / "last.ckpt")
        if self.log_of(run, 0).checkpoints[-1] == newest:
            return []
        named = [line for line in lines if last in line and "Going on" not in line]
        instead = [line for line in lines if "is used instead" in line]
        return [] if len(named) == len(instead) == 1 else [f"the damaged file was told of in {named + instead}"]


def compared(whole: Path, other: Path, path: Path) -> list[str]:
    found: list[str] = answer(lambda: differences(whole, other), path)
    return found


def refused(path: Path, before: bytes, place: Path) -> bool:
    """Whether a damaged checkpoint is refused; if not, the damage lies between its parts, and it holds what it held."""

    def question() -> bool:
        import torch

        from zoo.checkpoint import read

        try:
            found = read(path)
        except UserError:
            return True
        original = torch.load(io.BytesIO(before), map_location="cpu", weights_only=True)
        assert not list(unequal(original, found, "")), f"{path} is damaged, and was read"
        return False

    return bool(answer(question, place))


def typed(given: dict[str, str], variant: str) -> list[str] | None:
    """The arguments of train.py; None where the model has not what the variant is about."""
    path = CONFIGS / "model" / f"{given['model']}.yaml"
    keys = yaml.safe_load(path.read_text())["model"] if path.is_file() else {}
    data = CONFIGS / "data" / f"{given['data']}.yaml"
    found = {"model": given["model"], "data": given["data"], **COMMON}
    if "dropout" in keys:
        found["model.dropout"] = "0.3"
    facts = data.read_text() if data.is_file() else ""
    if "image_shape:" in facts and "tgt_vocab_size:" not in facts:  # images with sentences are not augmented
        found |= {"augment": "shift", "augment.shift": "1"}
    for text in (VARIANTS[variant], given.get("settings", "")):
        found |= {a.partition("=")[0]: a.partition("=")[2] for a in shlex.split(text)}
    own = [key.split(".")[1] for key in found if key.startswith("model.")]
    if variant != "plain" and any(key not in keys for key in own):
        return None
    return [f"{key}={value}" for key, value in found.items()]


def best_at_once() -> None:
    from zoo.callbacks import checkpointing

    checkpointing.IN_MEMORY_BYTES = -1


def preload(model: str) -> None:
    """Imports what the runs need, so that a fork has it at once; no tensor is touched."""
    gc.disable()
    names = [
        "zoo.run",
        "zoo.build",
        "zoo.tasks.supervised",
        "zoo.sweeps.sweep",
        "zoo.data.digits",
        "zoo.callbacks.curves",
        "sklearn.datasets",
    ]
    names += ["matplotlib.figure", "zoo.callbacks.ema", "hydra", "torchmetrics.classification"]
    names += [f"zoo.models.{model}"] * (ROOT / "zoo" / "models" / f"{model}.py").is_file()
    for name in names:
        importlib.import_module(name)
    gc.enable()
    gc.freeze()


def chosen(given: dict[str, str]) -> list[str]:
    names = list(VARIANTS) if given["variants"] == "all" else given["variants"].split(",")
    for name in names:
        if name not in VARIANTS:
            raise UserError(f"There is no variants={name}{suggest(name, VARIANTS)}")
    if given.get("mutation") and given["mutation"] not in MUTATIONS:
        raise UserError(f"There is no mutation={given['mutation']}{suggest(given['mutation'], MUTATIONS)}")
    return names


def of_variant(variant: str, given: dict[str, str], arguments: list[str], folder: Path) -> dict[str, Any]:
    """Kills the runs of one variant, and says what came of it."""
    started, number = time.monotonic(), int(given["kills"])
    mutate = MUTATIONS[given["mutation"]] if given.get("mutation") else None
    folder.mkdir(parents=True)
    patch = best_at_once if variant == "best_at_once" else None
    runs = Runs(folder, arguments, patch, mutate, int(given["seed"]))
    kills = runs.plan.inside_kills(number) if mutate else runs.plan.first_kills(number)
    for i, kill in enumerate(kills):
        times = 1 if mutate else 1 + (i % 5 == 4) + (i % 10 == 9)
        runs.interrupted(f"run{i:03}", times, kill)
    damaged = 0 if mutate else int(given.get("damage", number // 10))
    for i, kill in enumerate(runs.plan.inside_kills(damaged, checkpoints=3)):
        runs.interrupted(f"damaged{i:03}", 1, kill, ("cut off", "one byte changed")[i % 2])
    if not mutate:
        check_counts(runs, variant, number)
    return {
        "command": f"python train.py {' '.join(arguments)}",
        "iterations": runs.total,
        "epochs": runs.metrics["epoch"],
        "checkpoints": len(runs.log.checkpoints),
        **runs.counts,
        "seconds": round(time.monotonic() - started, 1),
        "failures": runs.failures,
    }


def check_counts(runs: Runs, variant: str, number: int) -> None:
    """The kills were where they must be for the proof to be one."""
    counts, missing = runs.counts, []
    if counts["first kills"] < number:
        missing.append(f"{counts['first kills']} of {number} runs were killed")
    if number >= 10 and counts["first kills after a checkpoint"] < 0.8 * number:
        missing.append("fewer than four fifths were killed after a checkpoint")
    if number >= 10 and counts["first kills in a write"] < 0.2 * number:
        missing.append("less than a fifth was killed in a write")
    if variant == "early_stopping" and f"trainer.max_epochs={runs.metrics['epoch']}" in runs.arguments:
        missing.append("the run was not stopped early")
    if missing:
        runs.failures["the kills"] = missing


def main() -> int:
    given = {"model": "mlp", "data": "digits", "kills": "50", "variants": "plain", "seed": "0"}
    given |= script_arguments(sys.argv[1:], KEYS)
    names = chosen(given)
    preload(given["model"])
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for variant in names:
            arguments = typed(given, variant)
            if arguments is not None:
                folder = Path(given.get("folder", temporary)).absolute() / variant
                results[variant] = of_variant(variant, given, arguments, folder)
                tell(variant, results[variant])
    total: collections.Counter[str] = collections.Counter()
    for result in results.values():
        total.update({key: value for key, value in result.items() if isinstance(value, int)})
    failed = any(result["failures"] for result in results.values())
    print(f"{total['equal']} of {total['runs']} runs equal, {total['kills']} kills{' - UNEQUAL' * failed}")
    text = json.dumps({"given": given, "variants": results})
    print(text)
    if "out" in given:
        Path(given["out"]).write_text(text + "\n", encoding="utf-8")
    return int(failed)


def tell(variant: str, result: dict[str, Any]) -> None:
    for name, problems in result["failures"].items():
        print(f"{variant}, {name}:")
        for problem in problems:
            print(f"    {problem}")
    print(
        f"{variant}: {result['equal']} of {result['runs']} equal; {result.get('kills', 0)} kills, "
        f"{result.get('kills after a checkpoint', 0)} after a checkpoint, {result.get('kills in a write', 0)} in a "
        f"write; {result['seconds']} s",
        flush=True,
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # of fork and threads: torch's are not started
    sys.path.insert(0, str(ROOT))
    sys.exit(guarded(main))
