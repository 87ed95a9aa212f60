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
        sampler: the one that samples; it must not keep notes on the study.
    """

    def __init__(self, sampler: BaseSampler) -> None:
        self._sampler = sampler
        self._history: Study | None = None

    def reseed_rng(self) -> None:
        """Seeds the sampler anew."""
        self._sampler.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Returns the parameters that are sampled together."""
        self._history = _history(study)
        return self._sampler.infer_relative_search_space(self._history, trial)

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

    def _seen(self, study: Study) -> Study:
        """The history as it was when the trial began: all its parameters come from the same."""
        return self._history or _history(study)


def _history(study: Study) -> Study:
    """Returns the study, or with paused trials its finished and paused ones as one in memory."""
    if not any(is_paused(trial) for trial in study.get_trials(deepcopy=False)):
        return study
    history = optuna.create_study(directions=study.directions)
    finished = (TrialState.COMPLETE, TrialState.PRUNED)
    for trial in study.get_trials(deepcopy=False):
        if trial.state in finished:
            history.add_trial(trial)
        elif is_paused(trial) and trial.intermediate_values:
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
