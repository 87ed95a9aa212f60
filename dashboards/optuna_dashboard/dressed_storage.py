"""One study as optuna-dashboard reads it: the database's trials with additional attributes."""

import copy
from collections.abc import Container, Mapping, Sequence
from typing import Any, NoReturn

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from canopy_search.storage.study.read_only_storage import OneStudyStorage


def dressed(
    trial: FrozenTrial,
    params: Mapping[str, Any],
    user_attrs: Mapping[str, Any],
    system_attrs: Mapping[str, Any],
    *,
    without: str | None = None,
) -> FrozenTrial:
    """Returns a copy of a trial with additional attributes; existing ones take precedence.

    Args:
        trial: the trial from Optuna's storage.
        params: the parameters to show.
        user_attrs: user attributes to add.
        system_attrs: system attributes to add.
        without: name of one of its own user attributes to hide.
    """
    copied = copy.copy(trial)
    copied.params = dict(params)
    own = {name: value for name, value in trial.user_attrs.items() if name != without}
    copied.user_attrs = {**user_attrs, **own}
    copied.system_attrs = {**system_attrs, **trial.system_attrs}
    return copied


class DressedStorage(OneStudyStorage):
    """A read-only Optuna storage of one study at one moment.

    Args:
        study: the study as the database's storage lists it.
        study_id: the database's id of the study.
        system_attrs: system attributes of the study, in place of the listed ones.
        trials: ordered by number.
    """

    def __init__(
        self,
        study: Any,
        study_id: int,
        system_attrs: Mapping[str, Any],
        trials: Sequence[FrozenTrial],
    ) -> None:
        super().__init__(study_id, study.study_name, dict(system_attrs))
        self._listed = copy.copy(study)
        self._listed.system_attrs = dict(system_attrs)
        self._trials = list(trials)
        self._by_id = {trial._trial_id: trial for trial in trials}

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Returns the directions of the study's objectives."""
        return list(self._listed.directions)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Returns the study's user attributes."""
        return dict(self._listed.user_attrs)

    def get_all_studies(self) -> list[Any]:
        """Returns only this study."""
        return [self._listed]

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Returns the trials of the study."""
        trials = [t for t in self._trials if states is None or t.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Returns one trial."""
        return self._by_id[trial_id]

    def create_new_trial(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Raises an error, because the storage is read-only."""
        self._refuse()

    def set_trial_param(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Raises an error, because the storage is read-only."""
        self._refuse()

    def set_trial_state_values(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Raises an error, because the storage is read-only."""
        self._refuse()

    def set_trial_intermediate_value(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Raises an error, because the storage is read-only."""
        self._refuse()

    def set_trial_user_attr(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Raises an error, because the storage is read-only."""
        self._refuse()

    def set_trial_system_attr(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Raises an error, because the storage is read-only."""
        self._refuse()
