"""A study in numbers: the data of `canopy status` and `canopy trials`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from canopy_search.storage.study.epochs import EpochRecord
from canopy_search.storage.study.parameters import canonical_params
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import (
    DIVERGED,
    INTERRUPTED,
    OVERTIME,
    PAUSED,
    PROMOTED_ATTR,
    REASON_ATTR,
    RESUMED_ATTR,
    VERIFIES_ATTR,
    is_paused,
)
from canopy_search.storage.workers.control import STOP_FINISHING, STOP_PRUNING
from canopy_search.storage.workers.registry import WorkerSummary, as_json


@dataclass(frozen=True)
class TrialSummary:
    """One trial.

    Attributes:
        number: in its study.
        state: Optuna's name of the state, or ``PAUSED`` or ``INTERRUPTED``.
        params: dotted name of a parameter → value.
        val_ap: validation AP after the last epoch; None before the first.
        reason: why it was pruned or failed.
        metrics: one mapping per epoch.
        epochs_trained: epochs trained for this trial, repeated ones included.
        epochs_replayed: epochs that were reused, not trained.
        epochs_resumed: epochs that a checkpoint saved from being trained again.
        trained_s: training and validation time spent on this trial, in seconds.
        promoted_from: the pruned trial that it continues, if the user promoted one.
        ended: end, in local time.
        began: start, in local time.
        recorded: when each of its epochs was recorded.
        value: the value reported to plain Optuna, if Canopy trained none of its epochs.
        verifies: why it was started or resumed to verify the answer, if it was.
        epochs_verifying: epochs trained for that.
    """

    number: int
    state: str
    params: dict[str, Any]
    val_ap: float | None
    reason: str | None
    metrics: list[dict[str, Any]]
    epochs_trained: int
    epochs_replayed: int = 0
    epochs_resumed: int = 0
    trained_s: float = 0.0
    promoted_from: int | None = None
    ended: datetime | None = None
    began: datetime | None = None
    recorded: tuple[datetime, ...] = ()
    value: float | None = None
    verifies: str | None = None
    epochs_verifying: int = 0

    @property
    def score(self) -> float | None:
        """Validation AP, or the value of a trial of plain Optuna."""
        return self.value if self.val_ap is None else self.val_ap

    @property
    def has_gone_wrong(self) -> bool:
        """Whether it failed, diverged or ran out of time."""
        is_wrong = self.reason is not None and self.reason.startswith((DIVERGED, OVERTIME))
        return is_wrong or self.state == TrialState.FAIL.name

    @property
    def seconds(self) -> float:
        """Training and validation time of its epochs, reused ones included."""
        return sum(_seconds(epoch) for epoch in self.metrics)

    def as_json(self) -> dict[str, Any]:
        """Returns what ``canopy trials --json`` prints for it."""
        return {
            "number": self.number,
            "state": self.state,
            "params": self.params,
            "val_ap": self.val_ap,
            "value": self.value,
            "reason": self.reason,
            "promoted_from": self.promoted_from,
            "verifies": self.verifies,
            "epochs_reported": len(self.metrics),
            "epochs_trained": self.epochs_trained,
            "epochs_replayed": self.epochs_replayed,
            "epochs_resumed": self.epochs_resumed,
            "seconds": self.seconds,
            "trained_s": self.trained_s,
            "metrics": self.metrics,
        }


@dataclass(frozen=True)
class StudySummary:
    """A study and all its trials.

    Attributes:
        study: its name.
        trials: in the order of their numbers.
        workers: current and former ones, the earliest first.
        control: the user's last request; see `storage.workers.control`.
        target: requested number of finished trials; None if never requested.
    """

    study: str
    trials: list[TrialSummary]
    workers: list[WorkerSummary]
    control: str
    target: int | None

    def count(self, *states: TrialState) -> int:
        """Returns the number of trials in any of `states`."""
        names = {state.name for state in states}
        return sum(trial.state in names for trial in self.trials)

    @property
    def is_searched(self) -> bool:
        """Whether any worker is active."""
        return any(worker.is_living for worker in self.workers)

    @property
    def is_over(self) -> bool:
        """Whether no more trials start; some may still run."""
        is_stopped = self.control in {STOP_FINISHING, STOP_PRUNING}
        return is_stopped or self.target is None or self.finished >= self.target

    @property
    def paused(self) -> int:
        """Number of trials that wait at a rung."""
        return sum(trial.state == PAUSED for trial in self.trials)

    @property
    def interrupted(self) -> list[TrialSummary]:
        """The trials whose worker was lost; the next free worker resumes them."""
        return [trial for trial in self.trials if trial.state == INTERRUPTED]

    @property
    def failures(self) -> list[TrialSummary]:
        """The trials that failed, diverged or ran out of time, the latest first."""
        wrong = [trial for trial in self.trials if trial.has_gone_wrong]
        return sorted(wrong, key=lambda t: (t.ended or datetime.min, t.number), reverse=True)

    @property
    def finished(self) -> int:
        """Number of trials that count towards the target: complete and pruned ones."""
        return self.count(TrialState.COMPLETE, TrialState.PRUNED)

    @property
    def ranking(self) -> list[TrialSummary]:
        """The complete trials, best validation AP first; of equals, the earlier first."""
        complete = [trial for trial in self.trials if trial.state == TrialState.COMPLETE.name]
        return sorted(complete, key=lambda trial: (-(trial.val_ap or 0.0), trial.number))

    @property
    def best_settings(self) -> list[TrialSummary]:
        """The ranking with each setting once; a sampler may repeat one."""
        first: dict[str, TrialSummary] = {}
        for trial in self.ranking:
            first.setdefault(repr(trial.params), trial)
        return list(first.values())

    @property
    def best(self) -> TrialSummary | None:
        """The complete trial with the best validation AP."""
        return next(iter(self.ranking), None)

    @property
    def epochs_reported(self) -> int:
        """Number of epochs that trials reported."""
        return sum(len(trial.metrics) for trial in self.trials)

    @property
    def epochs_trained(self) -> int:
        """Number of epochs that were trained, repeated ones included."""
        return sum(trial.epochs_trained for trial in self.trials)

    @property
    def epochs_replayed(self) -> int:
        """Number of reported epochs that were reused, not trained."""
        return sum(trial.epochs_replayed for trial in self.trials)

    @property
    def seconds(self) -> float:
        """Training and validation time spent on the study."""
        return sum(trial.trained_s for trial in self.trials)

    def as_json(self) -> dict[str, Any]:
        """Returns what ``canopy status --json`` prints."""
        best = self.best
        return {
            "study": self.study,
            "trials": {
                "complete": self.count(TrialState.COMPLETE),
                "pruned": self.count(TrialState.PRUNED),
                "failed": self.count(TrialState.FAIL),
                "running": self.count(TrialState.RUNNING),
                "interrupted": len(self.interrupted),
                "paused": self.paused,
                "waiting": self.count(TrialState.WAITING),
                "finished": self.finished,
            },
            "best": best and {"number": best.number, "val_ap": best.val_ap, "params": best.params},
            "epochs": {
                "reported": self.epochs_reported,
                "trained": self.epochs_trained,
                "replayed": self.epochs_replayed,
            },
            "seconds": self.seconds,
            "control": self.control,
            "target": self.target,
            "workers": [as_json(worker) for worker in self.workers],
            "failures": [
                {"number": trial.number, "state": trial.state, "reason": trial.reason}
                for trial in self.failures
            ],
        }


def summarize_study(store: StudyStore, name: str) -> StudySummary:
    """Reads a study.

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
        self.epochs: Mapping[int, list[EpochRecord]] = {}

    @property
    def trials(self) -> list[FrozenTrial]:
        """Optuna's trials as of the last read; do not modify them."""
        return self._replica.get_all_trials(self._replica.study_id, deepcopy=False)

    def read(self) -> StudySummary:
        """Returns the current state of the study.

        Raises:
            UnknownStudyError: it was deleted.
        """
        store, name = self._store, self._name
        # The trials change during the read. A trial promoted after the first query is in the last
        # one; a trial that ended before the last query is not in the first one.
        without_worker = store.left_behind(name)
        store.refresh(self._replica)
        found = self.trials
        self.epochs = epochs = store.epochs(name)
        workers = store.workers(name)
        without_worker -= {worker.trial_number for worker in workers if worker.is_living}
        trials = [
            _summarize_trial(
                trial, epochs.get(trial.number, []), has_worker=trial.number not in without_worker
            )
            for trial in found
        ]
        return StudySummary(name, trials, workers, store.control(name), store.target(name))


