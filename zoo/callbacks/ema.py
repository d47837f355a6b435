"""Exponential moving average of the weights: what is validated, tested and kept as the best."""

from typing import Any

from lightning.pytorch.callbacks import EMAWeightAveraging


class EMA(EMAWeightAveraging):
    """Lightning's averaging, with the decay as the one setting: average = decay * average + (1 - decay) * weights."""

    lean = True

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
