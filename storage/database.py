"""The database: the server that DATABASE_URL names, or the embedded Postgres."""

from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy

from canopy_search.storage.connection.throttle import ConnectionThrottle
from canopy_search.storage.connection.urls import (
    check_reachable,
    connect_options,
    limit_idle_transactions,
    masked,
    parse_database_url,
    skip_isolation_reset,
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

# A connection is used for milliseconds; it takes this long only if the server hangs.
_POOL_TIMEOUT_S = 60


@dataclass(frozen=True)
class Database:
    """A database with all tables in place.

    Attributes:
        url: of the server, password included.
        engine: its connection pool: one connection for a worker, some for a command that only
            reads.
        embedded: the embedded server, if that is used.
        throttle: decides whether a worker keeps its connection open.
    """

    url: sqlalchemy.URL = field(repr=False)
    engine: sqlalchemy.Engine = field(repr=False)
    embedded: EmbeddedPostgres | None = field(repr=False)
    throttle: ConnectionThrottle = field(default_factory=ConnectionThrottle, repr=False)

    def __repr__(self) -> str:
        return f"Database({self.shown_url!r})"

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return masked(self.url)

    @property
    def place(self) -> str:
        """The location of the database, for messages."""
        if self.embedded is None:
            return self.shown_url
        return f"embedded Postgres in {self.embedded.folder}"

    def read_id(self) -> str:
        """Returns the id that the database got when its tables were created."""
        with self.engine.connect() as connection:
            return str(connection.scalar(sqlalchemy.select(DATABASE.c.id)))

    def revive(self) -> None:
        """Restarts the embedded server if it died; does nothing for another server."""
        if self.embedded is not None:
            with suppress(EmbeddedPostgresError):
                self.embedded.start()

    def close(self) -> None:
        """Closes the connections; the server keeps running."""
        self.engine.dispose()


def open_database(home: Path, url: str | None, *, writes: bool = True) -> Database:
    """Opens the database, starts the embedded server if needed, and prepares the tables.

    Args:
        home: the state folder, which contains the embedded server's data.
        url: of another server; None or blank for the embedded one.
        writes: whether the caller writes; a standby is enough for reading.

    Raises:
        DatabaseUrlError: `url` is not the URL of a Postgres server.
        DatabaseUnreachableError: the server does not answer, or refuses the connection.
        DatabaseVersionError: the server is too old.
        DatabaseReadOnlyError: it is read-only, and the caller writes or there are no tables yet.
        DatabaseSchemaError: a newer Canopy created the tables, or they cannot be created.
        EmbeddedPostgresError: the embedded server cannot be started.
    """
    embedded = None if _is_given(url) else embedded_postgres(home)
    server = embedded.start() if embedded else parse_database_url(url or "")
    engine, throttle = make_engine(server, connections=1 if writes else 3), ConnectionThrottle()
    if writes:
        throttle.manage(engine)
    with ExitStack() as on_failure:
        on_failure.callback(engine.dispose)
        check_reachable(server)
        prepare_schema(engine)
        if writes:
            check_writable(engine)
        on_failure.pop_all()
    return Database(server, engine, embedded, throttle)


def open_existing_database(home: Path, url: str | None) -> Database:
    """Opens the database for reading, like `open_database`, but creates no embedded one.

    Raises:
        NoDatabaseError: nothing is stored below `home` yet.
    """
    if not _is_given(url) and not embedded_postgres(home).has_data():
        raise NoDatabaseError(f"nothing is stored in {home} yet; start with: canopy search")
    return open_database(home, url, writes=False)


def embedded_postgres(home: Path) -> EmbeddedPostgres:
    """Returns the embedded server of a state folder, running or not."""
    return EmbeddedPostgres(home / "postgres")


def describe_database(home: Path, url: str | None) -> dict[str, Any]:
    """Describes where the database is and whether it answers; starts and changes nothing.

    Returns:
        `kind` (embedded or server), `url` (its password masked), `running`; for an embedded one
        also `log`, for a server that does not answer also `reason`.

    Raises:
        DatabaseUrlError: `url` is not the URL of a Postgres server.
    """
    if not _is_given(url):
        embedded = embedded_postgres(home)
        return {
            "kind": "embedded",
            "url": masked(embedded.url),
            "running": embedded.is_running(),
            "log": str(embedded.log_path),
        }
    server = parse_database_url(url or "")
    state: dict[str, Any] = {"kind": "server", "url": masked(server), "running": True}
    try:
        check_reachable(server)
    except (DatabaseUnreachableError, DatabaseVersionError) as error:
        state |= {"running": False, "reason": str(error)}
    return state


def make_engine(url: sqlalchemy.URL, *, connections: int) -> sqlalchemy.Engine:
    """Returns an engine with at most `connections` connections, each checked before use."""
    engine = sqlalchemy.create_engine(
        url,
        pool_pre_ping=True,
        pool_size=1,
        max_overflow=connections - 1,
        pool_timeout=_POOL_TIMEOUT_S,
        connect_args=connect_options(url, "canopy"),
    )
    limit_idle_transactions(engine)
    skip_isolation_reset(engine)
    return engine


def _is_given(url: str | None) -> bool:
    return bool(url and url.strip())
