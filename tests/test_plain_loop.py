"""What the trainer adds to a loop over batches is comfort, not arithmetic."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from lightning.pytorch import Callback
from omegaconf import OmegaConf
from torch import nn

from zoo.build import build
from zoo.config.commandline import CONFIGS, register_resolvers

EPOCHS, BATCH, SEED = 3, 100, 5
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "nesterov": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.001, fused=True),
}


class Losses(Callback):
    """Keeps the loss of each iteration."""

    lean = True

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.found.append(pl_module.latest["loss"].item())


def composed(run_dir: Path, *overrides: str) -> Any:
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", overrides=["data=digits", "model=mlp", "trainer=cpu", "logger=none", *overrides])
    OmegaConf.set_struct(cfg, False)
    cfg.run_dir, cfg.seed = str(run_dir), SEED
    cfg.trainer.max_epochs, cfg.data.batch_size = EPOCHS, BATCH
    cfg.callbacks.progress = None
    return cfg


def plain_loop(images: torch.Tensor, labels: torch.Tensor, weights: dict[str, torch.Tensor], name: str):
    """The 20 lines that everybody writes; (losses, weights)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    optimizer = OPTIMIZERS[name](model.parameters())
    losses = []
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED * 1_000_003 + epoch))
        for indices in order.split(BATCH):
            loss = nn.functional.cross_entropy(model(images[indices]), labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses, list(model.state_dict().values())


@pytest.mark.parametrize("lean", [True, False], ids=["lean loop", "lightning's loop"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_losses_and_weights_equal_those_of_a_plain_loop_to_the_bit(optimizer, lean, tmp_path):
    run = build(composed(tmp_path, f"optimizer={optimizer}", f"trainer.lean_loop={lean}"))
    part = run.data.part("train")
    whole = part[torch.arange(len(part))]
    start = {name: value.clone() for name, value in run.task.model.state_dict().items()}
    losses, weights = plain_loop(whole.image, whole.label, start, optimizer)
    watch = Losses()
    run.trainer.callbacks.append(watch)
    run.fit()
    assert len(losses) == EPOCHS * -(-len(part) // BATCH)
    assert losses[-1] < 0.7 * losses[0]
    assert watch.found == losses
    assert all(torch.equal(a, b) for a, b in zip(run.task.model.state_dict().values(), weights, strict=True))
