"""Creates and upgrades a database's tables: Optuna's, then ours; the first writer does it, once."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import sqlalchemy
from optuna.storages import RDBStorage
from psycopg2.errors import InsufficientPrivilege, ReadOnlySqlTransaction
from sqlalchemy.exc import DBAPIError

from canopy_search.filestore.messages import first_line
from canopy_search.storage.connection.urls import connect_options, optuna_url
from canopy_search.storage.errors import (
    DatabaseReadOnlyError,
    DatabaseSchemaError,
    NoDatabaseError,
)
from canopy_search.storage.schema.living_workers import living_workers
from canopy_search.storage.schema.tables import METADATA, OPTUNA_REVISION, OPTUNA_TABLES

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0009"
VERSION_TABLE = "canopy_alembic_version"

TableState = Literal["none", "old", "current", "newer"]
"""Whether there are tables, and whether this version, an older or a newer one created them."""

# What reads the tables needs nothing that came later.
_READABLE = ("0007", "0008", HEAD)
# Unlike to_regclass, it sees what others have created since our transaction began.
_EXISTS = sqlalchemy.text(
    "SELECT 1 FROM pg_class WHERE relname = :name AND pg_table_is_visible(oid)"
)
_LOCK_KEY = int.from_bytes(b"canopyDB")
_MOST_NAMED = 3


def prepare_schema(engine: sqlalchemy.Engine) -> None:
    """Creates or migrates all tables, unless they are up to date.

    Nothing is created beside the tables of another program, and nothing is migrated under a living
    worker: every one that is alive then is of an older version.

    Raises:
        DatabaseSchemaError: a newer Canopy or another Optuna created the tables, they cannot be
            created there, or older workers are alive.
        DatabaseReadOnlyError: they are missing or old, and the server is read-only.
    """
    with engine.begin() as connection:
        if table_revision(connection) == HEAD:
            _check_optuna(connection)
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
        reason = first_line(error.orig)
        if isinstance(error.orig, InsufficientPrivilege):
            reason += (
                f"; allow user {engine.url.username!r} to create tables there, or use another "
                "database"
            )
        raise DatabaseSchemaError(
            f"the tables in database {engine.url.database!r} cannot be prepared: {reason}"
        ) from error


def check_readable(engine: sqlalchemy.Engine) -> None:
    """Checks that this version can read the tables; changes nothing.

    Raises:
        NoDatabaseError: there are none.
        DatabaseSchemaError: they are too old or too new.
    """
    name = engine.url.database
    with engine.connect() as connection:
        revision = table_revision(connection)
        if revision is None:
            raise NoDatabaseError(
                f"nothing is stored in database {name!r} yet; start with: canopy search"
            )
        _check_optuna(connection)
        if revision in _READABLE:
            return
        if revision in _known_revisions():
            raise DatabaseSchemaError(
                f"the tables in database {name!r} are of an older version (revision {revision}, "
                f"this version reads {_READABLE[0]} to {HEAD}); when no worker of that version "
                "runs, upgrade them with: canopy db upgrade"
            )
    raise _newer(connection, revision)


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
    if revision is None:
        return "none"
    known = HEAD if optuna_revision(connection) == OPTUNA_REVISION else None
    if revision == known:
        return "current"
    return "old" if known and revision in _known_revisions() else "newer"


def table_revision(connection: sqlalchemy.Connection) -> str | None:
    """Returns the revision of our tables, None if there are none."""
    return _version(connection, VERSION_TABLE)


def optuna_revision(connection: sqlalchemy.Connection) -> str | None:
    """Returns the revision of Optuna's tables, None if there are none."""
    return _version(connection, "alembic_version")


