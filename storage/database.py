"""An opened database with all tables in place."""

from contextlib import ExitStack
from dataclasses import dataclass, field

import sqlalchemy

from canopy_search.storage.connection.throttle import ConnectionThrottle
from canopy_search.storage.connection.urls import (
    check_reachable,
    connect_options,
    limit_idle_transactions,
    masked,
    skip_isolation_reset,
)
from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.schema.tables import DATABASE
from canopy_search.storage.schema.upgrade import check_readable, check_writable, prepare_schema

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

    def close(self) -> None:
        """Closes the connections; the server keeps running."""
        self.engine.dispose()


def open_database(
    url: sqlalchemy.URL, embedded: EmbeddedPostgres | None, *, writes: bool
) -> Database:
    """Connects to a running server and prepares or checks the tables; see `Workspace.open`."""
    engine, throttle = make_engine(url, connections=1 if writes else 3), ConnectionThrottle()
    if writes:
        throttle.manage(engine)
    with ExitStack() as on_failure:
        on_failure.callback(engine.dispose)
        check_reachable(url)
        if writes:
            prepare_schema(engine)
            check_writable(engine)
        else:
            check_readable(engine)
        on_failure.pop_all()
    return Database(url, engine, embedded, throttle)


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
