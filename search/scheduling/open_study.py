"""A study with its storage: trials by number, and the attributes that we set on them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.scheduling.trial_index import TrialIndex
from canopy_search.storage.study.parameters import NETWORK
from canopy_search.storage.study.trial_attributes import (
    ACCUMULATION_ATTR,
    FULL_ATTR,
    PROMOTED_ATTR,
    STAGES_ATTR,
)
from canopy_search.training.optimization.accumulation import Accumulation

_KEY_CHARACTERS = 16  # of a stage key; enough to distinguish the stages of one study


@dataclass(frozen=True)
class OpenStudy:
    """An Optuna study and its storage.

    Attributes:
        study: with the sampler and pruner of its next trial.
        storage: in Postgres, or in memory for a simulation.
        counted: index of the trials, as of the last call of `trial_index`.
    """

    study: optuna.Study
    storage: BaseStorage
    counted: TrialIndex = field(default_factory=TrialIndex, repr=False, compare=False)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Returns the trials in any of `states`, or all; not to be changed."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def trial_index(self) -> TrialIndex:
        """Returns counts and ranks of all trials; each call updates the same object."""
        self.counted.update(self.trials())
        return self.counted

    def trial_id(self, number: int) -> int:
        """Returns the storage's id of a trial."""
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def resume(self, number: int) -> optuna.trial.Trial:
        """Returns a running trial in order to resume it."""
        return optuna.trial.Trial(self.study, self.trial_id(number))

    def set_stages(self, number: int, keys: list[str]) -> None:
        """Records the stages of a trial, for pruners that know the stage tree."""
        short = [key[:_KEY_CHARACTERS] for key in keys]
        self.storage.set_trial_system_attr(self.trial_id(number), STAGES_ATTR, short)


def best_ap(trials: Iterable[FrozenTrial]) -> float | None:
    """Returns the best validation AP of the complete ones of these trials."""
    complete = [trial.value for trial in trials if trial.state == TrialState.COMPLETE]
    return max((value for value in complete if value is not None), default=None)


def stage_at(trial: FrozenTrial, epoch: int) -> Any:
    """Returns what identifies the stage of `trial` at `epoch`: its key, else the trial's number."""
    stages = trial.system_attrs.get(STAGES_ATTR, ())
    return stages[epoch - 1] if epoch <= len(stages) else trial.number


def network(trial: FrozenTrial) -> Any:
    """Returns the network of a trial; None for all trials if the network is not searched."""
    return trial.params.get(NETWORK)


def best_complete(trials: Iterable[FrozenTrial]) -> FrozenTrial | None:
    """Returns the complete trial with the best value, the first of equals; None if none is."""
    complete = (trial for trial in trials if trial.state == TrialState.COMPLETE)
    return max(complete, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)


def is_promoted(trial: FrozenTrial | optuna.trial.Trial) -> bool:
    """Whether the user has promoted the trial, so that it gets all its epochs."""
    return PROMOTED_ATTR in trial.user_attrs


def runs_to_end(trial: FrozenTrial | optuna.trial.Trial) -> bool:
    """Whether no pruner applies: the trial is a baseline, or the user promoted it."""
    return FULL_ATTR in trial.user_attrs or is_promoted(trial)


def accumulation_of(trial: FrozenTrial | optuna.trial.Trial) -> tuple[Accumulation, ...]:
    """Returns how the batches of a trial are split since memory ran out; empty if it did not."""
    return tuple(Accumulation(*entry) for entry in trial.user_attrs.get(ACCUMULATION_ATTR, ()))


def keep_accumulation(trial: optuna.trial.Trial, accumulation: Sequence[Accumulation]) -> None:
    """Records how the batches of a trial are split, for the worker that resumes it."""
    entries = [[entry.from_epoch, entry.steps] for entry in accumulation]
    trial.set_user_attr(ACCUMULATION_ATTR, entries)
