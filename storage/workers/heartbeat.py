"""The heartbeat: the statements of a worker's session, and what the database returns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy.dialects.postgresql import JSON

from canopy_search.storage.connection.urls import is_pooled
from canopy_search.storage.workers import registry
from canopy_search.storage.workers.control import RUN

_RATE_PER_S = 10.0
"""Heartbeats per second of all workers without sessions together; the same for their polls."""

# The server's limit for all users but superusers, for this user, or for this database.
_CONNECTIONS = """
    least(
        current_setting('max_connections')::int
            - current_setting('superuser_reserved_connections')::int
            - coalesce(current_setting('reserved_connections', true)::int, 0),
        (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
        (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())
    )
"""
# A heartbeat that is lost in a crash of the server is followed by another one, so no commit waits
# for the disk.
_BEAT = sqlalchemy.text(f"""
    WITH at_ease AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
    beat AS (
        INSERT INTO canopy_worker AS mine
            (id, study_id, host, pid, version, slot, doing, progressed, silence_allowed_s)
        SELECT :id, :study_id, :host, :pid, :version, :slot, :doing,
            CASE WHEN :has_progressed THEN now() END, :silence_allowed_s FROM at_ease
        ON CONFLICT (id) DO UPDATE SET seen = now(), ended = NULL, end_reason = NULL,
            doing = excluded.doing, progressed = coalesce(excluded.progressed, mine.progressed),
            silence_allowed_s = excluded.silence_allowed_s
    )
    SELECT (SELECT control FROM canopy_study WHERE study_id = :study_id) AS control,
        (SELECT 1 + count(*) FROM canopy_worker WHERE ended IS NULL AND id <> :id) AS workers,
        {_CONNECTIONS} AS connections, pg_backend_pid() AS backend
""").bindparams(  # noqa: S608 - our own text
    sqlalchemy.bindparam("doing", type_=JSON(none_as_null=True)),
    sqlalchemy.bindparam("study_id", type_=sqlalchemy.Integer),
    sqlalchemy.bindparam("silence_allowed_s", type_=sqlalchemy.Float),
)
_LOCK = sqlalchemy.text("SELECT pg_try_advisory_lock(:worker)")
# Workers that left long ago are no longer needed.
_FORGET = sqlalchemy.text("""
    DELETE FROM canopy_worker
    WHERE study_id = :study_id AND ended < now() - interval '7 days'
       OR study_id IS NULL AND ended IS NOT NULL
""")
_LEAVE = sqlalchemy.text("""
    WITH trials AS (UPDATE canopy_trial SET worker = NULL WHERE worker = :worker),
    stages AS (DELETE FROM canopy_stage_lease WHERE worker = :worker)
    UPDATE canopy_worker SET ended = now(), end_reason = :reason, doing = :doing WHERE id = :worker
""").bindparams(sqlalchemy.bindparam("doing", type_=JSON(none_as_null=True)))


@dataclass(frozen=True)
class ServerLoad:
    """The load of the server at a worker's last heartbeat.

    Attributes:
        workers: number of live workers of all studies, this one included.
        connections: limit of the server for us; 0 before it is known.
        is_pooled: whether a pooler is between us, so that connections change hands.
    """

    workers: int = 1
    connections: int = 0
    is_pooled: bool = False

    @property
    def is_known(self) -> bool:
        """Whether there was a heartbeat yet."""
        return self.connections > 0

    @property
    def beat_s(self) -> float:
        """Seconds between the heartbeats of a throttled worker; each one opens a connection."""
        return max(registry.LEASE_S / 3, self.pause_s)

    @property
    def pause_s(self) -> float:
        """Seconds between two polls of one worker, if all together poll ten times a second."""
        return self.workers / _RATE_PER_S


def silence_allowed_s(beat_s: float) -> float:
    """Returns how long a worker without a session may be silent, given its heartbeat interval."""
    return max(registry.LEASE_S, 3 * beat_s)


def beat(connection: sqlalchemy.Connection, values: dict[str, Any]) -> tuple[str, ServerLoad]:
    """Sends a worker's heartbeat.

    Args:
        connection: with AUTOCOMMIT.
        values: of its row, and `has_progressed`.

    Returns:
        The control state of its study, and the load of the server.
    """
    row = connection.execute(_BEAT, values).one()
    pooled = is_pooled(connection, row.backend)
    return row.control or RUN, ServerLoad(row.workers, row.connections, pooled)


def lock(connection: sqlalchemy.Connection, worker: int) -> bool:
    """Takes a lock that ends with this connection; returns whether it was free."""
    return bool(connection.scalar(_LOCK, {"worker": worker}))


def forget_old(connection: sqlalchemy.Connection, study_id: int | None) -> None:
    """Removes workers of a study that left long ago."""
    connection.execute(_FORGET, {"study_id": study_id})


def leave(
    connection: sqlalchemy.Connection, worker: int, reason: str, doing: Mapping[str, Any] | None
) -> None:
    """Releases all leases of a worker, and records why it leaves, and what it died on."""
    connection.execute(_LEAVE, {"worker": worker, "reason": reason, "doing": doing})
