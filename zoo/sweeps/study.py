"""A sweep's memory with Optuna: which values come next, and what became of each cell. Cell n is trial n.

The journal is a plain file that several processes may append to: the cells report to it while they train
(zoo/callbacks/pruning.py).
"""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.sweeps.space import Axis, Point

NAME, JOURNAL = "sweep", "study.log"


def check_optuna() -> None:
    if importlib.util.find_spec("optuna") is None:
        raise UserError('This sweep needs Optuna: pip install -e ".[sweep]", or pip install "optuna>=4".')


class Study:
    """Optuna's study in the sweep's folder, begun or gone on with."""

    def __init__(self, folder: Path, mode: str, seed: int) -> None:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna, self.seed = optuna, seed
        self.study = optuna.create_study(
            study_name=NAME,
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
            direction="maximize" if mode == "max" else "minimize",
            load_if_exists=True,
        )

    def trial(self, number: int) -> Any:
        """Trial `number`, begun if it was not."""
        known = self.study.get_trials(deepcopy=False)
        # A seed of its own for each trial: what comes next follows from what was told, also after an interruption.
        self.study.sampler = self.optuna.samplers.TPESampler(seed=self.seed + number)
        if number < len(known):
            return self.optuna.Trial(self.study, known[number]._trial_id)
        while (trial := self.study.ask()).number < number:
            pass
        return trial

    def ask(self, number: int, axes: Sequence[Axis]) -> Point:
        """Where cell `number` stands; asking again gives the same answer."""
        trial = self.trial(number)
        return {one.key: self.suggest(trial, one) for one in axes}

    @staticmethod
    def suggest(trial: Any, one: Axis) -> str:
        if one.choices:
            return str(trial.suggest_categorical(one.key, one.choices))
        if one.whole:
            return str(trial.suggest_int(one.key, one.low, one.high, log=one.log))
        return str(trial.suggest_float(one.key, one.low, one.high, log=one.log))

    def tell(self, number: int, status: str, value: float | None) -> None:
        """How cell `number` ended; of one that was told before the first word stays."""
        states = self.optuna.trial.TrialState
        self.trial(number)
        if status == "pruned":
            self.study.tell(number, state=states.PRUNED, skip_if_finished=True)
        elif value is None or status != "finished" or not math.isfinite(value):
            self.study.tell(number, state=states.FAIL, skip_if_finished=True)
        else:
            self.study.tell(number, value, skip_if_finished=True)
