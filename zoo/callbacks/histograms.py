"""How the weights of a layer are spread, and their gradients: heaps that shrink, split or run away.

Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, figures 6 to 8,
look at networks this way.
"""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from zoo.callbacks.curves import iterations_done
from zoo.callbacks.gradient_flow import MOST_SCALARS, spread, weights
from zoo.callbacks.showing import pictured, writers
from zoo.optim import Alternating


class Histograms(Callback):
    """Weights of six layers at most, from the first to the last, and their gradients before clipping.

    Weights before training and after epochs 1, 2, 4, 8, ... and the last; gradients of the last batch of these epochs.
    """

    lean = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        found = weights(pl_module.model)
        names, digits = list(found), len(str(len(found)))
        self.layers = {f"{i + 1:0{digits}d}_{names[i]}": found[names[i]] for i in spread(len(names), MOST_SCALARS)}
        if iterations_done(trainer) == 0:
            self._draw(trainer, "weights", self.layers)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if not (trainer.is_last_batch and pictured(trainer)):
            return
        own = None if not isinstance(optimizer, Alternating) else {id(p) for p in optimizer.at_hand()}
        trained = {name: p for name, p in self.layers.items() if own is None or id(p) in own}
        self._draw(trainer, "weight_gradients", {name: p.grad for name, p in trained.items() if p.grad is not None})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if pictured(trainer):
            self._draw(trainer, "weights", self.layers)

    def _draw(self, trainer: Trainer, what: str, layers: dict[str, Tensor]) -> None:
        for writer in writers(trainer):
            for name, values in layers.items():
                flat = (values.coalesce().values() if values.is_sparse else values).detach().flatten().float()
                if len(flat) and torch.isfinite(flat).all():  # of what is no number there is no heap
                    writer.add_histogram(f"{what}/{name}", flat.cpu(), iterations_done(trainer))
