"""A worker's session: heartbeats that update its row, and a lock that ends with its process."""

import math
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from canopy_search.filestore.retry import Retrier, RetryPolicy, Service
from canopy_search.storage.connection.throttle import (
    KEEP_OPEN_SHARE,
    REOPEN_SHARE,
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
"""Per worker: one for the heartbeat and one for the work."""
_FEW_WORKERS = 20
_ANY_FAILURE = Service("the database", lambda error: isinstance(error, SQLAlchemyError))


class WorkerSession:
    """Sends this worker's heartbeats, on a connection and a thread of its own.

    Each heartbeat updates the worker's row. With enough connections, one of them holds an advisory
    lock, so that the server sees at once when the process has ended; if it breaks, a new one is
    opened. If connections are throttled, each heartbeat opens its own, there are fewer of them, and
    the row records how long the worker may be silent. A pooler could give the lock to another
    process, so the row records the limit there, too.

    Args:
        url: of the database.
        study_id: of the study that it works on, if it is one study.
        slot: its device.
        beat_s: seconds between heartbeats.
        throttle: of the worker's other connection, which is kept open if this one is.

    Attributes:
        worker: unique id of the worker.
        wanted: control state of the study at the last heartbeat; see `storage.workers.control`.
        load: workers and connections of the server at the last heartbeat.
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
            "version": version("canopy-search"),
            "slot": slot,
        }
        # Each statement is a transaction of its own, so none is left open by a frozen process.
        self._engine = sqlalchemy.create_engine(
            url,
            poolclass=sqlalchemy.NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args=connect_options(url, f"canopy worker {os.getpid()}"),
        )
        self._throttle.retry_refused(self._engine)
        self._beat_s = beat_s
        self._connection: sqlalchemy.Connection | None = None
        self._is_locked = False
        self._doing: dict[str, Any] | None = None
        self._has_progressed = False
        self._last_beat_s = time.monotonic()
        self._recovered_s: float | None = None
        # While the row is out of date, the next attempt is soon.
        self._retrier = Retrier(RetryPolicy(math.inf, beat_s / 5), _ANY_FAILURE)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="canopy heartbeat", daemon=True)

    def identify(self, worker: int) -> None:
        """Sets this worker's id, which no other worker has had; to be called before `register`."""
        self.worker = self._identity["id"] = worker

    def register(self) -> None:
        """Registers this worker with its first heartbeat.

        Raises:
            SQLAlchemyError: the database is unavailable.
        """
        try:
            # No other worker may rely on a session before there is one.
            self._throttle.release_when_idle()
            connection = self._connected()
            self._send(connection)
            forget_old(connection, self._study_id)
            self._choose()
            self._apply(connection)
        except SQLAlchemyError:
            self.unregister()
            raise

    def unregister(self) -> None:
        """Closes the connection, after `register` and before `start`."""
        self._drop_connection()

    def start(self) -> None:
        """Starts the thread that sends the heartbeats."""
        self._thread.start()

    def set_progress(self, doing: Mapping[str, Any] | None) -> None:
        """Sets this worker's progress, which the next heartbeat reports."""
        self._doing = dict(doing) if doing is not None else None
        self._has_progressed = True

    @property
    def place(self) -> str:
        """Its machine and its device there, as `storage.workers.deaths` names places."""
        return f"{self._identity['host']} {self._identity['slot']}"

    @property
    def is_throttled(self) -> bool:
        """Whether this worker closes connections after use."""
        return self._throttle.is_throttled

    @property
    def longest_pause_s(self) -> float:
        """How long a worker may sleep between two polls; 0 for few workers."""
        return self.load.pause_s if self.load.workers > _FEW_WORKERS else 0.0

    @property
    def is_recovering(self) -> bool:
        """Whether the database is unavailable for this worker, or was until recently.

        Other workers could not send heartbeats either then, and must not be declared dead.
        """
        now_s = time.monotonic()
        if self._retrier.is_waiting or now_s - self._last_beat_s > 3 * self._interval_s:
            return True
        return self._recovered_s is not None and now_s - self._recovered_s < RECOVERY_S

    def close(self, reason: str = LEFT, died_on: int | None = None) -> None:
        """Leaves: releases all leases, and records why.

        Args:
            reason: why it leaves.
            died_on: number of the trial that it ends with, if it ends because of an error.

        If the database is unavailable, other workers find out by the timeout.
        """
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(2 * self._beat_s)
        with suppress(SQLAlchemyError):
            doing = None if died_on is None else {"trial": died_on}
            leave(self._connected(), self.worker, reason, doing)
        self._drop_connection()
        self._engine.dispose()

    def _work(self) -> None:
        # Workers that were started together should not send heartbeats together.
        while not self._ended.wait(random.uniform(0.8, 1) * self._interval_s):
            with suppress(SQLAlchemyError):  # it leaves, while the database is unavailable
                self._retrier.call(self._beat, self._ended)

    @property
    def _interval_s(self) -> float:
        return self.load.beat_s if self._throttle.is_throttled else self._beat_s

    def _beat(self) -> None:
        try:
            self._choose()
            connection = self._connected()
            self._send(connection)
            self._choose()
            self._apply(connection)
        except SQLAlchemyError:
            self._drop_connection()
            raise
        if self._retrier.is_waiting:
            self._recovered_s = time.monotonic()

    def _choose(self) -> None:
        """Decides whether this worker keeps its connections open, by the load of the server."""
        if self._throttle.was_refused:
            self._throttle.release_when_idle()
        elif self.load.is_known and not self.load.is_pooled:
            share = REOPEN_SHARE if self._throttle.is_throttled else KEEP_OPEN_SHARE
            should_throttle = _CONNECTIONS * self.load.workers > share * self.load.connections
            if should_throttle != self._throttle.is_throttled:
                if should_throttle:
                    self._throttle.release_when_idle()
                else:
                    self._throttle.keep_open()
        elif self.load.is_known:
            self._throttle.keep_open()

    def _apply(self, connection: sqlalchemy.Connection) -> None:
        """Opens or closes the connection as decided, and records it before others rely on it."""
        if self._throttle.is_throttled:
            if self._is_locked:
                self._is_locked = False
                self._send(connection)
            self._drop_connection()
        elif not self._is_locked and not self.load.is_pooled:
            # If it is not free, the server still has a broken connection of ours.
            self._is_locked = lock(connection, self.worker)
            if self._is_locked:
                self._send(connection)

    def _send(self, connection: sqlalchemy.Connection) -> None:
        has_progressed, self._has_progressed = self._has_progressed, False
        allowed_s = None
        if not self._is_locked:
            allowed_s = silence_allowed_s(self._interval_s)
        self.wanted, self.load = beat(
            connection,
            {
                **self._identity,
                "doing": self._doing,
                "has_progressed": has_progressed,
                "silence_allowed_s": allowed_s,
            },
        )
        now_s = time.monotonic()
        if now_s - self._last_beat_s > 3 * self._interval_s:
            # It was asleep or cut off: what this worker knows of the others is old.
            self._recovered_s = now_s
        self._last_beat_s = now_s

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
    """Opens a session for the duration of the context."""
    session = WorkerSession(url, study_id=study_id, slot=slot, throttle=throttle)
    session.register()
    session.start()
    try:
        yield session
    finally:
        session.close()