def _summarize_trial(
    trial: FrozenTrial, epochs: list[EpochRecord], *, has_worker: bool
) -> TrialSummary:
    # The epoch that a running trial has just stored may not be reported yet.
    reported = [epoch for epoch in epochs if epoch.epoch in trial.intermediate_values]
    verifies = trial.user_attrs.get(VERIFIES_ATTR)
    return TrialSummary(
        number=trial.number,
        state=_state(trial, has_worker=has_worker),
        params=canonical_params(trial.params, trial.distributions),
        val_ap=reported[-1].metrics["val_ap"] if reported else None,
        reason=trial.user_attrs.get(REASON_ATTR),
        metrics=[epoch.metrics for epoch in reported],
        epochs_trained=sum(epoch.times_trained for epoch in epochs),
        epochs_replayed=sum(epoch.replayed for epoch in reported),
        epochs_resumed=trial.user_attrs.get(RESUMED_ATTR, 0),
        trained_s=sum(_seconds(epoch.metrics) for epoch in epochs if epoch.times_trained),
        promoted_from=trial.user_attrs.get(PROMOTED_ATTR),
        ended=trial.datetime_complete,
        began=trial.datetime_start,
        recorded=tuple(epoch.recorded for epoch in reported),
        value=None if epochs else _last_value(trial),
        verifies=verifies and verifies["kind"],
        epochs_verifying=sum(
            not epoch.replayed and epoch.epoch > verifies["from_epoch"] for epoch in reported
        )
        if verifies
        else 0,
    )


def _last_value(trial: FrozenTrial) -> float | None:
    """Returns the value, else the last intermediate value, of a trial of plain Optuna."""
    values = [*trial.intermediate_values.values(), *(trial.values or [])[:1]]
    return float(values[-1]) if values and math.isfinite(values[-1]) else None


def _state(trial: FrozenTrial, *, has_worker: bool) -> str:
    if is_paused(trial):
        return PAUSED
    is_interrupted = trial.state == TrialState.RUNNING and not has_worker
    return INTERRUPTED if is_interrupted else trial.state.name


def _seconds(metrics: Mapping[str, Any]) -> float:
    return float(metrics["train_s"] + metrics["val_s"])


def looked_at(summary: StudySummary) -> int:
    """Returns how many different settings of a study have reported an AP.

    Pruned ones count, since the continued ones were chosen among them. A setting that was tried
    twice counts once.
    """
    return len({repr(trial.params) for trial in summary.trials if trial.val_ap is not None})
