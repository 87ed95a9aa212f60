"""A sampler that also learns from paused trials."""

import copy
import heapq
import math
from collections.abc import Container, Sequence
from typing import Any, NoReturn

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.scheduling.trial_index import changed
from canopy_search.storage.study.read_only_storage import OneStudyStorage
from canopy_search.storage.study.trial_attributes import is_paused

_STUDY = "history"

SHOWN_TRIALS = 1000
"""Finished trials that a sampler sees. TPE's time grows with them, 50 ms at 5,000; it learns from
the best 25, and the weight of the others decreases with age."""
_BEST_TRIALS = 25


class AsPruned:
    """The trials of one study, paused ones as pruned ones, kept between calls."""

    def __init__(self) -> None:
        self._trials: list[FrozenTrial] = []
        self._shown: list[FrozenTrial] = []

    def shown(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Returns the trials as a sampler should see them; the originals are not modified.

        Optuna's storages replace a trial when they change it, so only replaced ones are copied.
        """
        if len(trials) < len(self._trials):
            self._trials, self._shown = [], []
        for number in changed(self._trials, trials):
            self._shown[number] = _as_pruned(trials[number])
        self._shown += map(_as_pruned, trials[len(self._shown) :])
        self._trials = list(trials)
        return self._shown.copy()


def _as_pruned(trial: FrozenTrial) -> FrozenTrial:
    """Returns a trial, or a pruned copy if it is paused and has reported an epoch."""
    if trial.state != TrialState.RUNNING or not trial.intermediate_values or not is_paused(trial):
        return trial
    as_pruned_trial = copy.copy(trial)
    as_pruned_trial.state = TrialState.PRUNED
    as_pruned_trial.value = trial.intermediate_values[max(trial.intermediate_values)]
    return as_pruned_trial


class PausedAsPrunedSampler(BaseSampler):
    """Shows a sampler the paused trials of a study as pruned ones.

    For Optuna a paused trial is running, and a sampler learns nothing from running trials. With
    promotion most trials stay paused until the end, so TPE would always sample at random.

    Args:
        sampler: samples one trial; it must not store state on the study.
        as_pruned: the study's paused trials as pruned ones; None for a new object.
    """

    def __init__(self, sampler: BaseSampler, as_pruned: AsPruned | None = None) -> None:
        self._sampler = sampler
        self._as_pruned = as_pruned or AsPruned()
        self._history: Study | None = None

    def reseed_rng(self) -> None:
        """Reseeds the sampler."""
        self._sampler.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Returns the parameters that are sampled together."""
        history = self._seen(study)
        if history is not study:
            trials = one_per_distributions(history.get_trials(deepcopy=False))
            history = _study_of(trials, study.directions)
        return self._sampler.infer_relative_search_space(history, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Samples these parameters."""
        return self._sampler.sample_relative(self._seen(study), trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Samples one parameter."""
        return self._sampler.sample_independent(
            self._seen(study), trial, param_name, param_distribution
        )

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Notifies the sampler of a new trial."""
        self._sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Notifies the sampler of a finished trial."""
        self._sampler.after_trial(study, trial, state, values)

    def _seen(self, study: Study) -> Study:
        """Returns the study as the sampler should see it.

        All parameters of a trial are sampled from the same history, as of the first one. The
        filtered study that Hyperband gives a sampler is left as it is; no trial pauses there.
        """
        if type(study) is not Study:
            return study
        if self._history is None:
            trials = self._as_pruned.shown(study.get_trials(deepcopy=False))
            self._history = _study_of(best_and_newest(trials, study.direction), study.directions)
        return self._history


def best_and_newest(
    trials: Sequence[FrozenTrial], direction: StudyDirection
) -> Sequence[FrozenTrial]:
    """Returns all unfinished trials, and of the finished ones the best and the newest.

    At most `SHOWN_TRIALS` finished ones. The order is TPE's (Bergstra et al., "Algorithms for
    Hyper-Parameter Optimization", NeurIPS 2011, and Optuna for pruned trials): complete trials by
    value, then pruned trials, those with the most epochs first.

    Args:
        trials: in the order of their numbers.
        direction: of the study.
    """
    finished = [at for at, trial in enumerate(trials) if trial.state.is_finished()]
    if len(finished) <= SHOWN_TRIALS:
        return trials
    sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
    best = heapq.nsmallest(_BEST_TRIALS, finished, key=lambda at: _rank(trials[at], sign))
    seen = set(best)
    newest = [at for at in finished if at not in seen][_BEST_TRIALS - SHOWN_TRIALS :]
    skipped = set(finished).difference(best, newest)
    return [trial for at, trial in enumerate(trials) if at not in skipped]


def _rank(trial: FrozenTrial, sign: float) -> tuple[float, ...]:
    """Sorts the better of two finished trials first."""
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        return 0, sign * trial.value
    if trial.state != TrialState.PRUNED or not trial.intermediate_values:
        return (2,)
    step = max(trial.intermediate_values)
    value = sign * trial.intermediate_values[step]
    return 1, -step, math.inf if math.isnan(value) else value


def one_per_distributions(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Returns the unfinished trials, and of the finished ones one for each set of distributions.

    The parameters that are sampled together depend on the distributions of the trials, not on their
    number; comparing the distributions of all trials takes a sampler the longest.
    """
    kept: list[FrozenTrial] = []
    different: list[tuple[TrialState, dict[str, BaseDistribution]]] = []
    last = None
    for trial in trials:
        seen = trial.state, trial.distributions
        if seen == last or seen in different:  # fast where both contain the same objects
            continue
        kept.append(trial)
        if trial.state.is_finished():
            different.append(seen)
            last = seen
    return kept


def _study_of(trials: Sequence[FrozenTrial], directions: list[StudyDirection]) -> Study:
    return optuna.load_study(study_name=_STUDY, storage=_History(trials, directions))


class _History(OneStudyStorage):
    """A read-only storage with some trials.

    Args:
        trials: in the order of their numbers.
        directions: of the study.
    """

    def __init__(self, trials: Sequence[FrozenTrial], directions: list[StudyDirection]) -> None:
        super().__init__(0, _STUDY, {})
        self._trials = trials
        self._directions = directions

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:  # noqa: ARG002
        """Returns the directions of the study."""
        return self._directions

    def get_all_trials(
        self,
        study_id: int,  # noqa: ARG002
        deepcopy: bool = True,  # noqa: FBT001, FBT002 - Optuna's signature
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Returns the trials."""
        trials = [trial for trial in self._trials if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Returns one trial."""
        return next(trial for trial in self._trials if trial._trial_id == trial_id)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Discards what a sampler records for other workers: they see the sampled parameters."""

    def create_new_trial(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Refuses."""
        self._refuse()

    def set_trial_param(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Refuses."""
        self._refuse()

    def set_trial_state_values(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Refuses."""
        self._refuse()

    def set_trial_intermediate_value(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Refuses."""
        self._refuse()

    def set_trial_user_attr(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Refuses."""
        self._refuse()
