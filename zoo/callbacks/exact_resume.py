"""What every process has for itself: its random numbers, its means over the epoch so far, what its batches carry on.

A checkpoint holds them for all processes, so that each goes on where it was. With another number of processes the first
one takes all that was counted, and random numbers and what was carried start anew.
"""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.parallel import DistributedDataParallel


def random_state() -> dict[str, Any]:
    """The state of every random generator of this process, as plain containers."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "python": [version, list(words), gauss],
        "numpy": [str(name), [int(k) for k in keys], int(position), int(has_gauss), float(cached)],
    }


def restore_random(state: dict[str, Any]) -> None:
    """Puts back what `random_state` gave."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))


def on_the_cpu(carried: Any) -> Any:
    """Tensors in tuples, lists or alone: copies without gradient, on the CPU."""
    if isinstance(carried, torch.Tensor):
        return carried.detach().cpu().clone()
    return [on_the_cpu(part) for part in carried] if isinstance(carried, (list, tuple)) else carried


def of_all_processes(own: Any) -> list[Any]:
    """What each process has, by rank; every process must call it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [own]
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, own)
    return found


def fix_order_of_sums(trainer: Trainer) -> None:
    """Lays out the gradients for averaging once and for all, so that a resumed step has the bits it would have had.

    Three processes or more add up a number in an order that depends on its place in the message, and DDP would move it
    after the first step, resumed or not, to send early what is ready early. That pays off on a GPU, where computing and
    sending do not share the cores; there the places are left to DDP, unless the run is to be deterministic.
    """
    wrapper = trainer.strategy.model
    if not isinstance(wrapper, DistributedDataParallel) or wrapper.find_unused_parameters or wrapper.static_graph:
        return
    if trainer.strategy.root_device.type == "cpu" or torch.are_deterministic_algorithms_enabled():
        wrapper.reducer._push_all_rebuilt_params()
        wrapper.reducer._rebuild_buckets()


class ProcessState(Callback):
    """Keeps what each process has in the checkpoint, and puts it and the metrics back when training starts."""

    lean = True

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.restored: list[dict[str, Any]] = []
        self.metrics: dict[str, float] = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        pl_module.count()
        own = {"random": random_state(), "means": pl_module.means["train"].state_dict()}
        own["carried"] = on_the_cpu(pl_module.carried)
        checkpoint["processes"] = of_all_processes(own)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.restored, self.metrics = checkpoint.get("processes", []), checkpoint.get("metrics", {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fix_order_of_sums(trainer)
        # The newest validation counts until the next, for a schedule or as what a checkpoint says of itself.
        metrics = {name: torch.tensor(value, dtype=torch.float64) for name, value in self.metrics.items()}
        trainer._logger_connector._callback_metrics.update(metrics)
        rank, saved, self.restored = trainer.global_rank, self.restored, []
        means = pl_module.means["train"]
        if len(saved) == trainer.world_size:
            restore_random(saved[rank]["random"])
            means.load_state_dicts([saved[rank]["means"]])
            pl_module.carried = saved[rank].get("carried")
            return
        if trainer.world_size > 1:
            # Each process draws its own dropout masks; the weights were drawn alike before.
            torch.manual_seed((self.seed + 1) * 1_000_003 + rank)
        if rank == 0:
            means.load_state_dicts([state["means"] for state in saved])
