"""The trial queue: gives trials to the workers of a study, one worker at a time."""

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from optuna.trial import TrialState
from sqlalchemy.dialects import postgresql

from canopy_search.storage.errors import StudyGoneError
from canopy_search.storage.schema.tables import TRIAL
from canopy_search.storage.study.replica import StudyReplica
from canopy_search.storage.study.trial_changes import (
    Lease,
    TrialChange,
    write_change,
    write_leased,
    write_new,
)
from canopy_search.storage.workers.deaths import living_places, places_of_deaths
from canopy_search.storage.workers.registry import LIVING, remove_dead_workers, suspects
from canopy_search.storage.workers.session import WorkerSession

_LOCK = sqlalchemy.text("SELECT 1 FROM studies WHERE study_id = :study_id FOR UPDATE")
# A worker that waits for the study keeps a connection open. If these are throttled, a limited
# number of workers may wait, and the others retry later.
_LOCK_AS_WAITER = sqlalchemy.text("""
    SELECT 1 FROM studies
    WHERE study_id = :study_id AND pg_try_advisory_xact_lock(:study_id, :place) FOR UPDATE
""")
_WAITERS_SHARE, _WAITERS_IN_POOL = 0.25, 5
_SNAPSHOT = sqlalchemy.text("SELECT control, target FROM canopy_study WHERE study_id = :study_id")
_LEASES = sqlalchemy.text("""
    SELECT number, worker, state, deaths FROM canopy_trial JOIN trials USING (trial_id)
    WHERE study_id = :study_id AND (worker IS NOT NULL OR deaths > 0)
""")
# The trials of dead workers become free; a trial may be the reason for a death.
_ORPHAN = sqlalchemy.text(f"""
    WITH orphan AS (
        SELECT trial_id, number, worker FROM canopy_trial JOIN trials USING (trial_id)
        WHERE study_id = :study_id AND worker IS NOT NULL AND worker NOT IN ({LIVING})),
    freed AS (
        UPDATE canopy_trial AS lease SET worker = NULL, deaths = deaths + 1 FROM orphan
        WHERE lease.trial_id = orphan.trial_id AND lease.worker = orphan.worker)
    UPDATE canopy_worker AS dead SET doing = json_build_object('trial', number)
    FROM orphan WHERE dead.id = orphan.worker
""")  # noqa: S608 - our own text
# A worker that takes a trial trains nothing. Others may wait for the leases of its last trial.
_TRAINS_NOTHING = sqlalchemy.text("DELETE FROM canopy_stage_lease WHERE worker = :me")
_NEW_ID = sqlalchemy.text("SELECT nextval(pg_get_serial_sequence('trials', 'trial_id'))")
_XID = sqlalchemy.text("CAST(CAST(pg_current_xact_id() AS text) AS bigint)")
# Of the trials that did not fail only the last one matters: it ends a series of failures.
_ENDED = """
    SELECT number, state, ended FROM canopy_trial JOIN trials USING (trial_id)
    JOIN canopy_study USING (study_id)
    WHERE study_id = :study_id AND ended IS NOT NULL AND (launched IS NULL OR ended >= launched)
"""
_OUTCOMES = sqlalchemy.text(f"""
    {_ENDED} AND trial_id = ANY(:failed) UNION ALL
    ({_ENDED} AND state <> 'FAIL' ORDER BY ended DESC LIMIT 1) ORDER BY ended DESC
""")

_FIRST_PAUSE_S = 0.2


@dataclass
class StudySnapshot:
    """The state of a study while it is locked for one worker.

    Attributes:
        control: control state of the study; see `storage.workers.control`.
        target: target number of finished trials; None if it is not set.
        leased: trial number → live worker that has its lease.
        suspected: numbers of those trials whose worker may be dead, which is known shortly.
        mine: numbers of those trials that this worker has.
        deaths: trial number → workers that died on it since its last progress, if any.
        died_at: trial number → the places where these workers died, most often first.
        places: where workers of the study live; read only if a trial failed or workers died.
        outcomes: numbers and final states of the trials since the last launch, the latest first:
            all that failed, and the last one that did not; empty if none failed.
        taken: number of the trial that this worker takes, to be set.
    """

    control: str
    target: int | None
    leased: dict[int, int]
    suspected: set[int]
    mine: set[int]
    deaths: dict[int, int]
    died_at: dict[int, Counter[str]]
    places: set[str]
    outcomes: list[tuple[int, TrialState]]
    taken: int | None = None

    @property
    def owned(self) -> set[int]:
        """The numbers of the trials that other workers have."""
        return set(self.leased) - self.mine


