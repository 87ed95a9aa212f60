"""The one database: a server that the caller names, or the embedded one."""

from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy

from canopy_search.storage.connection.throttle import ConnectionThrottle
from canopy_search.storage.connection.urls import (
    check_reachable,
    connect_options,
    never_idle_for_long,
    parse_database_url,
    resets_at_no_cost,
    shown,
)
from canopy_search.storage.errors import (
    DatabaseUnreachableError,
    DatabaseVersionError,
    EmbeddedPostgresError,
    NoDatabaseError,
)
from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.schema.tables import DATABASE
from canopy_search.storage.schema.upgrade import check_writable, prepare_schema

# A connection is somebody's for milliseconds; for as long as this only where the server hangs.
_POOL_TIMEOUT_S = 60


@dataclass(frozen=True)
class Database:
    """A database with all tables in place.

    Attributes:
        url: where it is, password included.
        engine: its connections: one for a worker, some for a command that only reads.
        embedded: the server behind it, if that is the embedded one.
        throttle: whether the connection of a worker is held.
    """

    url: sqlalchemy.URL = field(repr=False)
    engine: sqlalchemy.Engine = field(repr=False)
    embedded: EmbeddedPostgres | None = field(repr=False)
    throttle: ConnectionThrottle = field(default_factory=ConnectionThrottle, repr=False)

    def __repr__(self) -> str:
        return f"Database({self.shown_url!r})"

    @property
    def shown_url(self) -> str:
        """The URL as people may see it."""
        return shown(self.url)

    @property
    def place(self) -> str:
        """Where it is, in words."""
        if self.embedded is None:
            return self.shown_url
        return f"embedded Postgres in {self.embedded.folder}"

    def read_id(self) -> str:
        """Returns the id that the database was given when its tables were made."""
        with self.engine.connect() as connection:
            return str(connection.scalar(sqlalchemy.select(DATABASE.c.id)))

    def revive(self) -> None:
        """Starts the embedded server again if it died; another server is not ours to start."""
        if self.embedded is not None:
            with suppress(EmbeddedPostgresError):
                self.embedded.start()

    def close(self) -> None:
        """Closes the connections; the server stays."""
        self.engine.dispose()


def open_database(home: Path, url: str | None, *, writes: bool = True) -> Database:
    """Opens the database, starts the embedded server if need be, and prepares the tables.

    Args:
        home: the state folder, which the embedded server's data lies in.
        url: of another server; None or blank for the embedded one.
        writes: whether the caller will write; one who only reads can do with a standby.

    Raises:
        DatabaseUrlError: `url` is not one of a Postgres server.
        DatabaseUnreachableError: the server does not answer, or refuses us.
        DatabaseVersionError: the server is older than we need.
        DatabaseReadOnlyError: it only reads, and the caller writes or there are no tables yet.
        DatabaseSchemaError: the tables are a newer Canopy's, or cannot be made.
        EmbeddedPostgresError: the embedded server cannot be started.
    """
    embedded = None if _is_given(url) else embedded_postgres(home)
    place = embedded.start() if embedded else parse_database_url(url or "")
    engine, throttle = make_engine(place, connections=1 if writes else 3), ConnectionThrottle()
    if writes:
        throttle.govern(engine)
    with ExitStack() as on_failure:
        on_failure.callback(engine.dispose)
        check_reachable(place)
        prepare_schema(engine)
        if writes:
            check_writable(engine)
        on_failure.pop_all()
    return Database(place, engine, embedded, throttle)


def open_existing_database(home: Path, url: str | None) -> Database:
    """Opens the database like `open_database`, but makes no new embedded one, and only reads.

    Raises:
        NoDatabaseError: nothing was ever stored below `home`.
    """
    if not _is_given(url) and not embedded_postgres(home).has_data():
        raise NoDatabaseError(f"nothing is stored in {home} yet; begin with: canopy search")
    return open_database(home, url, writes=False)


def embedded_postgres(home: Path) -> EmbeddedPostgres:
    """Returns the embedded server of a state folder, running or not."""
    return EmbeddedPostgres(home / "postgres")


def describe_database(home: Path, url: str | None) -> dict[str, Any]:
    """Says where the database is and whether it answers; starts and changes nothing.

    Returns:
        `kind` (embedded or server), `url` (its password masked), `running`; of an embedded one also
        `log`, of a server that does not answer also `reason`.

    Raises:
        DatabaseUrlError: `url` is not one of a Postgres server.
    """
    if not _is_given(url):
        embedded = embedded_postgres(home)
        return {
            "kind": "embedded",
            "url": shown(embedded.url),
            "running": embedded.is_running(),
            "log": str(embedded.log_path),
        }
    place = parse_database_url(url or "")
    state: dict[str, Any] = {"kind": "server", "url": shown(place), "running": True}
    try:
        check_reachable(place)
    except (DatabaseUnreachableError, DatabaseVersionError) as error:
        state |= {"running": False, "reason": str(error)}
    return state


def make_engine(url: sqlalchemy.URL, *, connections: int) -> sqlalchemy.Engine:
    """Returns an engine of so many connections at most, checked before use."""
    engine = sqlalchemy.create_engine(
        url,
        pool_pre_ping=True,
        pool_size=1,
        max_overflow=connections - 1,
        pool_timeout=_POOL_TIMEOUT_S,
        connect_args=connect_options(url, "canopy"),
    )
    never_idle_for_long(engine)
    resets_at_no_cost(engine)
    return engine


def _is_given(url: str | None) -> bool:
    return bool(url and url.strip())
