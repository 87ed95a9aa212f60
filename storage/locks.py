"""One process at a time: locks that the server itself frees when their holder dies."""

import hashlib
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import sqlalchemy
from sqlalchemy import func
from sqlalchemy.exc import SQLAlchemyError

from storage.connecting import connect_options
from storage.errors import StudyBusyError, StudyLockLostError

_HOLDER_PREFIX = "canopy search "
# The server cuts an application's name after 63 bytes, and the process id comes last.
_LONGEST_HOST = 40
_ADVISORY = """
    FROM pg_locks AS held LEFT JOIN pg_stat_activity AS activity USING (pid)
    WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
      AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (held.classid::bigint << 32) | held.objid::bigint
"""
_LOCK = _ADVISORY + " = :key"

LIVING_WORKERS = (
    "SELECT (held.classid::bigint << 32) | held.objid::bigint" + _ADVISORY + "IS NOT NULL"
)
"""SQL that lists every advisory lock of the database, those of living workers among them."""

_HOLDER = sqlalchemy.text("SELECT activity.application_name" + _LOCK)
_HELD_HERE = sqlalchemy.text("SELECT count(*)" + _LOCK + " AND pid = pg_backend_pid()")


class WorkerSession:
    """A connection of a process that works, by whose end the server notices the process's.

    Args:
        connection: holds the advisory locks.

    Attributes:
        worker: a number that no other session has; the server says whether it is still there.
    """

    def __init__(self, connection: sqlalchemy.Connection) -> None:
        self._connection = connection
        self.worker = secrets.randbits(62)
        self.try_lock(self.worker)

    def try_lock(self, key: int) -> bool:
        """Takes a lock for this session, unless another has it."""
        return bool(self._connection.scalar(sqlalchemy.select(func.pg_try_advisory_lock(key))))

    def unlock(self, key: int) -> None:
        """Gives a lock back; with a lost connection it is lost already."""
        with suppress(SQLAlchemyError):
            self._connection.execute(sqlalchemy.select(func.pg_advisory_unlock(key)))

    def holds(self, key: int) -> bool:
        """Whether the server still counts a lock as this session's."""
        try:
            return bool(self._connection.scalar(_HELD_HERE, {"key": key}))
        except SQLAlchemyError:
            return False

    def holder(self, key: int) -> str:
        """Says in words who has a lock."""
        return _describe(self._connection.scalar(_HOLDER, {"key": key}))


class StudyLock:
    """A study that is held for this process.

    Args:
        session: holds it; the server frees the study when its connection ends.
        study_name: of the study.
    """

    def __init__(self, session: WorkerSession, study_name: str) -> None:
        self._session = session
        self._study_name = study_name
        self.worker = session.worker

    def check(self) -> None:
        """Makes sure that the study is still held; to be called before anything is written.

        Raises:
            StudyLockLostError: it is not, so another process may search in it by now.
        """
        if not self._session.holds(_key(self._study_name)):
            raise StudyLockLostError(
                f"the database was restarted or cut us off, and study {self._study_name!r} is not "
                "held for this process any more; nothing is lost, the same command goes on"
            )


@contextmanager
def worker_session(url: sqlalchemy.URL) -> Iterator[WorkerSession]:
    """Opens a connection that lives as long as this process works."""
    engine = sqlalchemy.create_engine(
        url,
        poolclass=sqlalchemy.NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args=connect_options(url, _holder()),
    )
    with engine.connect() as connection:
        session = WorkerSession(connection)
        try:
            yield session
        finally:
            # The server notices a closed connection late.
            session.unlock(session.worker)


@contextmanager
def study_lock(url: sqlalchemy.URL, study_name: str) -> Iterator[StudyLock]:
    """Holds a study for this process, on a connection of its own.

    The lock lives as long as the connection: it is free at once when this process dies, and lost
    when the server restarts.

    Raises:
        StudyBusyError: another process holds it; the message says which.
    """
    key = _key(study_name)
    with worker_session(url) as session:
        if not session.try_lock(key):
            raise StudyBusyError(
                f"study {study_name!r} is being searched by {session.holder(key)}; wait for its "
                "end, stop it with Ctrl-C there, or choose another study with --study"
            )
        try:
            yield StudyLock(session, study_name)
        finally:
            session.unlock(key)


def is_study_locked(connection: sqlalchemy.Connection, study_name: str) -> bool:
    """Says whether any process holds the study."""
    return connection.execute(_HOLDER, {"key": _key(study_name)}).first() is not None


def _key(study_name: str) -> int:
    digest = hashlib.blake2b(f"canopy study {study_name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def _holder() -> str:
    return f"{_HOLDER_PREFIX}{socket.gethostname()[:_LONGEST_HOST]}:{os.getpid()}"


def _describe(application: str | None) -> str:
    if application is None or not application.startswith(_HOLDER_PREFIX):
        return "another process"
    host, _, pid = application.removeprefix(_HOLDER_PREFIX).rpartition(":")
    return f"process {pid} on {host}"
