"""The median pruner, which counts an epoch that several trials share once."""

import statistics
from collections.abc import Sequence
from typing import Any

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.scheduling.open_study import stage_at


class TreeMedianPruner(BasePruner):
    """Prunes a trial whose best AP so far is below the median of the others at this epoch.

    It is the rule of Optuna's MedianPruner, with the same parameters and one difference: trials
    that share an epoch are one branch there and count once. A median over trials would count the
    shared prefix of a setting that the sampler prefers as often as it was tried.

    Args:
        n_startup_trials: complete trials before the first decision.
        n_warmup_steps: epochs of a trial without a decision.
        interval_steps: epochs between decisions.
        n_min_trials: branches that must have reached an epoch for a decision there.

    Raises:
        ValueError: a number is out of range.

    References:
        Golovin et al., Google Vizier, KDD 2017, section 3.2 (median stopping).
    """

    def __init__(
        self,
        n_startup_trials: int = 5,
        n_warmup_steps: int = 0,
        interval_steps: int = 1,
        n_min_trials: int = 1,
    ) -> None:
        smallest = {"n_startup_trials": 0, "n_warmup_steps": 0, "interval_steps": 1}
        given = {
            "n_startup_trials": n_startup_trials,
            "n_warmup_steps": n_warmup_steps,
            "interval_steps": interval_steps,
            "n_min_trials": n_min_trials,
        }
        for name, value in given.items():
            if value < smallest.get(name, 1):
                raise ValueError(f"{name} is {value}; expected at least {smallest.get(name, 1)}")
        self._n_startup_trials = n_startup_trials
        self._n_warmup_steps = n_warmup_steps
        self._interval_steps = interval_steps
        self._n_min_trials = n_min_trials
        self._branches = _Branches()

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Returns whether `trial` is pruned after its latest epoch."""
        epoch = trial.last_step
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if epoch is None or not complete or len(complete) < self._n_startup_trials:
            return False
        if not self._decides_at(epoch):
            return False
        branches = self._branches.at(epoch, complete)
        if len(branches) < self._n_min_trials:
            return False
        return max(trial.intermediate_values.values()) < statistics.median(branches)

    def _decides_at(self, epoch: int) -> bool:
        """Whether a trial that reports every epoch is judged at this one."""
        if epoch < self._n_warmup_steps:
            return False
        past = (epoch - self._n_warmup_steps) % self._interval_steps
        return past == 0 or epoch == 1


class _Branches:
    """The branches of a study's complete trials, kept between decisions."""

    def __init__(self) -> None:
        self._known: dict[int, FrozenTrial] = {}
        self._at: dict[int, dict[Any, tuple[int, float]]] = {}

    def at(self, epoch: int, complete: Sequence[FrozenTrial]) -> list[float]:
        """Returns the AP of every branch at an epoch, as the last trial on it reported it.

        Args:
            epoch: counts from 1.
            complete: all complete trials of the study.
        """
        new = [trial for trial in complete if self._known.get(trial.number) is not trial]
        old = [trial for trial in new if trial.number in self._known]
        if len(self._known) + len(new) - len(old) != len(complete) or any(
            _branches(trial) != _branches(self._known[trial.number]) for trial in old
        ):  # another study, or one whose trials were edited
            self._known, self._at, new = {}, {}, list(complete)
        for trial in new:
            self._known[trial.number] = trial
            for reported, stage, val_ap in _branches(trial):
                at = self._at.setdefault(reported, {})
                at[stage] = max(at.get(stage, (-1, 0.0)), (trial.number, val_ap))
        return [val_ap for _, val_ap in self._at.get(epoch, {}).values()]


def _branches(trial: FrozenTrial) -> list[tuple[int, Any, float]]:
    """Returns epoch, stage and AP of everything that a trial reported."""
    return [
        (epoch, stage_at(trial, epoch), val_ap)
        for epoch, val_ap in trial.intermediate_values.items()
    ]
