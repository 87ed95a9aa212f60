"""The stage tree: the result of each epoch of each run, and the leases of those in training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy.dialects import postgresql

from canopy_search.storage.database import Database
from canopy_search.storage.schema.tables import CHECKPOINT, STAGE, STUDIES, TRIALS
from canopy_search.storage.study.epochs import add_trained
from canopy_search.storage.study.json_numbers import check_finite
from canopy_search.storage.study.predictions import forget_predictions
from canopy_search.storage.workers.registry import LIVING, remove_dead_workers
from canopy_search.storage.workers.session import WorkerSession

_TAKE = f"""
    ON CONFLICT (key) DO UPDATE SET worker = excluded.worker
    WHERE lease.worker = excluded.worker OR lease.worker NOT IN ({LIVING})
"""
# Losing a lease in a crash of the server costs time and no result, so no commit waits for the disk;
# and a lease that this worker already has is not written again.
_ASYNC_COMMIT = "at_ease AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))"
_ACQUIRE = sqlalchemy.text(f"""
    WITH {_ASYNC_COMMIT},
    held AS (SELECT key FROM canopy_stage_lease WHERE key = :key AND worker = :worker),
    taken AS (
        INSERT INTO canopy_stage_lease AS lease (key, worker)
        SELECT :key, :worker FROM at_ease WHERE NOT EXISTS (SELECT FROM held)
        {_TAKE} RETURNING key
    )
    SELECT key FROM held UNION ALL SELECT key FROM taken
""")  # noqa: S608 - our own text
_RELEASE = sqlalchemy.text(f"""
    WITH {_ASYNC_COMMIT} DELETE FROM canopy_stage_lease USING at_ease
    WHERE worker = :worker AND key = coalesce(:key, key)
""")  # noqa: S608 - likewise
# These two are part of the caller's transaction, which may have to be durable.
_LEAVE = sqlalchemy.text("DELETE FROM canopy_stage_lease WHERE worker = :worker AND key = :key")
_MOVE_ON = sqlalchemy.text(f"""
    WITH left_behind AS (
        DELETE FROM canopy_stage_lease WHERE worker = :worker AND key = :key
    )
    INSERT INTO canopy_stage_lease AS lease (key, worker) VALUES (:next_key, :worker) {_TAKE}
""")  # noqa: S608 - likewise

Write = Callable[[sqlalchemy.Connection], None]
"""Writes something in the caller's transaction."""


@dataclass(frozen=True)
class Stage:
    """One trained epoch of one training run.

    Attributes:
        key: its stage key.
        epoch: counts from 1.
        metrics: JSON values by name; None if the run diverged in this epoch.
        diverged: why the run cannot continue, if it cannot.
        study: name of the study that trained it first, if that still exists.
        trial_number: of the trial in that study.
    """

    key: str
    epoch: int
    metrics: dict[str, Any] | None
    diverged: str | None = None
    study: str | None = None
    trial_number: int | None = None


