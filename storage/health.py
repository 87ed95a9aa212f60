"""What a server says of itself: enough to know whether a search can live on it."""

from dataclasses import dataclass

import sqlalchemy

from storage.connecting import check_reachable, shown, version_text
from storage.database import engine_options
from storage.schema import HEAD, is_read_only, table_revision

_RIGHTS = sqlalchemy.text("SELECT has_schema_privilege(current_schema(), 'CREATE')")
_CONNECTIONS = sqlalchemy.text("""
    SELECT current_setting('max_connections')::int
         - current_setting('superuser_reserved_connections')::int AS allowed,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used
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
        revision: of our tables, None where there are none yet.
    """

    url: str
    version: str
    is_read_only: bool
    may_create: bool
    connections_allowed: int
    connections_used: int
    revision: str | None

    @property
    def is_current(self) -> bool:
        """Whether our tables are there and as this version needs them."""
        return self.revision == HEAD


def server_health(url: sqlalchemy.URL) -> ServerHealth:
    """Asks a server; changes nothing.

    Args:
        url: as `parse_database_url` gives it.

    Raises:
        DatabaseUnreachableError: it does not answer, or refuses us.
        DatabaseVersionError: it is older than we need.
    """
    check_reachable(url)
    engine = sqlalchemy.create_engine(url, **engine_options(url))
    try:
        with engine.connect() as connection:
            version = connection.scalar(sqlalchemy.text("SHOW server_version_num"))
            connections = connection.execute(_CONNECTIONS).one()
            return ServerHealth(
                url=shown(url),
                version=version_text(int(version)),
                is_read_only=is_read_only(connection),
                may_create=bool(connection.scalar(_RIGHTS)),
                connections_allowed=connections.allowed,
                connections_used=connections.used,
                revision=table_revision(connection),
            )
    finally:
        engine.dispose()
