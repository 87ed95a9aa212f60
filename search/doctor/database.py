"""Checks of the database; they change nothing in it."""

from collections.abc import Iterator

import sqlalchemy

from canopy_search.search.doctor.finding import Finding, error, failure, ok, warning
from canopy_search.search.doctor.state_folder import network_file_system
from canopy_search.storage.connection.urls import parse_database_url
from canopy_search.storage.health import ServerHealth, server_health
from canopy_search.storage.postgres.programs import POSTGRES_VERSION, program
from canopy_search.storage.workspace import Workspace

# Two in Canopy's pool, two in Optuna's, and one for the study's lock.
_CONNECTIONS_OF_A_SEARCH = 5


def check_database(workspace: Workspace) -> Iterator[Finding]:
    """Checks the database of a workspace.

    A stopped embedded server is started, as by every command; a new one is not created.

    Raises:
        StorageError: the database cannot be used.
        DBAPIError: the server accepts the connection and does not answer.
    """
    embedded = workspace.embedded
    if embedded is None:
        server_url = parse_database_url(workspace.url or "")
        health = server_health(server_url)
        where = f"Postgres {health.version} at {health.url}"
    else:
        if (kind := network_file_system(workspace.home)) is not None:
            yield warning(
                "state folder",
                f"{workspace.home} is on a network file system ({kind}), and so is the embedded "
                "Postgres, which only one machine at a time can use",
                "set DATABASE_URL to a server, or CANOPY_HOME to a folder on a disk",
            )
        if not embedded.has_data():
            program("postgres")
            yield ok(
                "database", f"embedded Postgres {POSTGRES_VERSION}, created by the first search"
            )
            return
        server_url = embedded.start()
        health = server_health(server_url)
        where = f"embedded Postgres {health.version} in {workspace.home}"
    yield _server_finding(server_url, health, where)
    yield _tables_finding(health)
    yield _connections_finding(health)


def _server_finding(server_url: sqlalchemy.URL, health: ServerHealth, where: str) -> Finding:
    if health.is_read_only:
        return error(
            "database",
            f"{where} is read-only (a standby, or default_transaction_read_only is on); "
            "a search cannot write",
            "set DATABASE_URL to the primary server",
        )
    if health.tables != "current" and not health.may_create:
        return error(
            "database",
            f"{where} does not let this user create tables",
            f"GRANT CREATE ON SCHEMA public TO {server_url.username or 'the user'}, "
            "or use another user in DATABASE_URL",
        )
    return ok("database", where)


def _tables_finding(health: ServerHealth) -> Finding:
    if health.obstacle is not None:
        return failure("tables", health.obstacle, "set DATABASE_URL to another database")
    if health.tables == "newer":
        return error(
            "tables",
            "created by another, probably newer version of Canopy or Optuna",
            "update canopy-search, or set DATABASE_URL to another database",
        )
    # An unwritable database is reported as an error above, so this line promises no change.
    is_writable = not health.is_read_only and health.may_create
    words = {
        "none": "none yet" + ", created by the first search" * is_writable,
        "old": "of an older version" + ", upgraded by the next search" * is_writable,
        "current": "match this version",
    }
    return ok("tables", words[health.tables])


def _connections_finding(health: ServerHealth) -> Finding:
    found = f"{health.connections_free} of {health.connections_allowed} free"
    if health.connections_free < _CONNECTIONS_OF_A_SEARCH:
        return warning(
            "connections",
            f"{found}; a search uses up to {_CONNECTIONS_OF_A_SEARCH}",
            "close some, or raise the server's max_connections",
        )
    return ok("connections", found)
