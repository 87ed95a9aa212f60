"""A study in a worker's memory: Optuna reads it there, and its writes are collected."""

import copy
from collections import Counter
from collections.abc import Callable, Container, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from canopy_search.storage.study.read_only_storage import OneStudyStorage
from canopy_search.storage.study.trial_attributes import left_out, stored_state
from canopy_search.storage.study.trial_changes import TrialChange
from canopy_search.storage.study.trial_rows import (
    Position,
    TrialForm,
    read_changes,
    read_trial_form,
    read_trials,
)

_READS = 3
_WAITING = TrialState.WAITING


class StudyReplica(OneStudyStorage):
    """An Optuna storage of one study, for one worker.

    Samplers and pruners read all trials again and again; here that is cheap. `refresh` reads what
    has changed in the database, and Optuna's writes are collected for each trial until the worker
    drains and writes them under its lease. Only one thread may use it.

    Args:
        study_id: the database's id of the study.
        name: of the study.
        system_attrs: of the study.
    """

    def __init__(self, study_id: int, name: str, system_attrs: dict[str, Any]) -> None:
        super().__init__(study_id, name, system_attrs)
        self._trials: list[FrozenTrial] = []
        self._index: dict[int, int] = {}
        self._pending: dict[int, TrialChange] = {}
        self._own: set[int] = set()
        self._stale: set[int] = set()
        self._form: TrialForm | None = None
        self._since = 0
        self._server: datetime | None = None
        self._last_id = -1
        self._new_id: Callable[[], int] | None = None

    def refresh(self, connection: sqlalchemy.Connection, *, check: bool = False) -> None:
        """Reads what other processes have changed since the last time.

        Args:
            connection: in a transaction or not; each statement sees the latest state.
            check: whether to verify that nothing was missed; other programs may write through
                Optuna, or delete.
        """
        if self._form is None:
            self._form = read_trial_form(connection, self.study_id)
        for _ in range(_READS if check else 1):
            waiting = [trial._trial_id for trial in self._trials if stored_state(trial) == _WAITING]
            position = Position(self._since, self._last_id, waiting)
            changes = read_changes(connection, self.study_id, position, count=check)
            if self._server not in {None, changes.server}:
                break
            changed = self._stale.union(changes.trial_ids) - self._own
            for trial in read_trials(connection, sorted(changed), self._form):
                self._put(trial)
            self._since, self._server = changes.horizon, changes.server
            self._stale.clear()
            # A trial that ended between the count and the read is counted in the next pass.
            if changes.counts is None or changes.counts == self._counts():
                return
        self._reload(connection)

    def forget(self) -> None:
        """Clears everything; to be called after a write that may have failed."""
        self._trials, self._index, self._pending = [], {}, {}
        self._own.clear()
        self._since, self._server, self._last_id = 0, None, -1

    def own(self, trial_id: int) -> None:
        """Marks a trial as this worker's; its state here is newer than the database's."""
        self._own.add(trial_id)

    def disown(self, trial_id: int) -> None:
        """Marks a trial as no longer this worker's; changes that were not written are dropped."""
        self._own.discard(trial_id)
        self._pending.pop(trial_id, None)
        self._stale.add(trial_id)

    def leave_out(self, trial_id: int, problem: str) -> None:
        """Leaves out a trial that the search cannot use, until it changes in the database."""
        self._put(left_out(self.get_trial(trial_id), problem))

    def drain(self, trial_id: int) -> TrialChange:
        """Returns the changes of a trial since the last time, to be written."""
        return self._pending.pop(trial_id, None) or TrialChange(trial_id)

    def pending(self) -> list[int]:
        """Returns the ids of the trials with changes that were not drained."""
        return list(self._pending)

    def allocate_ids_with(self, new_id: Callable[[], int] | None) -> None:
        """Sets the function that returns a new trial's id; without it no trial can be created."""
        self._new_id = new_id

    def discard(self, trial_id: int) -> None:
        """Removes a new trial, which must be the last one."""
        self._pending.pop(trial_id)
        self._trials.pop(self._index.pop(trial_id))

    # Optuna's storage interface.

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Returns the trials of the study; without `deepcopy` they must not be changed."""
        trials = (
            list(self._trials)
            if states is None
            else [trial for trial in self._trials if trial.state in states]
        )
        return copy.deepcopy(trials) if deepcopy else trials

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Returns one trial."""
        return self._trials[self._index[trial_id]]

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Returns the database's id of a trial."""
        if not 0 <= trial_number < len(self._trials):
            raise KeyError(f"study {self.name!r} has no trial {trial_number}")
        return self._trials[trial_number]._trial_id

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Creates a running or waiting trial, while the study is locked."""
        if self._new_id is None:
            raise RuntimeError("a trial can be created only while the study is locked")
        trial_id = self._new_id()
        now = datetime.now()
        state = template_trial.state if template_trial else TrialState.RUNNING
        trial = FrozenTrial(
            number=len(self._trials),
            trial_id=trial_id,
            state=state,
            value=None,
            values=None,
            datetime_start=None if state == TrialState.WAITING else now,
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        self._put(trial)
        change = self._change(trial_id)
        if template_trial is not None:
            self._copy_template(trial_id, template_trial)
        change.at, change.made_as = now, state
        return trial_id

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Sets a parameter that was sampled."""
        trial = self._updatable(trial_id)
        external = distribution.to_external_repr(param_value_internal)
        trial.params = {**trial.params, param_name: external}
        trial.distributions = {**trial.distributions, param_name: distribution}
        self._change(trial_id).params[param_name] = (float(param_value_internal), distribution)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Starts a waiting trial, or ends a running one."""
        before = self.get_trial(trial_id).state
        if state == TrialState.RUNNING and before != TrialState.WAITING:
            return False
        trial = self._updatable(trial_id)
        change = self._change(trial_id)
        change.at = now = datetime.now()
        trial.state = state
        if state == TrialState.RUNNING:
            trial.datetime_start, change.starts = now, True
            return True
        trial.datetime_complete, trial.values = now, values
        change.state, change.value = state, values[0] if values else None
        return True

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Reports an epoch."""
        trial = self._updatable(trial_id)
        trial.intermediate_values = {**trial.intermediate_values, step: intermediate_value}
        self._change(trial_id).reports[step] = float(intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Sets a user attribute of a trial."""
        trial = self._updatable(trial_id)
        trial.user_attrs = {**trial.user_attrs, key: value}
        self._change(trial_id).user_attrs[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Sets a system attribute of a trial."""
        trial = self._updatable(trial_id)
        trial.system_attrs = {**trial.system_attrs, key: value}
        self._change(trial_id).system_attrs[key] = value

    def _copy_template(self, trial_id: int, template: FrozenTrial) -> None:
        for name, domain in template.distributions.items():
            internal = domain.to_internal_repr(template.params[name])
            self.set_trial_param(trial_id, name, internal, domain)
        for key, value in template.user_attrs.items():
            self.set_trial_user_attr(trial_id, key, value)
        for key, value in template.system_attrs.items():
            self.set_trial_system_attr(trial_id, key, value)

    def _change(self, trial_id: int) -> TrialChange:
        return self._pending.setdefault(trial_id, TrialChange(trial_id))

    def _updatable(self, trial_id: int) -> FrozenTrial:
        """Replaces a trial by a copy and returns it: the old object stays unchanged."""
        at = self._index[trial_id]
        self.check_trial_is_updatable(trial_id, self._trials[at].state)
        trial = copy.copy(self._trials[at])
        self._trials[at] = trial
        return trial

    def _put(self, trial: FrozenTrial) -> None:
        at = self._index.get(trial._trial_id)
        if at is not None:
            self._trials[at] = trial
            return
        if trial.number != len(self._trials):
            raise ValueError(f"study {self.name!r} has no trial {len(self._trials)}")
        self._index[trial._trial_id] = trial.number
        self._trials.append(trial)
        self._last_id = max(self._last_id, trial._trial_id)

    def _counts(self) -> dict[TrialState, int]:
        return Counter(map(stored_state, self._trials))

    def _reload(self, connection: sqlalchemy.Connection) -> None:
        """Reads everything anew, except this worker's own trials."""
        own = [trial for trial in self._trials if trial._trial_id in self._own]
        changes = read_changes(connection, self.study_id, Position())
        trials = read_trials(connection, changes.trial_ids, self._form)
        self._trials, self._index, self._last_id = [], {}, -1
        for trial in trials:
            self._put(trial)
        for trial in own:
            if trial._trial_id in self._index:
                self._put(trial)
        self._since, self._server = changes.horizon, changes.server
