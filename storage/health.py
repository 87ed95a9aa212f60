"""What a server says of itself: enough to know whether a search can live on it."""

from dataclasses import dataclass

import sqlalchemy

from canopy_search.storage.connection.urls import check_reachable, shown, version_text
from canopy_search.storage.database import make_engine
from canopy_search.storage.schema.upgrade import TableState, is_read_only, table_state

_RIGHTS = sqlalchemy.text("SELECT has_schema_privilege(current_schema(), 'CREATE')")
# pg_stat_activity would hide what connections of other users are; PostgreSQL 16 reserves more.
_CONNECTIONS = sqlalchemy.text("""
    SELECT current_setting('max_connections')::int
         - current_setting('superuser_reserved_connections')::int
         - coalesce(current_setting('reserved_connections', true)::int, 0) AS allowed,
           (SELECT sum(numbackends) FROM pg_stat_database)::int AS used
""")


@dataclass(frozen=True)
class ServerHealth:
    """A server that lets us in.

    Attributes:
        url: where it is, its password masked.
        version: as people write it.
        is_read_only: whether nothing can be written.
        may_create: whether we may make tables.
        connections_allowed: for everybody but superusers.
        connections_used: by everybody, ours included.
        tables: how ours and Optuna's are.
    """

    url: str
    version: str
    is_read_only: bool
    may_create: bool
    connections_allowed: int
    connections_used: int
    tables: TableState

    @property
    def connections_free(self) -> int:
        """How many more there can be, now that ours is over."""
        return max(0, self.connections_allowed - self.connections_used + 1)


def server_health(url: sqlalchemy.URL) -> ServerHealth:
    """Asks a server; changes nothing.

    Args:
        url: as `parse_database_url` gives it.

    Raises:
        DatabaseUnreachableError: it does not answer, or refuses us.
        DatabaseVersionError: it is older than we need.
    """
    check_reachable(url)
    engine = make_engine(url, connections=2)
    try:
        with engine.connect() as connection:
            version = connection.scalar(sqlalchemy.text("SHOW server_version_num"))
            connections = connection.execute(_CONNECTIONS).one()
            return ServerHealth(
                url=shown(url.set(drivername="postgresql")),
                version=version_text(int(version)),
                is_read_only=is_read_only(connection),
                may_create=bool(connection.scalar(_RIGHTS)),
                connections_allowed=connections.allowed,
                connections_used=connections.used,
                tables=table_state(connection),
            )
    finally:
        engine.dispose()
