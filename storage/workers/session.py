"""One worker's presence: a row that it keeps, and a connection whose end the server notices."""

import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from canopy_search.storage.connection.retry import pause_s
from canopy_search.storage.connection.throttle import (
    KEEP_OPEN_SHARE,
    TAKEN_AGAIN_SHARE,
    ConnectionThrottle,
)
from canopy_search.storage.connection.urls import connect_options
from canopy_search.storage.workers.control import RUN
from canopy_search.storage.workers.heartbeat import (
    ServerLoad,
    beat,
    forget_old,
    leave,
    lock,
    silence_allowed_s,
)
from canopy_search.storage.workers.registry import BEAT_S, LEFT, RECOVERY_S

_CONNECTIONS = 2
"""What a worker holds: its presence's and its work's."""
_FEW = 20


class WorkerSession:
    """Says that this worker is there, on a connection and a thread of its own.

    Every beat updates the worker's row. Where connections are plenty, one holds an advisory lock,
    so that the server sees at once when the process is gone; when it breaks a new one is made.
    Where they are scarce, each beat has a connection of its own, there are fewer beats, and the row
    says how long the worker may be silent. Behind a pooler a lock would be somebody else's, so the
    row says so there, too.

    Args:
        url: of the database.
        study_id: of the study that it works on, if it is one study.
        slot: the device that it works on.
        beat_s: seconds between beats.
        throttle: of the worker's other connection, which is held where this one is.

    Attributes:
        worker: a number that no other worker has.
        wanted: what a person wanted of the study at the last beat; see `storage.workers.control`.
        load: how many work on this server, and how many connections it has, at the last beat.
    """

    def __init__(
        self,
        url: sqlalchemy.URL,
        *,
        study_id: int | None = None,
        slot: str = "cpu",
        beat_s: float = BEAT_S,
        throttle: ConnectionThrottle | None = None,
    ) -> None:
        self.wanted = RUN
        self.worker = secrets.randbits(62)
        self.load = ServerLoad()
        self._throttle = throttle or ConnectionThrottle()
        self._study_id = study_id
        self._identity = {
            "id": self.worker,
            "study_id": study_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "slot": slot,
        }
        # Each statement is a transaction of its own, so none is left open by a frozen process.
        self._engine = sqlalchemy.create_engine(
            url,
            poolclass=sqlalchemy.NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args=connect_options(url, f"canopy worker {os.getpid()}"),
        )
        self._throttle.queue_for(self._engine)
        self._beat_s = beat_s
        self._connection: sqlalchemy.Connection | None = None
        self._is_locked = False
        self._doing: dict[str, Any] | None = None
        self._has_progressed = False
        self._beaten_s = time.monotonic()
        self._recovered_s: float | None = None
        self._is_away = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="canopy presence", daemon=True)

    def come_in(self) -> None:
        """Says for the first time that this worker is there.

        Raises:
            SQLAlchemyError: the database is away.
        """
        try:
            # Nobody is to rely on a session before it is known that there will be one.
            self._throttle.release_when_idle()
            connection = self._connected()
            self._say_once(connection)
            forget_old(connection, self._study_id)
            self._choose()
            self._settle(connection)
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
    def is_short(self) -> bool:
        """Whether this worker holds no connections."""
        return self._throttle.is_short

    @property
    def longest_pause_s(self) -> float:
        """How long one of so many may sleep between two looks for something; 0 for few."""
        return self.load.pause_s if self.load.workers > _FEW else 0.0

    @property
    def is_recovering(self) -> bool:
        """Whether the database is away for this worker, or was a moment ago.

        Others then had no way to say that they live either, and must not be declared dead.
        """
        now_s = time.monotonic()
        if self._is_away or now_s - self._beaten_s > 3 * self._interval_s:
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
            leave(self._connected(), self.worker, reason)
        self._drop_connection()
        self._engine.dispose()

    def _work(self) -> None:
        # Workers that were started together are not to beat together.
        while not self._ended.wait(random.uniform(0.8, 1) * self._interval_s):
            try:
                self._beat()
            except SQLAlchemyError:
                self._is_away = True
                self._drop_connection()
                attempt = 0
                # While the row tells nothing new, the next try is soon.
                while not self._ended.wait(min(self._beat_s / 5, pause_s(attempt))):
                    attempt += 1
                    try:
                        self._beat()
                    except SQLAlchemyError:
                        self._drop_connection()
                    else:
                        self._recovered_s = time.monotonic()
                        break
                self._is_away = False

    @property
    def _interval_s(self) -> float:
        return self.load.beat_s if self._throttle.is_short else self._beat_s

    def _beat(self) -> None:
        self._choose()
        connection = self._connected()
        self._say_once(connection)
        self._choose()
        self._settle(connection)

    def _choose(self) -> None:
        """Decides whether this worker holds its connections, by what it knows of the others."""
        if self._throttle.was_refused:
            self._throttle.release_when_idle()
        elif self.load.is_known and not self.load.is_pooled:
            share = TAKEN_AGAIN_SHARE if self._throttle.is_short else KEEP_OPEN_SHARE
            wants_short = _CONNECTIONS * self.load.workers > share * self.load.connections
            if wants_short != self._throttle.is_short:
                (self._throttle.release_when_idle if wants_short else self._throttle.keep_open)()
        elif self.load.is_known:
            self._throttle.keep_open()

    def _settle(self, connection: sqlalchemy.Connection) -> None:
        """Makes true what was decided, and tells of it before others can be misled."""
        if self._throttle.is_short:
            if self._is_locked:
                self._is_locked = False
                self._say_once(connection)
            self._drop_connection()
        elif not self._is_locked and not self.load.is_pooled:
            # It is the server's end of a connection that broke, if it cannot be had.
            self._is_locked = lock(connection, self.worker)
            if self._is_locked:
                self._say_once(connection)

    def _say_once(self, connection: sqlalchemy.Connection) -> None:
        has_progressed, self._has_progressed = self._has_progressed, False
        allowed_s = None
        if not self._is_locked:
            allowed_s = silence_allowed_s(self._interval_s)
        found = beat(
            connection,
            {
                **self._identity,
                "doing": self._doing,
                "has_progressed": has_progressed,
                "silence_allowed_s": allowed_s,
            },
        )
        self.wanted, self.load = found
        now_s = time.monotonic()
        if now_s - self._beaten_s > 3 * self._interval_s:
            # Asleep or cut off: what this worker believes of others is old.
            self._recovered_s = now_s
        self._beaten_s = now_s

    def _connected(self) -> sqlalchemy.Connection:
        if self._connection is None:
            self._connection, self._is_locked = self._engine.connect(), False
        return self._connection

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        self._is_locked = False
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.invalidate()
                connection.close()


@contextmanager
def worker_session(
    url: sqlalchemy.URL,
    *,
    study_id: int | None = None,
    slot: str = "cpu",
    throttle: ConnectionThrottle | None = None,
) -> Iterator[WorkerSession]:
    """Opens a session that lives as long as this process works."""
    session = WorkerSession(url, study_id=study_id, slot=slot, throttle=throttle)
    session.come_in()
    session.start()
    try:
        yield session
    finally:
        session.close()
