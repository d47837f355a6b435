"""Measures what the zoo's comfort costs, as ratios within one interleaved run.

    python scripts/benchmark.py
    python scripts/benchmark.py rounds=7 only=loop out=benchmark.json

loop       our training loop with default logging against a bare PyTorch loop over the same in-memory tensors
input      our batches of images against torchvision's data set and a DataLoader
augment    our augmentation of batches against torchvision's transforms of single images (scripts/benchmark_augment.py)
formats    LeNet-5 and ResNet-20, channels last and bfloat16 against PyTorch's own order of axes and float32
sequences  an LSTM over text: our training and writing against bare loops (scripts/benchmark_sequences.py)
attention  a GPT in training, a Transformer in writing, memory against length (scripts/benchmark_attention.py)
generative steps of a Boltzmann machine, a GAN and a VAE against bare loops (scripts/benchmark_generative.py)
start      `python train.py` up to its first optimizer step against a bare script with the same data and model
memory     peak memory of these two
scale      samples a second of LeNet-5 in two processes with a thread each, against one process with two threads;
               and the same of a loop without a trainer
join       `python train.py` up to its first optimizer step with two processes against one
panels     seconds in each panel of TensorBoard, against a whole training (scripts/benchmark_panels.py)
keep       seconds that checkpoints take at the default intervals, against a whole training, every epoch the best
Each ratio is the median over rounds in which the two sides take turns, so that a drifting machine does not matter.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.config.commandline import guarded, script_arguments, whole_number
from zoo.errors import UserError, suggest

ROOT = Path(__file__).resolve().parent.parent
KEYS = {
    "only": "one of loop, input, augment, formats, sequences, attention, generative, start, memory, scale, join, "
    "panels and keep (all)",
    "rounds": "how often the sides take turns (5)",
    "steps": "training steps in a round (300)",
    "device": "cpu or gpu (cpu)",
    "out": "a .json file for the figures (none)",
}

BARE_SCRIPT = """
import time, torch
from sklearn.datasets import load_digits
digits = load_digits()
x = torch.tensor(digits.data / 16, dtype=torch.float32); y = torch.tensor(digits.target)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
for epoch in range(EPOCHS):
    for batch in torch.randperm(1258).split(64):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
        loss.backward()
        optimizer.step()
        if epoch == 0 and batch is not None and "first" not in globals():
            first = time.time(); print("first", first, flush=True)
print("peak", [int(l.split()[1]) / 1024 for l in open("/proc/self/status") if "VmHWM" in l][0])
"""

OUR_SCRIPT = """
import sys, time
sys.argv = ["train.py", "trainer.max_epochs=EPOCHS", "run_dir=RUN_DIR", *ARGUMENTS]
sys.path.insert(0, "ROOT")
import torch.optim.optimizer as optimizer_module
original = optimizer_module.Optimizer.__init__
def patched(self, *args, **kwargs):
    original(self, *args, **kwargs)
    def hook(*_):
        if "first" not in globals():
            globals()["first"] = time.time()
            sys.stdout.write(f"first {first}\\n")  # one word after the other, also from two processes
            sys.stdout.flush()
    self.register_step_post_hook(hook)
optimizer_module.Optimizer.__init__ = patched
import runpy
try:
    runpy.run_path("ROOT/train.py", run_name="__main__")
except SystemExit:
    pass
print("peak", [int(l.split()[1]) / 1024 for l in open("/proc/self/status") if "VmHWM" in l][0])
"""


RATE_SCRIPT = """
import statistics, sys, time
sys.argv = ["train.py", "trainer.max_epochs=EPOCHS", "run_dir=RUN_DIR", *ARGUMENTS]
sys.path.insert(0, "ROOT")
from zoo.callbacks.curves import Curves
original, clock, rates = Curves.on_train_batch_end, [0.0], []
def timed(self, trainer, module, outputs, batch, batch_idx):
    original(self, trainer, module, outputs, batch, batch_idx)
    now = time.perf_counter()
    if batch_idx and trainer.current_epoch:  # neither what lies between two epochs nor the warming up
        rates.append(module.num_samples_everywhere / (now - clock[0]))
    clock[0] = now
