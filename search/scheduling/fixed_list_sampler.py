"""A sampler that returns the settings of a fixed list."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.config.space import Params, SearchSpace
from canopy_search.search.errors import SamplerError
from canopy_search.storage.study.trial_attributes import REASON_ATTR, STOPPED

LISTED = "listed"


class FixedListSampler(BaseSampler):
    """Samples the first setting of the list that no trial is running or has finished.

    If a trial failed or the user stopped it, its setting is sampled again, so every setting of the
    list is fully trained once, and nothing else is tried.

    Args:
        settings: in their order, every parameter of each.
        space: the search space that contains them.

    Raises:
        SearchSpaceError: a setting is not in the space.
        SamplerError: a parameter is missing.
    """

    def __init__(self, settings: Sequence[Mapping[str, Any]], space: SearchSpace) -> None:
        self._space = space
        self._settings: list[Params] = []
        for index, params in enumerate(settings):
            space.check_enqueued(params)
            if missing := [name for name in space.distributions if name not in params]:
                raise SamplerError(f"search.sampler.settings[{index}]: {missing[0]} is missing")
            self._settings.append(space.canonical(params))
        self._chosen: dict[int, Params] = {}

    def is_exhausted(self, study: Study) -> bool:
        """Whether every setting has a trial that is running or finished."""
        return not self._left(study)

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002 - Optuna's signature
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """Returns no parameters: each is sampled independently."""
        return {}

    def sample_relative(
        self,
        study: Study,  # noqa: ARG002 - as above
        trial: FrozenTrial,  # noqa: ARG002
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> Params:
        """Samples nothing."""
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,  # noqa: ARG002 - as above
    ) -> Any:
        """Returns the value of a parameter in the trial's setting.

        Raises:
            SamplerError: every setting already has a trial.
        """
        if trial.number not in self._chosen:
            left = self._left(study, except_number=trial.number)
            if not left:
                raise SamplerError("every setting of the list already has a trial")
            self._chosen[trial.number] = left[0]
        return self._chosen[trial.number][param_name]

    def _left(self, study: Study, except_number: int | None = None) -> list[Params]:
        taken = [
            self._space.canonical(trial.params)
            for trial in study.get_trials(deepcopy=False)
            if trial.number != except_number and _counts(trial)
        ]
        return [params for params in self._settings if params not in taken]


def _counts(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial has tried its setting, or still does."""
    if trial.state == TrialState.PRUNED:
        return trial.user_attrs.get(REASON_ATTR) != STOPPED
    return trial.state != TrialState.FAIL
