"""Creates a database's tables: Optuna's, then ours; the first process does it, once."""

from typing import Literal

import sqlalchemy
from optuna.storages import RDBStorage
from psycopg2.errors import InsufficientPrivilege, ReadOnlySqlTransaction
from sqlalchemy.exc import DBAPIError

from canopy_search.storage.connection.urls import connect_options, optuna_url
from canopy_search.storage.errors import DatabaseReadOnlyError, DatabaseSchemaError
from canopy_search.storage.schema.tables import DATABASE, OUR_TABLES, REVISION

HEAD = "0007"
"""The revision of our tables, as Alembic counts. It has been the same since release 0.1.0; the next
one needs a migration from this one."""

TableState = Literal["none", "current", "newer"]
"""Whether there are tables, and whether this version or another, newer one created them."""

_OPTUNA_VERSION_TABLES = ("alembic_version", "version_info")
_LOCK_KEY = int.from_bytes(b"canopyDB")


def prepare_schema(engine: sqlalchemy.Engine) -> None:
    """Creates all tables, unless they exist.

    Our revision covers Optuna's tables, too: a Canopy that needs newer ones has a newer revision.

    Raises:
        DatabaseSchemaError: a newer Canopy created the tables, or we may not create them.
        DatabaseReadOnlyError: they are missing, and the server is read-only.
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
                _create(connection)
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


def table_state(connection: sqlalchemy.Connection) -> TableState:
    """Returns the state of our tables and Optuna's; changes nothing."""
    revision = table_revision(connection)
    if all(_exists(connection, table) for table in _OPTUNA_VERSION_TABLES):
        optuna = _optuna_storage(connection.engine.url, may_create=False)
        current = optuna.get_current_version()
        # Our tables stand next to Optuna's newest; without ours, Optuna may have any known ones.
        usable = [optuna.get_head_version()] if revision == HEAD else optuna.get_all_versions()
        if current not in usable:
            return "newer"
    if revision is None:
        return "none"
    return "current" if revision == HEAD else "newer"


def table_revision(connection: sqlalchemy.Connection) -> str | None:
    """Returns the revision of our tables, None if there are none."""
    if not _exists(connection, REVISION.name):
        return None
    return connection.scalar(sqlalchemy.select(REVISION.c.version_num))


def _create(connection: sqlalchemy.Connection) -> None:
    url = connection.engine.url
    revision = table_revision(connection)
    if revision is not None:
        raise DatabaseSchemaError(
            f"database {url.database!r} was created by a newer Canopy (its tables have revision "
            f"{revision}, this version supports {HEAD}); update canopy-search"
        )
    _prepare_optuna(url)
    REVISION.metadata.create_all(connection, [REVISION, *OUR_TABLES], checkfirst=False)
    connection.execute(sqlalchemy.insert(REVISION).values(version_num=HEAD))
    new_id = sqlalchemy.cast(sqlalchemy.func.gen_random_uuid(), sqlalchemy.Text)
    connection.execute(sqlalchemy.insert(DATABASE).values(id=new_id))


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