def creation_obstacle(connection: sqlalchemy.Connection) -> str | None:
    """Returns why no tables can be created here, with the remedy; None if they can be."""
    name = connection.engine.url.database
    encoding = connection.scalar(sqlalchemy.text("SHOW server_encoding"))
    if encoding != "UTF8":
        return (
            f"database {name!r} has the encoding {encoding}, which cannot store every study's "
            "name; use one that was created with ENCODING 'UTF8' TEMPLATE template0"
        )
    if connection.scalar(sqlalchemy.text("SELECT current_schema()")) is None:
        return (
            f"database {name!r} has no schema of the connection's search_path; create it with "
            "CREATE SCHEMA, or correct the search_path in DATABASE_URL"
        )
    if _exists(connection, "version_info"):  # Optuna's alone
        if optuna_revision(connection) in {None, OPTUNA_REVISION}:
            return None
        return _other_optuna(connection)
    tables = (*OPTUNA_TABLES, *METADATA.tables)
    found = sorted({table for table in tables if _exists(connection, table)})
    if not found:
        return None
    mark = "&" if connection.engine.url.query else "?"
    return (
        f"database {name!r} contains tables of another program ({', '.join(found)}); use another "
        "database, or a schema of its own: run CREATE SCHEMA canopy there, and add "
        f"{mark}options=-csearch_path%3Dcanopy to DATABASE_URL"
    )


def _migrate(connection: sqlalchemy.Connection) -> None:
    from alembic import command

    revision = table_revision(connection)
    if revision is None:
        if (obstacle := creation_obstacle(connection)) is not None:
            raise DatabaseSchemaError(obstacle)
        _create_optuna_tables(connection.engine.url)
    elif revision not in _known_revisions():
        raise _newer(connection, revision)
    _check_optuna(connection)
    if workers := living_workers(connection):
        named = ", ".join(map(str, workers[:_MOST_NAMED]))
        more = f" and {len(workers) - _MOST_NAMED} more" if len(workers) > _MOST_NAMED else ""
        raise DatabaseSchemaError(
            f"the tables in database {connection.engine.url.database!r} have to be upgraded, and "
            f"workers of an older Canopy use them: {named}{more}; stop these, then run the same "
            "command again"
        )
    config = migration_config()
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


def _known_revisions() -> set[str]:
    from alembic.script import ScriptDirectory

    history = ScriptDirectory.from_config(migration_config()).walk_revisions()
    return {script.revision for script in history}


def _newer(connection: sqlalchemy.Connection, revision: str) -> DatabaseSchemaError:
    return DatabaseSchemaError(
        f"database {connection.engine.url.database!r} was created by a newer Canopy (its "
        f"tables have revision {revision}, this version supports {HEAD}); update canopy-search"
    )


def _check_optuna(connection: sqlalchemy.Connection) -> None:
    if optuna_revision(connection) != OPTUNA_REVISION:
        raise DatabaseSchemaError(_other_optuna(connection))


def _other_optuna(connection: sqlalchemy.Connection) -> str:
    return (
        f"Optuna's tables in database {connection.engine.url.database!r} have revision "
        f"{optuna_revision(connection)}, and this Canopy needs {OPTUNA_REVISION}; update the older "
        "of the two (canopy-search, or the tables: optuna storage upgrade), or use another database"
    )


def _version(connection: sqlalchemy.Connection, table: str) -> str | None:
    if not _exists(connection, table):
        return None
    column: sqlalchemy.ColumnClause[str] = sqlalchemy.column("version_num")
    return connection.scalar(sqlalchemy.select(column).select_from(sqlalchemy.table(table)))


def _exists(connection: sqlalchemy.Connection, table: str) -> bool:
    return connection.scalar(_EXISTS, {"name": table}) is not None


def _create_optuna_tables(url: sqlalchemy.URL) -> None:
    storage = RDBStorage(
        optuna_url(url),
        engine_kwargs={
            "poolclass": sqlalchemy.NullPool,
            "connect_args": connect_options(url, "canopy schema"),
        },
        skip_compatibility_check=True,
    )
    storage.engine.dispose()
