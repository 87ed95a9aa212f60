"""What a server reports about itself: enough to tell whether a search can run on it."""

from dataclasses import dataclass

import sqlalchemy

from canopy_search.storage.connection.urls import check_reachable, masked, version_text
from canopy_search.storage.database import make_engine
from canopy_search.storage.schema.upgrade import (
    TableState,
    creation_obstacle,
    is_read_only,
    table_state,
)

_RIGHTS = sqlalchemy.text("SELECT has_schema_privilege(current_schema(), 'CREATE')")
# pg_stat_activity hides what other users' connections are; PostgreSQL 16 reserves more.
_CONNECTIONS = sqlalchemy.text("""
    SELECT current_setting('max_connections')::int
         - current_setting('superuser_reserved_connections')::int
         - coalesce(current_setting('reserved_connections', true)::int, 0) AS allowed,
           (SELECT sum(numbackends) FROM pg_stat_database)::int AS used
""")


@dataclass(frozen=True)
class ServerHealth:
    """The state of a server that accepts our connections.

    Attributes:
        url: of the server, its password masked.
        version: as it is usually written, such as ``18.4``.
        is_read_only: whether nothing can be written.
        may_create: whether this user may create tables.
        connections_allowed: for all users but superusers.
        connections_used: by all users, this one included.
        tables: the state of our tables and Optuna's.
        obstacle: why the missing tables cannot be created, with the remedy; None if they can be.
    """

    url: str
    version: str
    is_read_only: bool
    may_create: bool
    connections_allowed: int
    connections_used: int
    tables: TableState
    obstacle: str | None = None

    @property
    def connections_free(self) -> int:
        """How many more connections there can be, now that ours is closed."""
        return max(0, self.connections_allowed - self.connections_used + 1)


def server_health(url: sqlalchemy.URL) -> ServerHealth:
    """Reads the state of a server; changes nothing.

    Args:
        url: as `parse_database_url` returns it.

    Raises:
        DatabaseUnreachableError: it does not answer, or refuses the connection.
        DatabaseVersionError: it is too old.
    """
    check_reachable(url)
    engine = make_engine(url, connections=2)
    try:
        with engine.connect() as connection:
            version = connection.scalar(sqlalchemy.text("SHOW server_version_num"))
            connections = connection.execute(_CONNECTIONS).one()
            tables = table_state(connection)
            return ServerHealth(
                url=masked(url.set(drivername="postgresql")),
                version=version_text(int(version)),
                is_read_only=is_read_only(connection),
                may_create=bool(connection.scalar(_RIGHTS)),
                connections_allowed=connections.allowed,
                connections_used=connections.used,
                tables=tables,
                obstacle=creation_obstacle(connection) if tables == "none" else None,
            )
    finally:
        engine.dispose()
