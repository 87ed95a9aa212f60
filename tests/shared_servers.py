"""Servers that all processes of one run of the tests share: a Postgres, a moto and a Chromium.

The process that needs one first starts it; the process that was started by hand, which outlives
the others, stops them all.
"""

import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from subprocess import Popen
from tempfile import mkdtemp
from typing import Any

import psycopg2
import sqlalchemy
from filelock import FileLock

from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from tests.bucket import start_moto
from tests.chromium import start_chromium

START_LIMIT_S = 300.0
_CONNECTIONS = 300  # two processes' tests at once, some of them with 32 workers
# What tests store need not survive a power cut.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": str(_CONNECTIONS),
}

Facts = dict[str, Any]


class SharedServers:
    """The servers of one run.

    Args:
        folder: of the run; None makes one, for whoever stops the servers in the end.
    """

    def __init__(self, folder: Path | None = None) -> None:
        # The path of a socket has to be short, and an account without rights has to get there.
        self.folder = folder or Path(mkdtemp(prefix="canopy-tests-"))
        self._own: list[Popen[bytes]] = []  # those that this process started

    def postgres_url(self) -> str:
        """Returns the URL of a Postgres without durability."""
        return str(self._started("postgres", self._start_postgres)["url"])

    def moto(self) -> Facts:
        """Returns the ``port`` and ``log`` of a server of buckets."""
        return self._started("moto", lambda: self._keep(*start_moto(self.folder / "moto.log")))

    def chromium_url(self) -> str:
        """Returns where a browser listens for commands."""
        started = self._started("chromium", lambda: self._keep(*start_chromium(self.folder)))
        return str(started["url"])

    def stop(self) -> None:
        """Stops all that were started, and removes their files."""
        for name in ("moto", "chromium"):
            if (facts := self._facts(name)) is not None:
                with suppress(ProcessLookupError):
                    os.killpg(facts["pid"], signal.SIGKILL)
        if self._facts("postgres") is not None:
            EmbeddedPostgres(self.folder / "postgres").stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep(self, process: Popen[bytes], facts: Facts) -> Facts:
        self._own.append(process)
        return facts | {"pid": process.pid}

    def _started(self, name: str, start: Callable[[], Facts]) -> Facts:
        with FileLock(self.folder / f"{name}.lock", timeout=START_LIMIT_S):
            facts = self._facts(name)
            if facts is None:
                facts = start()
                (self.folder / f"{name}.json").write_text(json.dumps(facts))
        return facts

    def _facts(self, name: str) -> Facts | None:
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def _start_postgres(self) -> Facts:
        server = EmbeddedPostgres(self.folder / "postgres")
        server.start()
        for name, value in _SETTINGS.items():
            execute(server.url, f"ALTER SYSTEM SET {name} = {value}")
        server.stop()
        return {"url": server.start().render_as_string(hide_password=False)}


def execute(url: str | sqlalchemy.URL, statement: str) -> list[tuple[Any, ...]]:
    """Executes a statement in a connection of its own and returns its rows."""
    with closing(connected(url)) as connection:
        return rows(connection, statement)


def connected(url: str | sqlalchemy.URL) -> Any:
    """Returns a connection in which each statement is a transaction."""
    place = sqlalchemy.make_url(url)
    connection = psycopg2.connect(user=place.username, dbname=place.database, **place.query)
    connection.autocommit = True
    return connection


def rows(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    """Executes a statement and returns its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []
