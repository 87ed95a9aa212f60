"""One worker's presence: a connection whose end the server notices, and a row that it keeps."""

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import SQLAlchemyError

from storage.connecting import connect_options, never_idle_for_long
from storage.control import RUN
from storage.tables import WORKER
from storage.workers import BEAT_S, LEFT, RECOVERY_S, forget_leases_of

_CONTROL = sqlalchemy.text("SELECT control FROM canopy_study WHERE study_id = :study_id")
# Who left long ago is of no interest to anybody.
_FORGET = sqlalchemy.text("""
    DELETE FROM canopy_worker
    WHERE study_id = :study_id AND ended < now() - interval '7 days'
       OR study_id IS NULL AND ended IS NOT NULL
""")
_LOCK = sqlalchemy.text("SELECT pg_try_advisory_lock(:worker)")


class WorkerSession:
    """Says that this worker is there, on a connection and a thread of its own.

    Every beat updates the worker's row; the connection holds an advisory lock, so that the server
    sees at once when the process is gone. When the connection breaks a new one is made.

    Args:
        url: of the database.
        study_id: of the study that it works on, if it is one study.
        slot: the device that it works on.
        beat_s: seconds between beats.

    Attributes:
        worker: a number that no other worker has.
        wanted: what a person wanted of the study at the last beat; see `storage.control`.
    """

    def __init__(
        self,
        url: sqlalchemy.URL,
        *,
        study_id: int | None = None,
        slot: str = "cpu",
        beat_s: float = BEAT_S,
    ) -> None:
        self.wanted = RUN
        self.worker = secrets.randbits(62)
        self._identity = {
            "study_id": study_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "slot": slot,
        }
        self._engine = sqlalchemy.create_engine(
            url,
            poolclass=sqlalchemy.NullPool,
            connect_args=connect_options(url, f"canopy worker {os.getpid()}"),
        )
        never_idle_for_long(self._engine)
        self._beat_s = beat_s
        self._connection: sqlalchemy.Connection | None = None
        self._is_locked = False
        self._doing: dict[str, Any] | None = None
        self._has_progressed = False
        self._beaten_s = time.monotonic()
        self._recovered_s: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="canopy presence", daemon=True)

    def come_in(self) -> None:
        """Says for the first time that this worker is there.

        Raises:
            SQLAlchemyError: the database is away.
        """
        try:
            self._beat()
            connection = self._connected()
            with connection.begin():
                connection.execute(_FORGET, {"study_id": self._identity["study_id"]})
        except SQLAlchemyError:
            self.back_out()
            raise

    def back_out(self) -> None:
        """Gives the connection back, after coming in and before `start`."""
        self._drop_connection()

    def start(self) -> None:
        """Keeps saying that this worker is there."""
        self._thread.start()

    def say(self, doing: Mapping[str, Any] | None) -> None:
        """Sets what this worker does, told with the next beat; it counts as progress."""
        self._doing = dict(doing) if doing is not None else None
        self._has_progressed = True

    @property
    def is_recovering(self) -> bool:
        """Whether the database is away for this worker, or was a moment ago.

        Others then had no way to say that they live either, and must not be declared dead.
        """
        now_s = time.monotonic()
        if now_s - self._beaten_s > 3 * self._beat_s:
            return True
        return self._recovered_s is not None and now_s - self._recovered_s < RECOVERY_S

    def close(self, reason: str = LEFT) -> None:
        """Leaves: gives all leases back, and says why.

        What cannot be said because the database is away, others find out.
        """
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(2 * self._beat_s)
        with suppress(SQLAlchemyError):
            connection = self._connected()
            with connection.begin():
                forget_leases_of(connection, self.worker)
                values = {"ended": sqlalchemy.func.now(), "end_reason": reason, "doing": None}
                connection.execute(
                    sqlalchemy.update(WORKER).where(WORKER.c.id == self.worker).values(values)
                )
        self._drop_connection()
        self._engine.dispose()

    def _work(self) -> None:
        while not self._ended.wait(self._beat_s):
            try:
                self._beat()
            except SQLAlchemyError:
                self._drop_connection()
                # While the row tells nothing new, the next try is soon.
                while not self._ended.wait(self._beat_s / 5):
                    try:
                        self._beat()
                    except SQLAlchemyError:
                        self._drop_connection()
                    else:
                        self._recovered_s = time.monotonic()
                        break

    def _beat(self) -> None:
        has_progressed, self._has_progressed = self._has_progressed, False
        news = {
            "seen": sqlalchemy.func.now(),
            "ended": None,
            "end_reason": None,
            "doing": self._doing,
        }
        if has_progressed:
            news["progressed"] = sqlalchemy.func.now()
        insert = postgresql.insert(WORKER).values(id=self.worker, **self._identity, **news)
        connection = self._connected()
        with connection.begin():
            if not self._is_locked:  # by the server's end of a connection that broke
                self._is_locked = bool(connection.scalar(_LOCK, {"worker": self.worker}))
            update = insert.on_conflict_do_update(index_elements=["id"], set_=news)
            connection.execute(update)
            wanted = connection.scalar(_CONTROL, {"study_id": self._identity["study_id"]})
        self.wanted = wanted or RUN
        now_s = time.monotonic()
        if now_s - self._beaten_s > 3 * self._beat_s:
            # Asleep or cut off: what this worker believes of others is old.
            self._recovered_s = now_s
        self._beaten_s = now_s

    def _connected(self) -> sqlalchemy.Connection:
        if self._connection is None:
            self._connection, self._is_locked = self._engine.connect(), False
        return self._connection

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.invalidate()
                connection.close()


@contextmanager
def worker_session(
    url: sqlalchemy.URL, *, study_id: int | None = None, slot: str = "cpu"
) -> Iterator[WorkerSession]:
    """Opens a session that lives as long as this process works."""
    session = WorkerSession(url, study_id=study_id, slot=slot)
    session.come_in()
    session.start()
    try:
        yield session
    finally:
        session.close()
