"""Reads from the database what workers on other machines do, as the events that they emit there."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from canopy_search.dashboards.study.model import training_s
from canopy_search.search.events import (
    BatchDone,
    EpochDone,
    Event,
    Note,
    SharedPrefix,
    TrialEnded,
    TrialStarted,
)
from canopy_search.search.scheduling.open_study import best_ap
from canopy_search.search.scheduling.trial_index import TrialIndex, changed
from canopy_search.storage.connection.retry import is_unavailability
from canopy_search.storage.database import Database
from canopy_search.storage.stages.stages import StageStore
from canopy_search.storage.study.epochs import EpochRecord
from canopy_search.storage.study.parameters import canonical_params
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import REASON_ATTR, is_paused, paused_at
from canopy_search.storage.workers.registry import WorkerSummary

WorkerEvent = tuple[int | None, Event]
"""Id of a worker in the database, if it is known, and an event of it."""


class DatabaseWatcher:
    """Turns each change of a study since the last look into an event.

    Events of a trial that a worker started and ended between two looks have no worker.

    Args:
        database: an open one; no connection stays open between two looks.
        study: name of the study, which exists.
        epochs: epochs of a full run.
    """

    def __init__(self, database: Database, study: str, epochs: int) -> None:
        self._database = database
        self._study = study
        self._epochs = epochs
        self._store = StudyStore(database)
        self._replica = self._store.open_replica(study)
        self._index = TrialIndex()
        self._running: dict[int, int] = {}
        self._is_unavailable = False
        self._trials = self._read()
        open_ = [trial.number for trial in self._trials if not trial.state.is_finished()]
        known = self._store.epochs(study, open_)
        self._spent = {number: _spent(known[number]) for number in known}

    def poll(self) -> list[WorkerEvent]:
        """Returns what has happened since the last look."""
        try:
            return self._poll()
        except SQLAlchemyError as error:
            if not is_unavailability(error):
                raise
            is_known, self._is_unavailable = self._is_unavailable, True
            text = "the database is unavailable; the workers retry, and continue when it is back"
            return [] if is_known else [(None, Note(text))]
        finally:
            self._database.close()

    def _poll(self) -> list[WorkerEvent]:
        before, trials = self._trials, self._read()
        workers = [worker for worker in self._store.workers(self._study) if worker.is_living]
        self._is_unavailable = False
        events = [*self._ended(before, trials), *self._followed(workers, before, trials)]
        self._trials = trials
        return events

    def _read(self) -> list[FrozenTrial]:
        self._store.refresh(self._replica)
        trials = self._replica.get_all_trials(self._replica.study_id, deepcopy=False)
        self._index.update(trials)
        return trials

    def _ended(
        self, before: Sequence[FrozenTrial], trials: Sequence[FrozenTrial]
    ) -> Iterator[WorkerEvent]:
        ended, dropped = [], 0
        for number in [*changed(before, trials), *range(len(before), len(trials))]:
            trial = trials[number]
            old = before[number] if number < len(before) else None
            if not _is_settled(trial):
                continue
            if old is not None and _is_settled(old):
                if (old.state, paused_at(old)) == (trial.state, paused_at(trial)):
                    continue
                if len(old.intermediate_values) == len(trial.intermediate_values):
                    dropped += 1  # at the end of the search
                    continue
            ended.append(number)
        epochs = self._store.epochs(self._study, ended) if ended else {}
        workers = {number: worker_id for worker_id, number in self._running.items()}
        order = sorted(ended, key=lambda n: (trials[n].datetime_complete or datetime.max, n))
        later = set(order)
        counts = {
            number
            for number in order
            if trials[number].state != TrialState.FAIL
            and (number >= len(before) or not _is_settled(before[number]))
        }
        for number in order:
            later.discard(number)
            trial = trials[number]
            spent = _spent(epochs.get(number, []))
            trained, seconds = self._spent.get(number, (0, 0.0))
            self._spent[number] = spent
            event = TrialEnded(
                number,
                canonical_params(trial.params, trial.distributions),
                trial.state,
                trial.intermediate_values.get(max(trial.intermediate_values, default=0)),
                epochs=len(trial.intermediate_values),
                trained=spent[0] - trained,
                seconds=spent[1] - seconds,
                settled=self._index.settled - len(later & counts),
                best=best_ap(trial for trial in trials if trial.number not in later),
                reason=trial.user_attrs.get(REASON_ATTR),
                shared_prefix=self._shared_prefix(number, epochs.get(number, [])),
            )
            worker_id = workers.get(number)
            if worker_id is not None:
                del self._running[worker_id]
            yield worker_id, event
        if dropped:
            yield None, Note(f"{dropped} paused trials are marked pruned")

    def _followed(
        self,
        workers: Sequence[WorkerSummary],
        before: Sequence[FrozenTrial],
        trials: Sequence[FrozenTrial],
    ) -> Iterator[WorkerEvent]:
        """Yields what the living workers do now."""
        for worker in workers:
            number = worker.trial_number
            if number is None or number >= len(trials) or _is_settled(trials[number]):
                continue
            trial = trials[number]
            known = len(before[number].intermediate_values) if number < len(before) else 0
            if self._running.get(worker.id) != number:
                self._running[worker.id] = number
                params = canonical_params(trial.params, trial.distributions)
                epochs = self._store.epochs(self._study, [number]).get(number, [])
                prefix = self._shared_prefix(number, epochs)
                yield worker.id, TrialStarted(number, params, known, prefix)
            if len(trial.intermediate_values) > known:
                epoch = max(trial.intermediate_values)
                best = self._index.best_at(epoch, except_number=number)
                val_ap = trial.intermediate_values[epoch]
                yield worker.id, EpochDone(epoch, self._epochs, val_ap, best)
            doing = worker.doing
            if doing is not None and doing["trial"] == number and doing["batches"]:
                yield worker.id, BatchDone(doing["epoch"], doing["batch"], doing["batches"])

    def _shared_prefix(self, number: int, epochs: Sequence[EpochRecord]) -> SharedPrefix | None:
        """Returns which other trial trained the first epochs of a trial, if one did."""
        keys = [epoch.stage for epoch in epochs if epoch.replayed and epoch.stage is not None]
        if not keys:
            return None
        stage = StageStore(self._database, None).known(keys[-1:]).get(keys[-1])
        is_here = stage is not None and stage.study == self._study
        if stage is None or (is_here and stage.trial_number == number):
            return None
        return SharedPrefix(stage.epoch, stage.trial_number, None if is_here else stage.study)


def _is_settled(trial: FrozenTrial) -> bool:
    return trial.state.is_finished() or is_paused(trial)


def _spent(epochs: Sequence[EpochRecord]) -> tuple[int, float]:
    """Returns how many epochs were trained for a trial, and in how many seconds."""
    seconds = sum(epoch.times_trained * training_s(epoch.metrics) for epoch in epochs)
    return sum(epoch.times_trained for epoch in epochs), seconds
