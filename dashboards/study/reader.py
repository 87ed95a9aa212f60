"""Reads a study and its trials; again and again, only what has changed."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeGuard

from optuna.trial import FrozenTrial, TrialState

from canopy_search.dashboards.study.model import StudyData, TrialData, training_s
from canopy_search.storage.study.epochs import EpochRecord
from canopy_search.storage.study.parameters import canonical_params
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import (
    ACCUMULATION_ATTR,
    INTERRUPTED,
    PAUSED,
    PROMOTED_ATTR,
    REASON_ATTR,
    RESUMED_ATTR,
    VERIFIES_ATTR,
    is_paused,
)


def read_trials(store: StudyStore, name: str) -> StudyData:
    """Reads a study and its trials, without predictions and confirmation.

    Raises:
        UnknownStudyError: no study has that name.
    """
    return StudyReader(store, name).read()


class StudyReader:
    """Reads a study repeatedly; of its trials, only those that changed.

    Args:
        store: the studies of the database.
        name: the study's name.

    Attributes:
        epochs: trial number → its epochs, as of the last read.

    Raises:
        UnknownStudyError: no study has that name.
        DatabaseSchemaError: another version of Optuna changed its tables.
    """

    def __init__(self, store: StudyStore, name: str) -> None:
        self._store = store
        self._name = name
        self._replica = store.open_replica(name)
        study = store.load_study(name)
        names = study.metric_names
        self._metric = names[0] if names else "value"
        self._higher_is_better = study.directions[0].name != "MINIMIZE"
        self._objectives = len(study.directions)
        self._record: dict[str, Any] | None = None
        self.epochs: Mapping[int, list[EpochRecord]] = {}

    @property
    def trials(self) -> list[FrozenTrial]:
        """Optuna's trials as of the last read; do not modify them."""
        return self._replica.get_all_trials(self._replica.study_id, deepcopy=False)

    def read(self, *, epochs: bool = True) -> StudyData:
        """Returns the current state of the study.

        Args:
            epochs: whether to read what Canopy recorded of each epoch; without it trials have only
                what plain Optuna knows, which is much less to read.

        Raises:
            UnknownStudyError: it was deleted.
        """
        store, name = self._store, self._name
        # The trials change during the read. A trial promoted after the first query is in the last
        # one; a trial that ended before the last query is not in the first one.
        without_worker = store.left_behind(name)
        store.refresh(self._replica)
        found = self.trials
        self.epochs = recorded = store.epochs(name) if epochs else {}
        workers = store.workers(name)
        without_worker -= {worker.trial_number for worker in workers if worker.is_living}
        trials = [
            _trial_data(
                trial, recorded.get(trial.number, []), has_worker=trial.number not in without_worker
            )
            for trial in found
        ]
        if self._record is None:  # once written, it does not change
            self._record = store.read_record(name)
        return StudyData(
            name,
            trials,
            workers,
            store.control(name),
            store.target(name),
            distributions={n: d for trial in found for n, d in trial.distributions.items()},
            read=datetime.now(),
            metric=self._metric if self._record is None else "validation AP",
            higher_is_better=self._higher_is_better,
            objectives=self._objectives,
            record=self._record,
        )


def _trial_data(trial: FrozenTrial, epochs: list[EpochRecord], *, has_worker: bool) -> TrialData:
    # The epoch that a running trial has just stored may not be reported yet.
    reported = [epoch for epoch in epochs if epoch.epoch in trial.intermediate_values]
    verifies = trial.user_attrs.get(VERIFIES_ATTR)
    return TrialData(
        number=trial.number,
        state=_state(trial, has_worker=has_worker),
        params=canonical_params(trial.params, trial.distributions),
        val_ap=reported[-1].metrics["val_ap"] if reported else None,
        reason=trial.user_attrs.get(REASON_ATTR),
        metrics=[epoch.metrics for epoch in reported],
        epochs_trained=sum(epoch.times_trained for epoch in epochs),
        epochs_replayed=sum(epoch.replayed for epoch in reported),
        epochs_resumed=trial.user_attrs.get(RESUMED_ATTR, 0),
        trained_s=sum(training_s(epoch.metrics) for epoch in epochs if epoch.times_trained),
        promoted_from=trial.user_attrs.get(PROMOTED_ATTR),
        ended=trial.datetime_complete,
        began=trial.datetime_start,
        value=None if epochs else _last_value(trial),
        verifies=verifies and verifies["kind"],
        epochs_verifying=sum(
            not epoch.replayed and epoch.epoch > verifies["from_epoch"] for epoch in reported
        )
        if verifies
        else 0,
        curve=_curve(trial, reported),
        stages=tuple(reported),
        accumulation=trial.user_attrs.get(ACCUMULATION_ATTR, ()),
    )


def _curve(trial: FrozenTrial, reported: Sequence[EpochRecord]) -> tuple[tuple[int, float], ...]:
    if reported:
        pairs = [(epoch.epoch, epoch.metrics.get("val_ap")) for epoch in reported]
    else:
        pairs = sorted(trial.intermediate_values.items())
    return tuple((epoch, float(score)) for epoch, score in pairs if is_number(score))


def is_number(score: Any) -> TypeGuard[float]:
    """Whether a score is a finite number."""
    return isinstance(score, int | float) and math.isfinite(score)


def _last_value(trial: FrozenTrial) -> float | None:
    """Returns the value, else the last intermediate value, of a trial of plain Optuna."""
    reports = sorted(trial.intermediate_values.items())
    values = [*(value for _, value in reports), *(trial.values or [])[:1]]
    return float(values[-1]) if values and math.isfinite(values[-1]) else None


def _state(trial: FrozenTrial, *, has_worker: bool) -> str:
    if is_paused(trial):
        return PAUSED
    is_interrupted = trial.state == TrialState.RUNNING and not has_worker
    return INTERRUPTED if is_interrupted else trial.state.name
