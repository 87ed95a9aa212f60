"""Holds workers in the middle of a trial: they wait in Postgres before they record an epoch."""

import subprocess
import threading
import time
from collections.abc import Callable
from types import TracebackType

from tests.shared_servers import connected, rows

PATIENCE_S = 280  # against hangs alone
_KEY = 1_600  # of the advisory locks that are the gate, with the epoch
_PAUSE_S = 0.02
_BEGIN = f"""
    CREATE OR REPLACE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared({_KEY}, NEW.epoch);
        RETURN NEW;
    END $$;
    CREATE OR REPLACE TRIGGER gate BEFORE INSERT ON canopy_epoch
    FOR EACH ROW WHEN (NEW.epoch = {{epoch}} AND NOT NEW.replayed)
    EXECUTE FUNCTION wait_at_gate()
"""
_WAITING = f"""
    SELECT pg_locks.pid FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted
      AND classid = {_KEY}
"""  # noqa: S608 - our own text


class EpochGate:
    """No worker of a database records an epoch of this number while the gate is closed.

    A worker records in one transaction what has gathered meanwhile, so one that stands before the
    gate may have earlier epochs with it that are not recorded either.

    Args:
        url: of the database, which has its tables.
        epoch: which one, of any trial.
    """

    def __init__(self, url: str | None, epoch: int) -> None:
        self._lock = connected(str(url))
        rows(self._lock, _BEGIN.format(epoch=epoch))
        rows(self._lock, f"SELECT pg_advisory_lock({_KEY}, {epoch})")

    def wait(self, over: threading.Event) -> None:
        """Waits until a worker stands before the gate, or `over` is set."""
        wait_until(lambda: self._has_come() or over.is_set())

    def wait_for(self, process: subprocess.Popen[str]) -> None:
        """Waits until a worker of a search stands before the gate."""
        wait_until(self._has_come, process, "somebody came to the gate")

    def _has_come(self) -> bool:
        return bool(rows(self._lock, _WAITING))

    def drop_waiting(self) -> None:
        """Ends the connections of those who wait, who may be dead, so that they record nothing."""
        for (pid,) in rows(self._lock, _WAITING):
            rows(self._lock, f"SELECT pg_terminate_backend({pid}, 10000)")

    def open(self) -> None:
        """Lets all go on, for good."""
        if not self._lock.closed:
            self._lock.close()

    def __enter__(self) -> "EpochGate":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.open()


def wait_until(
    is_so: Callable[[], bool], process: subprocess.Popen[str] | None = None, what: str = "it"
) -> None:
    """Waits for something that a test has brought about, through a process that has to live."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert process is None or process.poll() is None, f"ended before {what}"
        assert time.monotonic() < deadline_s, f"never {what}"
        time.sleep(_PAUSE_S)
