"""Ends training when validation no longer gets better."""

from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping


class EarlyStopping(LightningEarlyStopping):
    """Lightning's, quiet.

    Args:
        patience: epochs without a better value before the run ends.
        monitor: metric, for instance "val/loss"; `zoo.running.trainer` puts the task's own in place of "auto".
        mode: "min" or "max".
        min_delta: a change smaller than this is none.
    """

    lean = True

    def __init__(self, patience: int, monitor: str = "val/loss", mode: str = "min", min_delta: float = 0.0) -> None:
        super().__init__(monitor=monitor, patience=patience, mode=mode, min_delta=min_delta, log_rank_zero_only=True)
