"""One process at a time: locks that the server itself frees when their holder dies."""

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from storage.connecting import connect_options
from storage.errors import StudyBusyError, StudyLockLostError

_HOLDER_PREFIX = "canopy search "
# The server cuts an application's name after 63 bytes, and the process id comes last.
_LONGEST_HOST = 40
_LOCK = """
    FROM pg_locks AS held LEFT JOIN pg_stat_activity AS activity USING (pid)
    WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
      AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (held.classid::bigint << 32) | held.objid::bigint = :key
"""
_HOLDER = sqlalchemy.text("SELECT activity.application_name" + _LOCK)
_HELD_HERE = sqlalchemy.text("SELECT count(*)" + _LOCK + " AND pid = pg_backend_pid()")


class StudyLock:
    """A study that is held for this process.

    Args:
        connection: holds it; the server frees the study when the connection ends.
        study_name: of the study.
    """

    def __init__(self, connection: sqlalchemy.Connection, study_name: str) -> None:
        self._connection = connection
        self._study_name = study_name

    def check(self) -> None:
        """Makes sure that the study is still held; to be called before anything is written.

        Raises:
            StudyLockLostError: it is not, so another process may search in it by now.
        """
        try:
            held = self._connection.scalar(_HELD_HERE, {"key": _key(self._study_name)})
        except SQLAlchemyError:
            held = False
        if not held:
            raise StudyLockLostError(
                f"the database was restarted or cut us off, and study {self._study_name!r} is not "
                "held for this process any more; nothing is lost, the same command goes on"
            )


@contextmanager
def study_lock(url: sqlalchemy.URL, study_name: str) -> Iterator[StudyLock]:
    """Holds a study for this process, on a connection of its own.

    The lock lives as long as the connection: it is free at once when this process dies, and lost
    when the server restarts.

    Raises:
        StudyBusyError: another process holds it; the message says which.
    """
    engine = sqlalchemy.create_engine(
        url,
        poolclass=sqlalchemy.NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args=connect_options(url, _holder()),
    )
    key = _key(study_name)
    with engine.connect() as connection:
        attempt = sqlalchemy.select(sqlalchemy.func.pg_try_advisory_lock(key))
        if not connection.scalar(attempt):
            by = _describe(connection.scalar(_HOLDER, {"key": key}))
            raise StudyBusyError(
                f"study {study_name!r} is being searched by {by}; wait for its end, stop it with "
                "Ctrl-C there, or choose another study with --study"
            )
        try:
            yield StudyLock(connection, study_name)
        finally:
            # The server notices a closed connection late. With a lost one the lock is lost.
            with suppress(SQLAlchemyError):
                connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_unlock(key)))


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
