"""Checks of the database, which change nothing in it."""

from collections.abc import Iterator
from pathlib import Path

import sqlalchemy

from canopy_search.search.doctor.finding import Finding, error, ok, warning
from canopy_search.storage.connection.urls import parse_database_url
from canopy_search.storage.database import embedded_postgres
from canopy_search.storage.health import ServerHealth, server_health
from canopy_search.storage.postgres.programs import POSTGRES_VERSION, program

# Ours and Optuna's pool, two each, and the lock on the study.
_CONNECTIONS_OF_A_SEARCH = 5


def check_database(home: Path, url: str | None) -> Iterator[Finding]:
    """Asks the server that `url` names, or the embedded one if there is one.

    An embedded server that is stopped is started, as every command does; none is made.

    Args:
        home: the state folder.
        url: of another server; None or blank for the embedded one.

    Raises:
        StorageError: it cannot be used.
        DBAPIError: it lets us in and does not answer.
    """
    if url and url.strip():
        place = parse_database_url(url)
        health = server_health(place)
        where = f"Postgres {health.version} at {health.url}"
    else:
        embedded = embedded_postgres(home)
        if not embedded.has_data():
            program("postgres")
            yield ok("database", f"embedded Postgres {POSTGRES_VERSION}, made by the first search")
            return
        place = embedded.start()
        health = server_health(place)
        where = f"embedded Postgres {health.version} in {home}"
    yield _server_finding(place, health, where)
    yield _tables_finding(health)
    yield _connections_finding(health)


def _server_finding(place: sqlalchemy.URL, health: ServerHealth, where: str) -> Finding:
    if health.is_read_only:
        return error(
            "database",
            f"{where} can only be read: a standby, or default_transaction_read_only is on; "
            "a search cannot write",
            "name the primary server in DATABASE_URL",
        )
    if health.tables != "current" and not health.may_create:
        return error(
            "database",
            f"{where} does not let this user make tables",
            f"GRANT CREATE ON SCHEMA public TO {place.username or 'the user'}, "
            "or name another user in DATABASE_URL",
        )
    return ok("database", where)


def _tables_finding(health: ServerHealth) -> Finding:
    if health.tables == "newer":
        return error(
            "tables",
            "made by another, probably newer version of Canopy or Optuna",
            "update canopy-search, or name another database in DATABASE_URL",
        )
    # What cannot be written is an error of the database, and nobody should wait for it here.
    later = not health.is_read_only and health.may_create
    words = {
        "none": "none yet" + ", made by the first search" * later,
        "old": "of an older version" + ", brought up to date by the next command" * later,
        "current": "as this version needs them",
    }
    return ok("tables", words[health.tables])


def _connections_finding(health: ServerHealth) -> Finding:
    found = f"{health.connections_free} of {health.connections_allowed} free"
    if health.connections_free < _CONNECTIONS_OF_A_SEARCH:
        return warning(
            "connections",
            f"{found}; a search takes up to {_CONNECTIONS_OF_A_SEARCH}",
            "end some, or raise the server's max_connections",
        )
    return ok("connections", found)
