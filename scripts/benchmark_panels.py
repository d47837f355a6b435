"""The section `panels` of scripts/benchmark.py: what each panel of TensorBoard costs of a whole training, by default.

    python scripts/benchmark.py only=panels

A panel is a callback that shows something; its time is that spent in its hooks, within the run that it belongs to.
"ours" is that time, "bare" the whole training, and the ratio the share, which should be 0.03 at most. A second is one
of this process's own (all its threads together), so that other programs matter less.
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback

from zoo.build import build
from zoo.run import configure

EPOCHS = 8  # pictures are drawn after epochs 1, 2, 4, 8, so shares shrink as a run grows longer
IMAGES = 60_000
PANELS = (  # files of zoo/callbacks/, and feature_maps, which stands in that of kernels
    "activity", "curves", "feature_maps", "gradient_flow", "histograms", "kernels", "panels", "projector",
    "through_time",
)  # fmt: skip


def panels(medians: Callable[..., dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Seconds in each panel and in the whole of a training on 60,000 images, on one thread."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name in ("mlp", "lenet5"):
        pairs = defaultdict(list)
        for _ in range(min(rounds, 3)):
            spent, whole = once(name)
            for panel, seconds in spent.items():
                pairs[panel].append((seconds, whole))
        found |= {f"{name} {panel}": medians(pair) | {"unit": "seconds"} for panel, pair in pairs.items()}
    return found


def once(name: str, images: int = IMAGES, epochs: int = EPOCHS) -> tuple[dict[str, float], float]:
    """Seconds in each panel of one training, and of the whole."""
    with tempfile.TemporaryDirectory() as folder:
        run = build(configure(
            f"model={name}", "data=digits", "data.image_size=28", "data.batch_size=128", f"trainer.max_epochs={epochs}",
            "trainer.accelerator=cpu", "trainer.num_threads=1", run_dir=folder,
        ))  # fmt: skip
        parts = run.data.prepare().parts  # type: ignore[attr-defined]
        pixels = torch.randint(0, 256, (images, 1, 28, 28), dtype=torch.uint8)
        parts["train"].tensors = (pixels, torch.randint(0, 10, (images,)))
        spent: dict[str, float] = {}
        for callback in run.trainer.callbacks:
            panel = type(callback).__module__.rpartition(".")[2]
            if panel in PANELS:
                watch(callback, panel if panel != "kernels" else named(callback), spent)
        start = time.process_time()
        run.fit()
        seconds = time.process_time() - start
        run.close({})
    return spent, seconds


def named(callback: Callback) -> str:
    """Of two panels in one file, which it is."""
    return "kernels" if type(callback).__name__ == "Kernels" else "feature_maps"


def watch(callback: Callback, panel: str, spent: dict[str, float]) -> None:
    """Adds the time in the callback's own hooks to `spent`."""
    spent[panel] = 0.0

    def timed(method: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return method(*arguments, **options)
            finally:
                spent[panel] += time.process_time() - start

        return call

    for hook in [name for name in dir(type(callback)) if name.startswith("on_")]:
        if getattr(type(callback), hook) is not getattr(Callback, hook, None):
            setattr(callback, hook, timed(getattr(callback, hook)))
