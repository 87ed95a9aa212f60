"""Which workers are alive, whatever version of Canopy created the tables."""

from dataclasses import dataclass

import sqlalchemy

SESSIONS = """
    SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
"""SQL that lists the ids of the workers whose session the server sees."""

# Older tables lack some columns, so they are read from the whole row.
_LIVING = sqlalchemy.text(f"""
    SELECT host, pid, row ->> 'version' AS version
    FROM (SELECT id, host, pid, seen, ended, to_jsonb(worker) AS row FROM canopy_worker AS worker)
        AS worker
    WHERE ended IS NULL AND (id IN ({SESSIONS}) OR seen > clock_timestamp()
        - coalesce(CAST(row ->> 'silence_allowed_s' AS float8), 5) * interval '1 second')
    ORDER BY host, pid
""")  # noqa: S608 - our own text


@dataclass(frozen=True)
class LivingWorker:
    """A worker that is alive.

    Attributes:
        host: the machine that it runs on.
        pid: its process there.
        version: of its Canopy; None if it is older than 0.2.
    """

    host: str
    pid: int
    version: str | None

    def __str__(self) -> str:
        version = self.version or "an older version"
        return f"process {self.pid} on {self.host} ({version})"


def living_workers(connection: sqlalchemy.Connection) -> list[LivingWorker]:
    """Returns the workers of all studies that are alive, of any version; none without tables."""
    if connection.scalar(sqlalchemy.text("SELECT to_regclass('canopy_worker')")) is None:
        return []
    return [LivingWorker(*row) for row in connection.execute(_LIVING)]
