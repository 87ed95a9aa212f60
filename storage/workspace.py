"""A workspace: the state folder and the database of all commands and workers that share it."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy

from canopy_search.filestore.retry import Retrier, RetryPolicy
from canopy_search.storage.connection.retry import DATABASE
from canopy_search.storage.connection.urls import check_reachable, masked, parse_database_url
from canopy_search.storage.database import Database, open_database
from canopy_search.storage.errors import (
    DatabaseUnreachableError,
    DatabaseVersionError,
    EmbeddedPostgresError,
    NoDatabaseError,
)
from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.postgres.machine import check_not_elsewhere


@dataclass(frozen=True)
class Workspace:
    """Where a process keeps its state, and for how long it waits for the database there.

    It can be pickled, and is handed to other processes whole.

    Attributes:
        home: the state folder; contains the embedded server's data, too.
        url: of the database, its password included; None or blank for the embedded server.
        retry: how long to wait for an unavailable database.
    """

    home: Path
    url: str | None = field(default=None, repr=False)
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    @property
    def embedded(self) -> EmbeddedPostgres | None:
        """The embedded server, running or not; None if the URL names another one."""
        has_url = bool(self.url and self.url.strip())
        return None if has_url else EmbeddedPostgres(self.home / "postgres")

    def start(self) -> sqlalchemy.URL:
        """Returns the URL of the database, and starts the embedded server if that is used.

        Raises:
            DatabaseUrlError: `url` is not the URL of a Postgres server.
            EmbeddedPostgresError: the embedded server cannot be started.
        """
        embedded = self.embedded
        if embedded is None:
            return parse_database_url(self.url or "")
        # They are meant for another server, and libpq would apply them to this one.
        for name in [name for name in os.environ if name.startswith("PG")]:
            del os.environ[name]
        return embedded.start()

    def open(self) -> Database:
        """Opens the database for writing; creates or upgrades the tables if needed.

        Raises:
            DatabaseUrlError: `url` is not the URL of a Postgres server.
            DatabaseUnreachableError: the server does not answer, or refuses the connection.
            DatabaseVersionError: the server is too old.
            DatabaseReadOnlyError: it is read-only.
            DatabaseSchemaError: a newer Canopy created the tables, they cannot be created, or
                workers of an older version are alive.
            EmbeddedPostgresError: the embedded server cannot be started.
        """
        return open_database(self.start(), self.embedded, writes=True)

    def open_existing(self, *, writes: bool = False) -> Database:
        """Opens the database, like `open`, but creates no embedded one.

        Args:
            writes: whether the caller writes; for reading a standby is enough, and no table is
                created or changed.

        Raises:
            NoDatabaseError: nothing is stored in it yet.
            DatabaseSchemaError: an older or a newer Canopy created the tables, for reading.
            StorageError: as `open`.
        """
        embedded = self.embedded
        if embedded is not None and not embedded.has_data():
            raise NoDatabaseError(
                f"nothing is stored in {self.home} yet; start with: canopy search"
            )
        return open_database(self.start(), embedded, writes=writes)

    def describe(self) -> dict[str, Any]:
        """Describes where the database is and whether it answers; starts and changes nothing.

        Returns:
            `kind` (embedded or server), `url` (its password masked), `running`; for an embedded one
            also `log`, for one on another machine and a server that does not answer also `reason`.

        Raises:
            DatabaseUrlError: `url` is not the URL of a Postgres server.
        """
        embedded = self.embedded
        url = embedded.url if embedded else parse_database_url(self.url or "")
        state = {"kind": "embedded" if embedded else "server", "url": masked(url), "running": True}
        try:
            if embedded is not None:
                is_running = embedded.has_data() and embedded.is_running()
                state |= {"running": is_running, "log": str(embedded.log_path)}
                check_not_elsewhere(embedded.folder)
            else:
                check_reachable(url)
        except (DatabaseUnreachableError, DatabaseVersionError, EmbeddedPostgresError) as error:
            state |= {"running": False, "reason": str(error)}
        return state

    def retrier(self, note: Callable[[str], None] = lambda _text: None) -> Retrier:
        """Returns what repeats calls while the database is unavailable.

        An embedded server that died is started again.

        Args:
            note: gets messages for the user.
        """
        return Retrier(self.retry, DATABASE, note=note, revive=self._revive)

    def _revive(self) -> None:
        if (embedded := self.embedded) is not None:
            with suppress(EmbeddedPostgresError):
                embedded.start()
