"""The stage tree: what is known of every epoch of every run, and who trains which one now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy.dialects import postgresql

from storage.database import Database
from storage.epochs import add_trained
from storage.finite import check_finite
from storage.locks import LIVING_WORKERS
from storage.tables import CHECKPOINT, STAGE, STAGE_LEASE, STUDIES, TRIALS

LEASE_S = 30.0
"""A worker that renews nothing for as long as this is passed over, though its session lives."""

_ACQUIRE = sqlalchemy.text(f"""
    INSERT INTO canopy_stage_lease AS lease (key, worker, expires)
    VALUES (:key, :worker, now() + :lease_s * interval '1 second')
    ON CONFLICT (key) DO UPDATE SET worker = excluded.worker, expires = excluded.expires
    WHERE lease.worker = excluded.worker OR lease.expires < now()
       OR lease.worker NOT IN ({LIVING_WORKERS})
    RETURNING key
""")  # noqa: S608 - our own text
_RENEW = sqlalchemy.text("""
    UPDATE canopy_stage_lease SET expires = now() + :lease_s * interval '1 second'
    WHERE worker = :worker
""")


@dataclass(frozen=True)
class Stage:
    """One epoch of one training run, known for good.

    Attributes:
        key: its stage key.
        epoch: counts from 1.
        metrics: JSON values by name; None where the run diverged in this epoch.
        diverged: why the run cannot go on, if it cannot.
        study: name of the study that trained it first, if that is still there.
        trial_number: of the trial in that study.
    """

    key: str
    epoch: int
    metrics: dict[str, Any] | None
    diverged: str | None = None
    study: str | None = None
    trial_number: int | None = None


class StageStore:
    """Stages and their leases, as one worker sees them.

    A stage that is trained twice by mistake is no harm: the first record stays. A lease only keeps
    workers from doing the same work, and so a lost one costs time and never a result.

    Args:
        database: an opened one.
        worker: number of this process's session.
        lease_s: how long a lease lasts that nobody renews, in seconds.
    """

    def __init__(self, database: Database, worker: int, *, lease_s: float = LEASE_S) -> None:
        self._engine = database.engine
        self._worker = worker
        self.lease_s = lease_s

    def known(self, keys: Sequence[str]) -> dict[str, Stage]:
        """Returns those stages that are known, by their keys."""
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
        with self._engine.connect() as connection:
            return {row.key: Stage(*row) for row in connection.execute(query)}

    def count(self) -> int:
        """Returns how many stages are known."""
        query = sqlalchemy.select(sqlalchemy.func.count()).select_from(STAGE)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def record(
        self,
        stage: Stage,
        parent: str | None,
        *,
        next_key: str | None = None,
        trial_id: int | None = None,
        place: str | None = None,
    ) -> None:
        """Records a stage that was trained, and moves this worker's lease on to the next one.

        A stage that is known already keeps its metrics, and is counted once more.

        Args:
            stage: what the epoch gave.
            parent: key of the epoch before, None for the first.
            next_key: the stage that this worker trains next, unless another has its lease.
            trial_id: the database's id of the trial that it was trained for; the epoch is recorded
                as that trial's too, all or nothing.
            place: id of where this worker is about to write a checkpoint, if it is; whoever needs
                it waits.

        Raises:
            ValueError: a number is NaN or infinite; nothing is recorded then.
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
        with self._engine.begin() as connection:
            connection.execute(count)
            if trial_id is not None and stage.metrics is not None:
                add_trained(connection, trial_id, stage.epoch, stage.metrics, stage.key)
            if place is not None and stage.metrics is not None:
                connection.execute(self._announcement(place, stage.key))
            connection.execute(self._release(stage.key))
            if next_key is not None:
                connection.execute(_ACQUIRE, self._lease(next_key))

    def acquire(self, key: str) -> bool:
        """Takes the lease of a stage, unless a living worker has it and renews it."""
        with self._engine.begin() as connection:
            return connection.execute(_ACQUIRE, self._lease(key)).first() is not None

    def release(self, key: str) -> None:
        """Gives a lease back, if this worker has it."""
        with self._engine.begin() as connection:
            connection.execute(self._release(key))

    def release_all(self) -> None:
        """Gives all leases of this worker back."""
        with self._engine.begin() as connection:
            mine = STAGE_LEASE.c.worker == self._worker
            connection.execute(sqlalchemy.delete(STAGE_LEASE).where(mine))

    def renew(self) -> None:
        """Makes all leases of this worker last from now on."""
        values = {"worker": self._worker, "lease_s": self.lease_s}
        with self._engine.begin() as connection:
            connection.execute(_RENEW, values)

    def forget(self, keys: Sequence[str]) -> None:
        """Removes stages that nobody else can come to."""
        with self._engine.begin() as connection:
            connection.execute(sqlalchemy.delete(STAGE).where(STAGE.c.key.in_(keys)))

    def _announcement(self, place: str, key: str) -> postgresql.Insert:
        values = {"size": 0, "is_end": False, "worker": self._worker}
        insert = postgresql.insert(CHECKPOINT).values(place=place, key=key, **values)
        return insert.on_conflict_do_update(
            index_elements=[CHECKPOINT.c.place, CHECKPOINT.c.key],
            set_={"worker": self._worker},
            where=CHECKPOINT.c.digest.is_(None),
        )

    def _lease(self, key: str) -> Mapping[str, Any]:
        return {"key": key, "worker": self._worker, "lease_s": self.lease_s}

    def _release(self, key: str) -> sqlalchemy.Delete:
        mine = (STAGE_LEASE.c.key == key) & (STAGE_LEASE.c.worker == self._worker)
        return sqlalchemy.delete(STAGE_LEASE).where(mine)
