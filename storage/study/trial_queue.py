"""Where a worker of a study gets its trials, one worker at a time."""

import itertools
import random
import time
from collections.abc import Iterator, Mapping
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
from canopy_search.storage.workers.registry import LIVING, reap, suspects
from canopy_search.storage.workers.session import WorkerSession

_LOCK = sqlalchemy.text("SELECT 1 FROM studies WHERE study_id = :study_id FOR UPDATE")
# Whoever waits for the study has a connection meanwhile. Where these are scarce, there are so many
# places to wait at, and others come again later.
_LOCK_FROM_PLACE = sqlalchemy.text("""
    SELECT 1 FROM studies
    WHERE study_id = :study_id AND pg_try_advisory_xact_lock(:study_id, :place) FOR UPDATE
""")
_PLACES_SHARE, _PLACES_IN_POOL = 0.25, 5
_SNAPSHOT = sqlalchemy.text("SELECT control, target FROM canopy_study WHERE study_id = :study_id")
_LEASES = sqlalchemy.text("""
    SELECT number, worker, state, deaths FROM canopy_trial JOIN trials USING (trial_id)
    WHERE study_id = :study_id AND (worker IS NOT NULL OR deaths > 0)
""")
# Whoever dies leaves its trials behind, and may have died of them.
_ORPHAN = sqlalchemy.text(f"""
    UPDATE canopy_trial AS lease SET worker = NULL, deaths = deaths + 1
    FROM trials WHERE trials.trial_id = lease.trial_id AND study_id = :study_id
      AND worker IS NOT NULL AND worker NOT IN ({LIVING})
""")  # noqa: S608 - our own text
# Whoever asks trains nothing. What it had leased when its last trial paused, others wait for.
_TRAINS_NOTHING = sqlalchemy.text("DELETE FROM canopy_stage_lease WHERE worker = :me")
_NEW_ID = sqlalchemy.text("SELECT nextval(pg_get_serial_sequence('trials', 'trial_id'))")
_XID = sqlalchemy.text("CAST(CAST(pg_current_xact_id() AS text) AS bigint)")
# Of the others only the last one matters, which ends a row of failed ones.
_ENDED = """
    SELECT state, ended FROM canopy_trial JOIN trials USING (trial_id)
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
    """How a study stands, as one worker sees it while nobody else decides.

    Attributes:
        control: what a person wants of the study; see `storage.workers.control`.
        target: finished trials that are wanted; None if nobody has said yet.
        leased: number of a trial → the living worker whose it is.
        suspected: the numbers of those whose worker may be dead, which is known in a moment.
        mine: the numbers of those that are this worker's own.
        deaths: number of a trial → how many workers died of it since it moved on last, if any did.
        outcomes: how the trials since the last launch ended, the latest first: all that failed, and
            the last one that did not; empty if none failed.
        taken: the number of the trial that is taken, to be set.
    """

    control: str
    target: int | None
    leased: dict[int, int]
    suspected: set[int]
    mine: set[int]
    deaths: dict[int, int]
    outcomes: list[TrialState]
    taken: int | None = None

    @property
    def owned(self) -> set[int]:
        """The numbers of the trials that other workers run."""
        return set(self.leased) - self.mine


class TrialQueue:
    """A study as one worker works on it.

    Args:
        engine: of the database.
        session: of the worker.
        study_id: the database's id of the study.
        name: of the study.
        system_attrs: of the study.

    Attributes:
        replica: the study in memory; what Optuna reads.
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
        self._session = session
        self._study_id = study_id
        self.worker = session.worker
        self.replica = StudyReplica(study_id, name, system_attrs)
        self._leases: dict[int, Lease] = {}

    def refresh(self) -> None:
        """Reads what other workers have done."""
        with self._single.connect() as connection:
            self.replica.refresh(connection)

    @contextmanager
    def locked(self) -> Iterator[StudySnapshot]:
        """Locks the study for this worker, which decides what it does next.

        What is changed in the replica meanwhile, and who has the trial that is `taken`, is
        committed at the end, or nothing of it. A worker that does not learn whether it was
        committed finds its trial in `StudySnapshot.mine` the next time.

        Raises:
            StudyGoneError: the study was deleted.
        """
        replica = self.replica
        try:
            for attempt in itertools.count():
                with self._engine.begin() as connection:
                    if self._lock(connection):
                        snapshot = self._look(connection)
                        replica.number_with(lambda: int(connection.execute(_NEW_ID).scalar_one()))
                        known = len(replica.get_all_trials(self._study_id, deepcopy=False))
                        yield snapshot
                        lease = self._write(connection, snapshot, known)
                        break
                longest_s = max(2 * _FIRST_PAUSE_S, self._session.longest_pause_s / 2)
                time.sleep(random.uniform(0.5, 1) * min(longest_s, _FIRST_PAUSE_S * 2**attempt))
        except BaseException:
            replica.forget()
            raise
        finally:
            replica.number_with(None)
        if lease is not None:
            self._leases[lease.trial_id] = lease
            replica.own(lease.trial_id)

    def lease(self, trial_id: int) -> Lease:
        """Returns the lease of a trial that this worker has taken."""
        return self._leases[trial_id]

    def give_back(self, trial_id: int) -> None:
        """Forgets a trial that this worker has released, ended or lost."""
        self._leases.pop(trial_id, None)
        self.replica.disown(trial_id)

    def write(self, change: TrialChange, lease: Lease, before: int) -> None:
        """Writes a change of a leased trial; see `write_leased`."""
        with self._engine.begin() as connection:
            write_leased(connection, change, lease, before)

    def wanted(self) -> str:
        """Returns what a person wanted of the study a moment ago; see `storage.workers.control`."""
        return self._session.wanted

    @property
    def longest_pause_s(self) -> float:
        """How long a worker of so many may sleep between two looks for work; 0 for few."""
        return self._session.longest_pause_s

    def say(self, doing: Mapping[str, Any] | None) -> None:
        """Sets what this worker does, for people; it counts as progress."""
        self._session.say(doing)

    def _lock(self, connection: sqlalchemy.Connection) -> bool:
        """Locks the study, unless too many wait for it already."""
        values = {"study_id": self._study_id}
        load = self._session.load
        if not (self._session.is_short or load.is_pooled):
            connection.execute(_LOCK, values)
            return True
        # How many connections a pooler has is not known.
        places = _PLACES_IN_POOL if load.is_pooled else int(_PLACES_SHARE * load.connections)
        values["place"] = random.randrange(max(2, places))
        if connection.execute(_LOCK_FROM_PLACE, values).first() is not None:
            return True
        return connection.execute(_SNAPSHOT, values).first() is None  # it is gone

    def _look(self, connection: sqlalchemy.Connection) -> StudySnapshot:
        values = {"study_id": self._study_id}
        row = connection.execute(_SNAPSHOT, values).first()
        if row is None:
            raise StudyGoneError(
                f"study {self.replica.name!r} was deleted while it was searched; begin it again "
                "or choose another one with --study"
            )
        if not self._session.is_recovering:
            reap(connection, self.worker)
        connection.execute(_ORPHAN, values)
        connection.execute(_TRAINS_NOTHING, {"me": self.worker})
        leases = connection.execute(_LEASES, values).all()
        leased = {row.number: row.worker for row in leases if row.worker is not None}
        others = set(leased.values()) - {self.worker}
        doubtful = suspects(connection, self.worker) if others else set()
        self.replica.refresh(connection, check=True)
        return StudySnapshot(
            control=row.control,
            target=row.target,
            leased=leased,
            suspected={number for number, worker in leased.items() if worker in doubtful},
            mine={number for number, worker in leased.items() if worker == self.worker},
            deaths={
                row.number: row.deaths
                for row in leases
                if row.deaths and row.state == TrialState.RUNNING.name
            },
            outcomes=self._outcomes(connection),
        )

    def _outcomes(self, connection: sqlalchemy.Connection) -> list[TrialState]:
        states = (TrialState.FAIL,)
        failed = self.replica.get_all_trials(self._study_id, deepcopy=False, states=states)
        if not failed:
            return []
        values = {"study_id": self._study_id, "failed": [trial._trial_id for trial in failed]}
        rows = connection.scalars(_OUTCOMES, values)
        return [TrialState[state] for state in rows]

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
            token = self._set_holder(connection, trial_id, self.worker)
            lease = Lease(trial_id, snapshot.taken, self.worker, token)
        return lease

    def _set_holder(
        self,
        connection: sqlalchemy.Connection,
        trial_id: int,
        worker: int | None,
        *,
        ends: bool = False,
    ) -> int:
        """Gives a trial to a worker or to nobody; returns its new token."""
        now = sqlalchemy.func.now()
        news: dict[str, Any] = {
            "worker": worker,
            "writes": 0,
            "changed": sqlalchemy.literal_column(_XID.text),
            "taken": now if worker is not None else None,
            "ended": now if ends else None,
        }
        insert = postgresql.insert(TRIAL).values(trial_id=trial_id, token=1, **news)
        update = insert.on_conflict_do_update(
            index_elements=[TRIAL.c.trial_id], set_={**news, "token": TRIAL.c.token + 1}
        )
        return int(connection.execute(update.returning(TRIAL.c.token)).scalar_one())
