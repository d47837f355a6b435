"""Which part of a pretrained model goes on learning."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn


def head(model: nn.Module) -> nn.Module:
    """The output layer: the last module that has parameters of its own."""
    *_, last = (m for m in model.modules() if any(True for _ in m.parameters(recurse=False)))
    return last


class FineTuning(Callback):
    """Freezes what is not to be trained. It keeps no state: what is frozen follows from the config alone.

    Args:
        train: "all" parameters, or the "head" alone (feature extraction). Frozen layers stay in evaluation mode, so the
            running statistics of a frozen batch norm do not move and its dropout is off.
    """

    lean = True

    def __init__(self, train: str = "all") -> None:
        self.train = train

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.train == "head" and stage == "fit":
            model: Any = pl_module.model
            model.requires_grad_(False)
            head(model).requires_grad_(True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # an epoch that goes on in its middle has no start

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.train == "head":
            model: Any = pl_module.model
            model.eval()
            head(model).train()