Curves.on_train_batch_end = timed
# The median step: what a virtual machine takes away from a few steps does not count.
Curves.on_train_end = lambda self, trainer, module: trainer.is_global_zero and print(
    "rate", statistics.median(rates), flush=True
)
import runpy
try:
    runpy.run_path("ROOT/train.py", run_name="__main__")
except SystemExit:
    pass
"""


# LeNet-5 without a trainer: ARGUMENTS is the number of processes; they share two threads.
BARE_SCALE_SCRIPT = """
import os, socket, statistics, sys, time
processes = int(ARGUMENTS[0])
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]))
rank = int(processes > 1 and os.fork() == 0)  # before torch has threads
import torch
sys.path.insert(0, "ROOT")
from zoo.models.lenet5 import LeNet5
torch.manual_seed(rank)
torch.set_num_threads(2 // processes)
model = LeNet5(in_channels=1, image_size=28, num_classes=10).to(memory_format=torch.channels_last)
if processes > 1:
    torch.distributed.init_process_group("gloo", rank=rank, world_size=processes)
    model = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x, y, rates = torch.randn(128 // processes, 1, 28, 28), torch.randint(10, (128 // processes,)), []
for _ in range(EPOCHS):
    start = time.perf_counter()
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    rates.append(128 / (time.perf_counter() - start))
if rank == 0:
    print("rate", statistics.median(rates[10:]), flush=True)
if processes > 1:
    torch.distributed.destroy_process_group()
os._exit(0)
"""


def ratios(ours: Callable[[], float], theirs: Callable[[], float], rounds: int) -> dict[str, Any]:
    """Medians of both sides and of their ratio, round by round, the side that begins changing each time."""
    pairs = []
    for i in range(rounds):
        if i % 2:
            b, a = theirs(), ours()
        else:
            a, b = ours(), theirs()
        pairs.append((a, b))
    return medians(pairs)


def medians(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """Of both sides and of their ratio, round by round."""
    each = [a / b for a, b in pairs]
    return {
        "ours": statistics.median(a for a, _ in pairs),
        "theirs": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(each),
        "ratio_min": min(each),
        "ratio_max": max(each),
        "rounds": len(pairs),
    }


def loop(rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Microseconds a step: MLP 784-128-10, LeNet-5, ResNet-20; batch 128, momentum, default logging to TensorBoard.

    The bare loop has the memory format that torch gives; ours that of the model's yaml.
    """
    counts = {"mlp": steps, "lenet5": steps // 3, "resnet": max(10, steps // 20)}
    return {name: loop_of(name, rounds, count, device) for name, count in counts.items()}


def loop_of(name: str, rounds: int, steps: int, device: str) -> dict[str, Any]:
    import torch

    from zoo.build import build
    from zoo.callbacks.checkpointing import RunCheckpoint
    from zoo.run import configure

    batch_size, size = 128, 28
    total = steps * batch_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (total, 1, size, size), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (total,), generator=generator)

    def ours() -> float:
        with tempfile.TemporaryDirectory() as folder:
            cfg = configure(
                f"model={name}", "data=digits", "data.image_size=28", f"data.batch_size={batch_size}", "test=false",
                "optimizer=momentum", "trainer.max_epochs=1", "trainer.num_threads=1", "trainer=auto",
                f"trainer.accelerator={device}", run_dir=folder,
            )  # fmt: skip
            run = build(cfg)
            parts = run.data.prepare().parts  # type: ignore[attr-defined]
            del parts["val"], parts["test"]
            parts["train"].tensors = (images, labels)
            clock: list[float] = []
            # From the first step to the last: building, and writing the checkpoint at the end, are not steps.
            run.trainer.callbacks = [c for c in run.trainer.callbacks if not isinstance(c, RunCheckpoint)]
            run.trainer.callbacks += [stopwatch(clock)]
            run.fit()
            run.close({})
        return (clock[-1] - clock[0]) / (steps - 1) * 1e6

    def bare() -> float:
        torch.manual_seed(0)
        model = build_bare(name).to(target)
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        order = torch.randperm(total)
        start = 0.0
        for i in range(steps):
            index = order[i * batch_size : (i + 1) * batch_size]
            x = images[index].to(target).to(torch.float32).mul_(scale).sub_(shift)
            y = labels[index].to(target)
            loss = torch.nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if i == 0:
                synchronize(device)
                start = time.perf_counter()
        synchronize(device)
        return (time.perf_counter() - start) / (steps - 1) * 1e6

    scale, shift = 1 / (255 * 0.3), 0.5
    target = torch.device("cuda" if device == "gpu" else "cpu")
    torch.set_num_threads(1)
    ours(), bare()  # warm up
    return ratios(ours, bare, rounds) | {"unit": "microseconds a step", "steps": steps}


def build_bare(name: str) -> Any:
    """The same network from zoo.models, outside every loop."""
    from zoo.models.lenet5 import LeNet5
    from zoo.models.mlp import MLP
    from zoo.models.resnet import ResNet

    if name == "mlp":
        return MLP(in_features=784, out_features=10, hidden_features=[128])
    if name == "resnet":
        return ResNet(in_channels=1, num_classes=10, depth=20)
    return LeNet5(in_channels=1, image_size=28, num_classes=10)


def formats(rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Milliseconds of forward and backward pass, 128 images of 28 x 28, LeNet-5 and ResNet-20."""
    import torch

    place, rows = "cuda" if device == "gpu" else "cpu", {}
    for name in ("lenet5", "resnet"):
        x, y = torch.randn(128, 1, 28, 28, device=place), torch.randint(10, (128,), device=place)

        def step(memory_format: Any, mixed: bool, name: str = name, x: Any = x, y: Any = y) -> Callable[[], float]:
            model, images = build_bare(name).to(place, memory_format=memory_format), x.to(memory_format=memory_format)

            def run() -> float:
                started = time.perf_counter()
                for _ in range(max(2, steps // 100)):
                    with torch.autocast(place, torch.bfloat16, enabled=mixed):
                        loss = torch.nn.functional.cross_entropy(model(images), y)
                    loss.backward()
                    model.zero_grad()
                synchronize(device)
                return 1000 * (time.perf_counter() - started) / max(2, steps // 100)

            run()  # warm up
            return run

        plain = step(torch.contiguous_format, False)
        last, mixed = step(torch.channels_last, False), step(torch.contiguous_format, True)
        rows[f"{name} channels_last"] = ratios(last, plain, rounds) | {"unit": "milliseconds a step"}
        rows[f"{name} bf16-mixed"] = ratios(mixed, plain, rounds) | {"unit": "milliseconds a step"}
    return rows


def synchronize(device: str) -> None:
    if device == "gpu":
        import torch

        torch.cuda.synchronize()


def stopwatch(clock: list[float]) -> Any:
    """A callback that notes the time after the first and the last step, and costs nothing between."""
    from lightning.pytorch import Callback

    class Stopwatch(Callback):
        lean = True

        def on_train_batch_end(self, *arguments: Any) -> None:
            clock[bool(clock) :] = [time.perf_counter()]  # the first stays; pictures at an epoch's end are no steps

    return Stopwatch()


def inputs(rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Samples a second: MNIST-sized images, batch 128, shuffled and normalized."""
    import numpy as np
    import torch
    from PIL import Image
    from torchvision import transforms

    from zoo.data.base import BatchOrder, InMemory, Loader
    from zoo.data.images import ImagePreprocessing

    torch.set_num_threads(1)
    images = torch.randint(0, 256, (60_000, 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 10, (60_000,))
    pixels = images[:, 0].numpy()

    class Pictures(torch.utils.data.Dataset):
        """torchvision's MNIST reads its items like this: a PIL image from an array, then the transforms."""

        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])

        def __len__(self) -> int:
            return len(pixels)

        def __getitem__(self, index: int) -> Any:
            return self.transform(Image.fromarray(np.asarray(pixels[index]))), int(labels[index])

    prepare = ImagePreprocessing.fit(images[:1000])

    def through(loader: Any, most: int) -> float:
        start, seen = time.perf_counter(), 0
        for i, batch in enumerate(loader):
            seen += len(batch[0])
            if i + 1 == most:
                break
        return seen / (time.perf_counter() - start)

    def ours() -> float:
        order = BatchOrder(60_000, 128, shuffle=True, seed=0)
        return through(Loader(InMemory(prepare.batch, images, labels), order), 468)

    def theirs() -> float:
        return through(torch.utils.data.DataLoader(Pictures(), batch_size=128, shuffle=True), 60)

    ours(), theirs()
    return {"images": ratios(ours, theirs, rounds) | {"unit": "samples a second"}}


def augment(rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Samples a second, batch 128 on one thread, of each operation and of all together."""
    import benchmark_augment

    return benchmark_augment.augment(ratios, rounds)


def sequences(rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Characters a second of LSTMs over text, in training and in writing, on one thread."""
    import benchmark_sequences

    return benchmark_sequences.sequences(ratios, medians, synchronize, rounds, steps, device)


def attention(rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Tokens a second of a GPT in training, sentences a second of a Transformer, memory against length."""
    import benchmark_attention

    return benchmark_attention.attention(ratios, medians, synchronize, child, rounds, steps, device)


def generative(rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Microseconds a step of a Boltzmann machine, a GAN and a VAE."""
    import benchmark_generative

    return benchmark_generative.generative(medians, synchronize, rounds, steps, device)


def child(code: str, epochs: int, *arguments: str) -> dict[str, float]:
    """Runs a script in a process of its own: what it prints as `name number`, of several the greatest.

    `first` becomes the seconds from the start of the process.
    """
    with tempfile.TemporaryDirectory() as folder:
        code = code.replace("EPOCHS", str(epochs)).replace("RUN_DIR", folder).replace("ROOT", str(ROOT))
        code = code.replace("ARGUMENTS", repr(list(arguments)))
        start = time.time()
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False)
    found: dict[str, float] = {}
    for name, number in (line.split() for line in ended.stdout.splitlines() if line[:5] in ("first", "peak ", "rate ")):
        found[name] = max(found.get(name, 0.0), float(number))
    if not found:
        raise UserError(f"A script of the benchmark failed: {(ended.stderr.strip().splitlines() or ['?'])[-1]}")
    return found | ({"first": found["first"] - start} if "first" in found else {})


def start(rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Seconds from the start of the process to the end of the first optimizer step."""
    child(OUR_SCRIPT, 1), child(BARE_SCRIPT, 1)  # warm up
    found = ratios(lambda: child(OUR_SCRIPT, 1)["first"], lambda: child(BARE_SCRIPT, 1)["first"], rounds)
    return {"digits": found | {"unit": "seconds"}}


def memory(rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Peak resident memory of a whole run, pictures and test included."""
    found = ratios(lambda: child(OUR_SCRIPT, 5)["peak"], lambda: child(BARE_SCRIPT, 5)["peak"], min(rounds, 3))
    return {"digits": found | {"unit": "MiB"}}


def scale(rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Samples a second of the median step inside the epochs, global batch 128, default logging.

    `bare` is the same ratio of torch's DistributedDataParallel in a loop without a trainer: what the machine allows.
    """
    common = ("model=lenet5", "data=digits", "data.image_size=28", "data.batch_size=128", "test=false")
    epochs = max(2, steps // 10)

    def two() -> float:
        return child(RATE_SCRIPT, epochs, *common, "trainer.devices=2", "trainer.num_threads=1")["rate"]

    def one() -> float:
        return child(RATE_SCRIPT, epochs, *common, "trainer.num_threads=2")["rate"]

    def bare(processes: int) -> float:
        return child(BARE_SCALE_SCRIPT, 10 * epochs, str(processes))["rate"]

    found = {"lenet5": ratios(two, one, rounds), "bare": ratios(lambda: bare(2), lambda: bare(1), rounds)}
    return {name: ratio | {"unit": "samples a second"} for name, ratio in found.items()}


def join(rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Seconds to the first step of the process that is last."""

    def two() -> float:
        return child(OUR_SCRIPT, 1, "trainer.devices=2")["first"]

    return {"digits": ratios(two, lambda: child(OUR_SCRIPT, 1)["first"], rounds) | {"unit": "seconds"}}


def keep(rounds: int, steps: int, device: str) -> dict[str, Any]:
    """60,000 training images, three epochs, each of them the best so far."""
    return {name: kept(name, rounds) for name in ("mlp", "lenet5")}


def kept(name: str, rounds: int) -> dict[str, Any]:
    import torch

    from zoo.build import build
    from zoo.callbacks.checkpointing import RunCheckpoint
    from zoo.run import configure

    torch.set_num_threads(1)
    spent = [0.0]

    def timed(method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                spent[0] += time.perf_counter() - start

        return call

    def once() -> tuple[float, float]:
        spent[0] = 0.0
        with tempfile.TemporaryDirectory() as folder:
            run = build(configure(
                f"model={name}", "data=digits", "data.image_size=28", "data.batch_size=128", "trainer.max_epochs=3",
                "trainer.accelerator=cpu", "trainer.num_threads=1", run_dir=folder,
            ))  # fmt: skip
            images = torch.randint(0, 256, (60_000, 1, 28, 28), dtype=torch.uint8)
            parts = run.data.prepare().parts  # type: ignore[attr-defined]
            parts["train"].tensors = (images, torch.randint(0, 10, (60_000,)))
            checkpoint = next(c for c in run.trainer.callbacks if isinstance(c, RunCheckpoint))
            checkpoint.is_better = lambda value, loss: True  # type: ignore[method-assign]
            for hook in ("on_train_batch_start", "on_train_batch_end", "on_epoch_complete", "on_train_end"):
                setattr(checkpoint, hook, timed(getattr(checkpoint, hook)))
            start = time.perf_counter()
            run.fit()
            seconds = time.perf_counter() - start
            run.close({})
        return spent[0], seconds

    once()
    return medians([once() for _ in range(min(rounds, 3))]) | {"unit": "seconds"}


def panels(rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Seconds in each panel of TensorBoard."""
    import benchmark_panels

    return benchmark_panels.panels(medians, rounds)


MEASURES = {
    **{"loop": loop, "input": inputs, "augment": augment, "formats": formats},
    **{"sequences": sequences, "attention": attention, "generative": generative},
    **{"start": start, "memory": memory, "scale": scale, "join": join, "panels": panels, "keep": keep},
}


def main() -> int:
    given = {"rounds": "5", "steps": "300", "device": "cpu"} | script_arguments(sys.argv[1:], KEYS)
    rounds, steps = whole_number(given, "rounds", 1), whole_number(given, "steps", 6)
    only = given.get("only")
    if only is not None and only not in MEASURES:
        raise UserError(f"There is no measure '{only}'{suggest(only, MEASURES)}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": str(torch.__version__),
    }
    for name in [only] if only else MEASURES:
        figures[name] = MEASURES[name](rounds, steps, given["device"])
        for what, row in figures[name].items():
            print(
                f"{name:<11}{what:<27} ours {row['ours']:>10.2f}  bare {row['theirs']:>10.2f} {row['unit']:<20}"
                f" ratio {row['ratio']:.3f} ({row['ratio_min']:.3f} to {row['ratio_max']:.3f})",
                flush=True,
            )
    if "out" in given:
        Path(given["out"]).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
