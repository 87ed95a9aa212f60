"""The worker registry: one row per worker; a lost session or a timeout shows that it died."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy

from canopy_search.storage.schema.living_workers import SESSIONS

BEAT_S = 2.5
"""Interval of a worker's heartbeats."""
GONE_S = 5.0
"""A worker without its session and without a heartbeat for this long is dead."""
LEASE_S = 30.0
"""A worker without a heartbeat for this long loses its leases, even if its session is alive."""
RECOVERY_S = 10.0
"""For this long after the database was unavailable, no worker is declared dead."""

LEFT, DIED, SILENT = "left", "died", "answers no more"
"""How a worker ended: by itself, with its process, or by a timeout."""

LIVING = "SELECT id FROM canopy_worker WHERE ended IS NULL"
"""SQL that lists the workers that are not declared dead."""

# A worker without a session on purpose records how long it may be silent. A time in the future is
# from before the clock was set back, and is ignored. The current time is used: now() is the start
# of the transaction, which may have waited for the study since. A standby does not see the
# sessions.
_SILENT = f"""(
    pg_postmaster_start_time() < clock_timestamp() - :recovery_s * interval '1 second'
    AND NOT (
      seen BETWEEN clock_timestamp() - interval '1 second'
          * CASE WHEN silence_allowed_s IS NOT NULL THEN silence_allowed_s
              WHEN id IN ({SESSIONS}) OR pg_is_in_recovery() THEN :lease_s ELSE :gone_s END
      AND clock_timestamp() + interval '1 second')
)"""
_REAP = sqlalchemy.text(f"""
    UPDATE canopy_worker SET ended = clock_timestamp(), end_reason = CASE
        WHEN silence_allowed_s IS NOT NULL OR id IN ({SESSIONS}) THEN '{SILENT}' ELSE '{DIED}' END
    WHERE ended IS NULL AND id <> :me AND {_SILENT}
    RETURNING id
""")  # noqa: S608 - our own text
_FORGET_LEASES = sqlalchemy.text(
    f"DELETE FROM canopy_stage_lease WHERE worker NOT IN ({LIVING})"  # noqa: S608 - likewise
)
_SUSPECTS = sqlalchemy.text(
    f"{LIVING} AND id <> :me AND silence_allowed_s IS NULL AND id NOT IN ({SESSIONS})"
)
_LIST = sqlalchemy.text(f"""
    SELECT id, host, pid, slot, started, seen, worker.ended, end_reason, doing, progressed,
        (SELECT max(number) FROM canopy_trial AS lease JOIN trials USING (trial_id)
            WHERE lease.worker = worker.id),
        id IN ({SESSIONS}),
        CAST(extract(epoch FROM now() - seen) AS float8),
        CAST(extract(epoch FROM now() - progressed) AS float8),
        worker.ended IS NULL AND {_SILENT}, silence_allowed_s
    FROM canopy_worker AS worker JOIN studies USING (study_id)
    WHERE study_name = :study ORDER BY started, id
""")  # noqa: S608 - likewise
_LEFT_BEHIND = sqlalchemy.text(f"""
    SELECT number FROM trials JOIN studies USING (study_id)
    LEFT JOIN canopy_trial AS lease USING (trial_id)
    WHERE study_name = :study AND state = 'RUNNING' AND NOT EXISTS (
        SELECT FROM canopy_worker WHERE id = lease.worker AND ended IS NULL AND NOT {_SILENT})
""")  # noqa: S608 - likewise


@dataclass(frozen=True)
class WorkerSummary:
    """One worker of a study, as `canopy status` shows it.

    Attributes:
        id: of the worker.
        host: the machine that it runs on.
        pid: its process there.
        slot: its device.
        started: when it registered.
        seen: time of its last heartbeat.
        ended: when it left or was declared dead; None for a live one.
        end_reason: why.
        doing: its reported progress.
        progressed: when that last changed.
        trial_number: of the trial that it has leased.
        is_connected: whether the server has its session.
        idle_s: seconds since `seen`, by the server's clock.
        stuck_s: seconds since `progressed`, likewise; None if it has reported nothing yet.
        is_lost: whether it is dead and no other worker has declared it so yet.
        silence_allowed_s: how many seconds it may be silent, if it has no session on purpose:
            connections are throttled, or there is a pooler.
    """

    id: int
    host: str
    pid: int
    slot: str
    started: datetime
    seen: datetime
    ended: datetime | None
    end_reason: str | None
    doing: dict[str, Any] | None
    progressed: datetime | None
    trial_number: int | None
    is_connected: bool
    idle_s: float
    stuck_s: float | None
    is_lost: bool = False
    silence_allowed_s: float | None = None

    @property
    def is_living(self) -> bool:
        """Whether it is alive."""
        return self.ended is None and not self.is_lost

    @property
    def is_at_hand(self) -> bool:
        """Whether stopping the server now would affect it, as far as is known."""
        return self.is_connected or (self.silence_allowed_s is not None and self.is_living)

    @property
    def is_silent(self) -> bool:
        """Whether its last heartbeat is older than it should be."""
        return self.idle_s > (GONE_S if self.silence_allowed_s is None else self.silence_allowed_s)

    @property
    def end(self) -> str | None:
        """How it ended, declared or not; None for a live one."""
        if self.is_lost:
            is_timeout = self.is_connected or self.silence_allowed_s is not None
            return SILENT if is_timeout else DIED
        return self.end_reason if self.ended is not None else None


def remove_dead_workers(connection: sqlalchemy.Connection, worker: int) -> list[int]:
    """Declares dead workers dead; their leases are void from then on.

    A frozen worker that wakes up is alive again with its next heartbeat, without its leases.

    Args:
        connection: in a transaction.
        worker: the one that checks.

    Returns:
        The ids of the workers that were declared dead now.
    """
    dead = list(connection.scalars(_REAP, {"me": worker, **_limits()}))
    if dead:
        connection.execute(_FORGET_LEASES)
    return dead


def suspects(connection: sqlalchemy.Connection, worker: int) -> set[int]:
    """Returns the workers that lost their session and are not declared dead yet.

    Workers without a session on purpose are not included: their timeout is long.
    """
    return set(connection.scalars(_SUSPECTS, {"me": worker}))


def list_workers(connection: sqlalchemy.Connection, study: str) -> list[WorkerSummary]:
    """Returns all workers that a study has had, in the order of their start."""
    rows = connection.execute(_LIST, {"study": study, **_limits()})
    return [WorkerSummary(*row) for row in rows]


def left_behind(connection: sqlalchemy.Connection, study: str) -> set[int]:
    """Returns the numbers of the running trials of a study that no live worker has."""
    return set(connection.scalars(_LEFT_BEHIND, {"study": study, **_limits()}))


def as_json(worker: WorkerSummary) -> Mapping[str, Any]:
    """Returns a worker as ``canopy status --json`` prints it."""
    return {
        "host": worker.host,
        "pid": worker.pid,
        "slot": worker.slot,
        "started": worker.started.isoformat(),
        "ended": worker.ended and worker.ended.isoformat(),
        "end_reason": worker.end,
        "living": worker.is_living,
        "doing": worker.doing,
        "trial": worker.trial_number,
        "connected": worker.is_connected,
        "silence_allowed_s": worker.silence_allowed_s,
        "last_seen_s": worker.idle_s,
        "last_progress_s": worker.stuck_s,
    }


def _limits() -> dict[str, float]:
    return {"lease_s": LEASE_S, "gone_s": GONE_S, "recovery_s": RECOVERY_S}
