"""Where curves go. One event file holds a whole run: fit, test, and what came before an interruption."""

import csv
import time
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary

from zoo.callbacks.event_file import RunWriter, full
from zoo.errors import UserError


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, writing straight into the run folder.

    Departures: no `hparams.yaml` and no `hp_metric` (the HPARAMS tab gets the run's real metrics, see `panels`); the
    file stays open between fit and test; points reach the disk within `flush_secs`; a resumed run goes on with it.
    """

    def __init__(self, save_dir: str, *, flush_secs: int = 5) -> None:
        super().__init__(save_dir, name="", version="", default_hp_metric=False)
        self._experiment: Any = None
        self.folder, self.flush_secs = save_dir, flush_secs
        self.start: int | None = None
        self.tags: set[str] = set()  # of the curves so far

    @property
    def experiment(self) -> Any:
        """The writer of this process; only the first process writes."""
        if self._experiment is None and rank_zero_only.rank == 0:
            self._experiment = RunWriter(self.folder, self.start, self.flush_secs)
        return self._experiment

    def go_on(self, position: int) -> None:
        """Goes on with the run's event file after its first `position` bytes; call it before anything is written."""
        self.start = position

    def position(self) -> int | None:
        """Where the file ends, or None where this process does not write it."""
        return self.experiment.position() if rank_zero_only.rank == 0 else None

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        # All values of a step in one event: a fifth of the cost of one call per value.
        self.tags.update(metrics)
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


class Table(ExperimentWriter):
    """Lightning's writer of metrics.csv. It leaves an older file alone, and rewrites it whole or not at all."""

    def _check_log_dir_exists(self) -> None:
        """Lightning's removes the older file."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        write_table(Path(self.metrics_file_path), fieldnames, read_table(Path(self.metrics_file_path))[1])


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Names of the columns, and the rows."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        return list(reader.fieldnames or []), rows


def write_table(path: Path, names: list[str], rows: list[dict[str, str]]) -> None:
    """Writes beside the target and renames."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, fieldnames=names)
            table.writeheader()
            table.writerows(rows)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


FLUSH_SECONDS = 5.0


class Csv(CSVLogger):
    """Curves as `metrics.csv` in the run folder; the column `step` is the epoch for `by_epoch/` columns."""

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="", version="", flush_logs_every_n_steps=100)
        self._experiment: Any = None
        self.file = Path(save_dir) / "metrics.csv"
        self.rows, self.saved_at = 0, time.monotonic()

    @property
    def experiment(self) -> Any:
        """The writer of this process; only the first process writes."""
        if self._experiment is None and rank_zero_only.rank == 0:
            if not self.rows:
                self.file.unlink(missing_ok=True)  # of a run that begins anew
            self._experiment = Table(str(self.file.parent))
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        self.rows += 1
        if time.monotonic() - self.saved_at > FLUSH_SECONDS:
            self.save()

    def go_on(self, position: int) -> None:
        """Goes on after the first `position` rows of the run's file; call it before anything is written."""
        if rank_zero_only.rank or not self.file.is_file():
            return
        names, rows = read_table(self.file)
        self.rows = len(rows[:position])
        if self.rows:
            try:
                write_table(self.file, names, rows[:position])
            except OSError as error:
                raise UserError(full(self.file, error)) from error
            self.experiment.metrics_keys = names

    def position(self) -> int | None:
        """Rows written so far, or None where this process does not write them."""
        if rank_zero_only.rank:
            return None
        self.save()
        return self.rows

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the config lies beside the file."""

    @rank_zero_only
    def save(self) -> None:
        """Writes what waits; Lightning's own would write the hyper-parameters, too."""
        self.saved_at = time.monotonic()
        if self._experiment is not None:
            try:
                self.experiment.save()
            except OSError as error:
                raise UserError(full(self.file, error)) from error

    def close(self) -> None:
        self.save()
