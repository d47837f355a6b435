"""Ends a cell of a sweep early that does worse than the others did at the same epoch. The sweep adds it by itself."""

import importlib.util
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from zoo.errors import UserError


class Pruning(Callback):
    """Reports each validation to a trial of Optuna, and stops training when the median of the other trials was better.

    Keeps no state of its own: the journal has it, so a resumed run goes on reporting where it was. The run's folder
    lies in that of the sweep.

    Args:
        journal: file of the study in the sweep's folder (optuna's JournalFileBackend).
        study: name of the study in it.
        trial: number of the trial that this run is.
        monitor: what is reported; `zoo.running.trainer` puts the task's own metric in place of "auto".
        num_startup_trials: trials that run to their end before any is compared with them.
        num_warmup_epochs: epochs in which no trial is stopped.
    """

    lean = True

    def __init__(
        self,
        journal: str,
        trial: int,
        *,
        study: str = "sweep",
        monitor: str = "val/loss",
        num_startup_trials: int = 3,
        num_warmup_epochs: int = 1,
    ) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise UserError('Pruning needs Optuna: pip install -e ".[sweep]", or pip install "optuna>=4".')
        self.journal, self.number, self.name, self.monitor = journal, trial, study, monitor
        self.startup, self.warmup, self.pruned = num_startup_trials, num_warmup_epochs, False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit" or not trainer.is_global_zero:
            return
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        backend = JournalFileBackend(str(Path(trainer.default_root_dir).parent / self.journal))
        self.study = optuna.load_study(
            study_name=self.name,
            storage=optuna.storages.JournalStorage(backend),
            sampler=optuna.samplers.RandomSampler(),
            pruner=optuna.pruners.MedianPruner(self.startup, self.warmup),
        )
        self.trial = optuna.Trial(self.study, self.study.get_trials(deepcopy=False)[self.number]._trial_id)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        value, epoch = trainer.callback_metrics.get(self.monitor), trainer.current_epoch + 1
        if value is None or trainer.sanity_checking:
            return
        stop = False
        if trainer.is_global_zero:
            trial: Any = self.study.get_trials()[self.number]
            if not trial.state.is_finished():  # else: a second attempt at a cell that failed
                if epoch not in trial.intermediate_values:
                    self.trial.report(float(value), epoch)
                stop = self.trial.should_prune()
        if trainer.strategy.broadcast(stop):
            self.pruned = trainer.should_stop = True
