"""Where curves go. One event file holds a whole run, fit and test together."""

from typing import Any

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, writing straight into the run folder.

    Departures: no `hparams.yaml` and no `hp_metric` (the HPARAMS tab gets the run's real metrics, see `panels`); the
    file stays open between fit and test; points reach the disk within `flush_secs`.
    """

    def __init__(self, save_dir: str, *, flush_secs: int = 5, purge_step: int | None = None) -> None:
        options: dict[str, Any] = {"flush_secs": flush_secs}
        if purge_step is not None:
            options["purge_step"] = purge_step
        super().__init__(save_dir, name="", version="", default_hp_metric=False, **options)

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        # All values of a step in one event: a fifth of the cost of one call per value.
        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in metrics.items()]
        self.experiment.file_writer.add_summary(Summary(value=values), step)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the whole config is shown as text, and the HPARAMS tab is written with the final metrics."""

    @rank_zero_only
    def save(self) -> None:
        """Nothing: see `log_hyperparams`."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.experiment.flush()

    def close(self) -> None:
        """Ends the event file."""
        if self._experiment is not None:
            self._experiment.close()


class Csv(CSVLogger):
    """Curves as `metrics.csv` in the run folder; the column `step` is the epoch for `by_epoch/` columns."""

    def __init__(self, save_dir: str, *, purge_step: int | None = None) -> None:
        super().__init__(save_dir, name="", version="", flush_logs_every_n_steps=100)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the config lies beside the file."""

    def close(self) -> None:
        self.save()