class TrialQueue:
    """The trial queue of a study, for one worker.

    Args:
        engine: of the database.
        session: of the worker.
        study_id: the database's id of the study.
        name: of the study.
        system_attrs: of the study.

    Attributes:
        session: as given.
        replica: the study in memory, which Optuna reads.
    """

    def __init__(
        self,
        engine: sqlalchemy.Engine,
        session: WorkerSession,
        study_id: int,
        name: str,
        system_attrs: dict[str, Any],
    ) -> None:
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self.session = session
        self._study_id = study_id
        self.replica = StudyReplica(study_id, name, system_attrs)
        self._leases: dict[int, Lease] = {}

    def refresh(self) -> None:
        """Reads the changes of other workers."""
        with self._single.connect() as connection:
            self.replica.refresh(connection)

    @contextmanager
    def locked(self) -> Iterator[StudySnapshot]:
        """Locks the study while this worker chooses its next trial.

        The changes of the replica and the lease of the trial that is `taken` are committed
        together at the end. If a worker does not get the result of the commit, it finds its trial
        in `StudySnapshot.mine` the next time.

        Raises:
            StudyGoneError: the study was deleted.
        """
        replica = self.replica
        try:
            for attempt in itertools.count():
                with self._engine.begin() as connection:
                    if self._lock(connection):
                        snapshot = self._snapshot(connection)
                        replica.allocate_ids_with(
                            lambda: int(connection.execute(_NEW_ID).scalar_one())
                        )
                        known = len(replica.get_all_trials(self._study_id, deepcopy=False))
                        yield snapshot
                        lease = self._write(connection, snapshot, known)
                        break
                longest_s = max(2 * _FIRST_PAUSE_S, self.session.longest_pause_s / 2)
                time.sleep(random.uniform(0.5, 1) * min(longest_s, _FIRST_PAUSE_S * 2**attempt))
        except BaseException:
            replica.forget()
            raise
        finally:
            replica.allocate_ids_with(None)
        if lease is not None:
            self._leases[lease.trial_id] = lease
            replica.own(lease.trial_id)

    def lease(self, trial_id: int) -> Lease:
        """Returns the lease of a trial that this worker has taken."""
        return self._leases[trial_id]

    def give_back(self, trial_id: int) -> None:
        """Removes a trial that this worker has released, ended or lost."""
        self._leases.pop(trial_id, None)
        self.replica.disown(trial_id)

    def write(self, change: TrialChange, lease: Lease, before: int) -> None:
        """Writes a change of a leased trial; see `write_leased`."""
        with self._engine.begin() as connection:
            write_leased(connection, change, lease, before)

    def _lock(self, connection: sqlalchemy.Connection) -> bool:
        """Locks the study, unless too many workers wait for it; returns whether it is locked."""
        values = {"study_id": self._study_id}
        load = self.session.load
        if not (self.session.is_throttled or load.is_pooled):
            connection.execute(_LOCK, values)
            return True
        # The number of a pooler's connections is unknown.
        waiters = _WAITERS_IN_POOL if load.is_pooled else int(_WAITERS_SHARE * load.connections)
        values["place"] = random.randrange(max(2, waiters))
        if connection.execute(_LOCK_AS_WAITER, values).first() is not None:
            return True
        return connection.execute(_SNAPSHOT, values).first() is None  # it was deleted

    def _snapshot(self, connection: sqlalchemy.Connection) -> StudySnapshot:
        values = {"study_id": self._study_id}
        row = connection.execute(_SNAPSHOT, values).first()
        if row is None:
            raise StudyGoneError(
                f"study {self.replica.name!r} was deleted during the search; start it again "
                "or choose another one with --study"
            )
        if not self.session.is_recovering:
            remove_dead_workers(connection, self.session.worker)
        connection.execute(_ORPHAN, values)
        connection.execute(_TRAINS_NOTHING, {"me": self.session.worker})
        leases = connection.execute(_LEASES, values).all()
        leased = {row.number: row.worker for row in leases if row.worker is not None}
        others = set(leased.values()) - {self.session.worker}
        suspected = suspects(connection, self.session.worker) if others else set()
        self.replica.refresh(connection, check=True)
        deaths = {
            row.number: row.deaths
            for row in leases
            if row.deaths and row.state == TrialState.RUNNING.name
        }
        outcomes = self._outcomes(connection)
        return StudySnapshot(
            control=row.control,
            target=row.target,
            leased=leased,
            suspected={number for number, worker in leased.items() if worker in suspected},
            mine={number for number, worker in leased.items() if worker == self.session.worker},
            deaths=deaths,
            died_at=places_of_deaths(connection, self._study_id, deaths) if deaths else {},
            places=living_places(connection, self._study_id) if deaths or outcomes else set(),
            outcomes=outcomes,
        )

    def _outcomes(self, connection: sqlalchemy.Connection) -> list[tuple[int, TrialState]]:
        states = (TrialState.FAIL,)
        failed = self.replica.get_all_trials(self._study_id, deepcopy=False, states=states)
        if not failed:
            return []
        values = {"study_id": self._study_id, "failed": [trial._trial_id for trial in failed]}
        rows = connection.execute(_OUTCOMES, values)
        return [(row.number, TrialState[row.state]) for row in rows]

    def _write(
        self, connection: sqlalchemy.Connection, snapshot: StudySnapshot, known: int
    ) -> Lease | None:
        replica = self.replica
        lease = None
        for trial_id in replica.pending():
            number = replica.get_trial(trial_id).number
            change = replica.drain(trial_id)
            if number >= known:
                write_new(connection, self._study_id, number, change)
            else:
                write_change(connection, change)
            if number != snapshot.taken:
                self._set_holder(connection, trial_id, None, ends=change.ends)
        if snapshot.taken is not None:
            trial_id = replica.get_trial_id_from_study_id_trial_number(
                self._study_id, snapshot.taken
            )
            token = self._set_holder(connection, trial_id, self.session.worker)
            lease = Lease(trial_id, snapshot.taken, self.session.worker, token)
        return lease

    def _set_holder(
        self,
        connection: sqlalchemy.Connection,
        trial_id: int,
        worker: int | None,
        *,
        ends: bool = False,
    ) -> int:
        """Gives the lease of a trial to a worker, or releases it; returns its new token."""
        now = sqlalchemy.func.now()
        row: dict[str, Any] = {
            "worker": worker,
            "writes": 0,
            "changed": sqlalchemy.literal_column(_XID.text),
            "taken": now if worker is not None else None,
            "ended": now if ends else None,
        }
        insert = postgresql.insert(TRIAL).values(trial_id=trial_id, token=1, **row)
        update = insert.on_conflict_do_update(
            index_elements=[TRIAL.c.trial_id], set_={**row, "token": TRIAL.c.token + 1}
        )
        return int(connection.execute(update.returning(TRIAL.c.token)).scalar_one())
