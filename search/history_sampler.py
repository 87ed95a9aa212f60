"""A sampler that learns from paused trials, too."""

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from dashboards.summary import is_paused


class HistorySampler(BaseSampler):
    """Shows a sampler the paused trials of a study as pruned ones.

    For Optuna a paused trial is running, and a sampler learns nothing from running trials. With
    promotion most trials pause until the end, so TPE would sample at random all the time.

    Args:
        sampler: the one that samples, for one trial; it must not keep notes on the study.
    """

    def __init__(self, sampler: BaseSampler) -> None:
        self._sampler = sampler
        self._has_looked = False
        self._history: Study | None = None

    def reseed_rng(self) -> None:
        """Seeds the sampler anew."""
        self._sampler.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Returns the parameters that are sampled together."""
        return self._sampler.infer_relative_search_space(*self._seen(study, trial))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Samples these parameters."""
        return self._sampler.sample_relative(*self._seen(study, trial), search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Samples one parameter."""
        return self._sampler.sample_independent(
            *self._seen(study, trial), param_name, param_distribution
        )

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Tells the sampler of a new trial."""
        self._sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tells the sampler of a finished trial."""
        self._sampler.after_trial(study, trial, state, values)

    def _seen(self, study: Study, trial: FrozenTrial) -> tuple[Study, FrozenTrial]:
        """Returns the study as the sampler is to see it, and the trial in it.

        All parameters of a trial come from the same history, as it was when the first was asked
        for.
        """
        if not self._has_looked:
            self._has_looked, self._history = True, _history(study)
        if self._history is None:
            return study, trial
        return self._history, self._history.get_trials(deepcopy=False)[trial.number]


def _history(study: Study) -> Study | None:
    """Returns a copy in memory in which paused trials are pruned; None if none is paused."""
    trials = study.get_trials(deepcopy=False)
    if not any(is_paused(trial) for trial in trials):
        return None
    history = optuna.create_study(directions=study.directions)
    for trial in trials:
        if not (is_paused(trial) and trial.intermediate_values):
            history.add_trial(trial)
            continue
        history.add_trial(
            optuna.trial.create_trial(
                state=TrialState.PRUNED,
                value=trial.intermediate_values[max(trial.intermediate_values)],
                params=trial.params,
                distributions=trial.distributions,
                intermediate_values=trial.intermediate_values,
            )
        )
    return history