class StageStore:
    """Stages and their leases, for one worker.

    Training a stage twice does no harm: the first record stays. A lease only keeps workers from
    doing the same work, so a lost one costs time and never a result. It lasts as long as its
    worker, see `storage.workers.registry`.

    Args:
        database: an open one.
        session: of this worker; None for reading only.
    """

    def __init__(self, database: Database, session: WorkerSession | None) -> None:
        self._engine = database.engine
        # For single statements, to save a transaction's two extra round trips.
        self._single = database.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._session = session
        self._worker = session.worker if session else 0

    @property
    def longest_pause_s(self) -> float:
        """How long a worker may sleep between two polls of a stage; 0 for few workers."""
        return self._session.longest_pause_s if self._session is not None else 0.0

    def known(self, keys: Sequence[str]) -> dict[str, Stage]:
        """Returns the recorded stages among these, by key."""
        query = (
            sqlalchemy.select(
                STAGE.c.key,
                STAGE.c.epoch,
                STAGE.c.metrics,
                STAGE.c.diverged,
                STUDIES.c.study_name,
                TRIALS.c.number,
            )
            .select_from(STAGE.outerjoin(TRIALS).outerjoin(STUDIES))
            .where(STAGE.c.key.in_(keys))
        )
        with self._single.connect() as connection:
            return {row.key: Stage(*row) for row in connection.execute(query)}

    def count(self) -> int:
        """Returns the number of recorded stages."""
        query = sqlalchemy.select(sqlalchemy.func.count()).select_from(STAGE)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def recording(
        self,
        stage: Stage,
        parent: str | None,
        *,
        next_key: str | None = None,
        trial_id: int | None = None,
        place: str | None = None,
    ) -> Write:
        """Returns a function that records a trained stage and moves this worker's lease on.

        A stage that is already recorded keeps its metrics, and its count is increased.

        Args:
            stage: the result of the epoch.
            parent: key of the previous epoch, None for the first.
            next_key: the stage that this worker trains next, unless another has its lease.
            trial_id: the database's id of the trial that it was trained for; the epoch is recorded
                for that trial, too.
            place: id of the location where this worker is about to write a checkpoint, if it is;
                other workers wait for it.

        Raises:
            ValueError: a number is NaN or infinite.
        """
        check_finite("metrics", stage.metrics)
        insert = postgresql.insert(STAGE).values(
            key=stage.key,
            parent=parent,
            epoch=stage.epoch,
            metrics=stage.metrics,
            diverged=stage.diverged,
            trial_id=trial_id,
        )
        count = insert.on_conflict_do_update(
            index_elements=[STAGE.c.key], set_={"times_trained": STAGE.c.times_trained + 1}
        )

        def write(connection: sqlalchemy.Connection) -> None:
            connection.execute(count)
            if trial_id is not None and stage.metrics is not None:
                add_trained(connection, trial_id, stage.epoch, stage.metrics, stage.key)
            if place is not None and stage.metrics is not None:
                connection.execute(self._announcement(place, stage.key))
            values = {"key": stage.key, "worker": self._worker}
            if next_key is None:
                connection.execute(_LEAVE, values)
            else:
                connection.execute(_MOVE_ON, {**values, "next_key": next_key})

        return write

    def write(self, writes: Sequence[Write]) -> None:
        """Writes in one transaction, for writes that belong to no trial."""
        with self._engine.begin() as connection:
            for write in writes:
                write(connection)

    def acquire(self, key: str) -> bool:
        """Takes the lease of a stage, unless another live worker has it."""
        with self._single.connect() as connection:
            values = {"key": key, "worker": self._worker}
            if connection.execute(_ACQUIRE, values).first() is not None:
                return True
        if self._session is not None and not self._session.is_recovering:
            with self._engine.begin() as connection:
                remove_dead_workers(connection, self._worker)
        return False

    def release(self, key: str | None = None) -> None:
        """Releases a lease if this worker has it; all of its leases without a key."""
        with self._single.connect() as connection:
            connection.execute(_RELEASE, {"key": key, "worker": self._worker})

    def forget(self, keys: Sequence[str]) -> None:
        """Removes stages that no other run can reach, except the predictions of a last epoch."""
        with self._engine.begin() as connection:
            forget_predictions(connection, keys)
            connection.execute(sqlalchemy.delete(STAGE).where(STAGE.c.key.in_(keys)))

    def _announcement(self, place: str, key: str) -> postgresql.Insert:
        values = {"size": 0, "is_end": False, "worker": self._worker}
        insert = postgresql.insert(CHECKPOINT).values(place=place, key=key, **values)
        return insert.on_conflict_do_update(
            index_elements=[CHECKPOINT.c.place, CHECKPOINT.c.key],
            set_={"worker": self._worker},
            # One without a worker is being removed.
            where=CHECKPOINT.c.digest.is_(None) & CHECKPOINT.c.worker.is_not(None),
        )
