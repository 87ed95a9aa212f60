"""Upgrades a database's tables: Optuna's, then ours; the first process does it, once."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import sqlalchemy
from optuna.storages import RDBStorage
from psycopg2.errors import InsufficientPrivilege, ReadOnlySqlTransaction
from sqlalchemy.exc import DBAPIError

from canopy_search.storage.connection.urls import connect_options, optuna_url
from canopy_search.storage.errors import DatabaseReadOnlyError, DatabaseSchemaError

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0007"
VERSION_TABLE = "canopy_alembic_version"

TableState = Literal["none", "old", "current", "newer"]
"""Whether there are tables, and whether this version, an older or a newer one created them."""

_OPTUNA_VERSION_TABLES = ("alembic_version", "version_info")
_LOCK_KEY = int.from_bytes(b"canopyDB")


def prepare_schema(engine: sqlalchemy.Engine) -> None:
    """Creates or migrates all tables, unless they are up to date.

    Our revision covers Optuna's tables, too: a Canopy that needs newer ones has a newer revision.

    Raises:
        DatabaseSchemaError: a newer Canopy created the tables, or we may not create them.
        DatabaseReadOnlyError: they are missing or old, and the server is read-only.
    """
    with engine.begin() as connection:
        if table_revision(connection) == HEAD:
            return
    try:
        with engine.begin() as connection:
            # Held until our own tables are committed. Other processes wait here and then find them.
            lock = sqlalchemy.func.pg_advisory_xact_lock(_LOCK_KEY)
            connection.execute(sqlalchemy.select(lock))
            if table_revision(connection) != HEAD:
                _migrate(connection)
    except DBAPIError as error:
        if isinstance(error.orig, ReadOnlySqlTransaction):
            raise DatabaseReadOnlyError(_read_only_text(engine)) from error
        reason = str(error.orig).partition("\n")[0]
        if isinstance(error.orig, InsufficientPrivilege):
            reason += (
                f"; allow user {engine.url.username!r} to create tables there, or use another "
                "database"
            )
        raise DatabaseSchemaError(
            f"the tables in database {engine.url.database!r} cannot be prepared: {reason}"
        ) from error


def check_writable(engine: sqlalchemy.Engine) -> None:
    """Raises DatabaseReadOnlyError if the server is read-only."""
    with engine.connect() as connection:
        read_only = is_read_only(connection)
    if read_only:
        raise DatabaseReadOnlyError(_read_only_text(engine))


def is_read_only(connection: sqlalchemy.Connection) -> bool:
    """Whether nothing can be written: the server is a standby, or configured so."""
    return bool(connection.scalar(sqlalchemy.text("SHOW transaction_read_only")) == "on")


def _read_only_text(engine: sqlalchemy.Engine) -> str:
    return (
        f"database {engine.url.database!r} can only be read: the server is a standby, or "
        "default_transaction_read_only is on; name the primary server in DATABASE_URL"
    )


def migration_config() -> "Config":
    """Returns Alembic's configuration for our migrations; it needs no file."""
    from alembic.config import Config

    config = Config()
    folder = str(Path(__file__).with_name("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def table_state(connection: sqlalchemy.Connection) -> TableState:
    """Returns the state of our tables and Optuna's; changes nothing."""
    revision = table_revision(connection)
    if all(_exists(connection, table) for table in _OPTUNA_VERSION_TABLES):
        optuna = _optuna_storage(connection.engine.url, may_create=False)
        current = optuna.get_current_version()
        # Our newest revision needs Optuna's newest; an older one may have any known one.
        usable = [optuna.get_head_version()] if revision == HEAD else optuna.get_all_versions()
        if current not in usable:
            return "newer"
    if revision is None or revision == HEAD:
        return "none" if revision is None else "current"
    return "old" if revision in _known_revisions() else "newer"


def table_revision(connection: sqlalchemy.Connection) -> str | None:
    """Returns the revision of our tables, None if there are none."""
    if not _exists(connection, VERSION_TABLE):
        return None
    column: sqlalchemy.ColumnClause[str] = sqlalchemy.column("version_num")
    return connection.scalar(sqlalchemy.select(column).select_from(sqlalchemy.table(VERSION_TABLE)))


def _migrate(connection: sqlalchemy.Connection) -> None:
    from alembic import command

    revision = table_revision(connection)
    if revision is not None and revision not in _known_revisions():
        raise DatabaseSchemaError(
            f"database {connection.engine.url.database!r} was created by a newer Canopy (its "
            f"tables have revision {revision}, this version supports {HEAD}); update canopy-search"
        )
    _prepare_optuna(connection.engine.url)
    config = migration_config()
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


def _known_revisions() -> set[str]:
    from alembic.script import ScriptDirectory

    history = ScriptDirectory.from_config(migration_config()).walk_revisions()
    return {script.revision for script in history}


def _exists(connection: sqlalchemy.Connection, table: str) -> bool:
    known = sqlalchemy.select(sqlalchemy.func.to_regclass(table))
    return connection.scalar(known) is not None


def _prepare_optuna(url: sqlalchemy.URL) -> None:
    storage = _optuna_storage(url, may_create=True)
    current = storage.get_current_version()
    if current == storage.get_head_version():
        return
    if current not in storage.get_all_versions():
        raise DatabaseSchemaError(
            f"Optuna's tables in database {url.database!r} were created by a newer Optuna "
            f"(revision {current}) or another program; update canopy-search, or use another "
            "database"
        )
    storage.upgrade()


def _optuna_storage(url: sqlalchemy.URL, *, may_create: bool) -> RDBStorage:
    return RDBStorage(
        optuna_url(url),
        engine_kwargs={
            "poolclass": sqlalchemy.NullPool,
            "connect_args": connect_options(url, "canopy schema"),
        },
        skip_compatibility_check=True,
        skip_table_creation=not may_create,
    )
