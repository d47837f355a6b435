"""Exponential moving average of the weights: what is validated, tested and kept as the best."""

from typing import Any

from lightning.pytorch.callbacks import EMAWeightAveraging


class EMA(EMAWeightAveraging):
    """Lightning's averaging, with the decay as the one setting: average = decay * average + (1 - decay) * weights."""

    lean = True

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Nothing: the weights in training stay as they are, so that a finished run can go on.

        Checkpoints hold the average as `state_dict`, and the test runs on a checkpoint.
        """
