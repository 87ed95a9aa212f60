"""A worker that dies, for tests: what is decided then waits until the server knows."""

import sqlalchemy

from canopy_search.storage.database import Database
from canopy_search.storage.workers.session import WorkerSession
from tests.waiting import wait_until

_HELD = sqlalchemy.text("""
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1
      AND (classid::bigint << 32) | objid::bigint = :worker
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")


def fall_silent(session: WorkerSession) -> None:
    """Stops beating, and is still connected."""
    session._ended.set()
    session._thread.join()


def die(database: Database, session: WorkerSession) -> None:
    """Ends as a killed process does; the server lets go of its lock a moment later."""
    fall_silent(session)
    session._drop_connection()

    def is_forgotten() -> bool:
        with database.engine.connect() as connection:
            return connection.execute(_HELD, {"worker": session.worker}).scalar_one() == 0

    wait_until(is_forgotten, "the server lets go of a dead worker's lock")
