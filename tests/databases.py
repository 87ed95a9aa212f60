"""Databases with all tables and nothing in them, each used by many tests one after the other.

To make one takes a third of a second of a processor, to empty one a sixth of that. Whoever comes
late from the test before finds no database of that name.
"""

from contextlib import suppress
from uuid import uuid4

import psycopg2
import sqlalchemy
from psycopg2 import errors

from canopy_search.storage.study.studies import StudyStore
from tests.shared_servers import connected, execute, rows

_FREE = "canopy_free"
_LARGEST_BYTES = 64 * 2**20

# What is in a table from the start stays, and is part of what is compared.
_EMPTY = """
    DO $$
    DECLARE name regclass;
    BEGIN
        SET LOCAL session_replication_role = replica;  -- in any order
        FOR name IN SELECT oid FROM pg_class
            WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
                AND relname NOT IN
                    ('version_info', 'alembic_version', 'canopy_alembic_version', 'canopy_database')
        LOOP EXECUTE format('DELETE FROM %s', name); END LOOP;
        PERFORM setval(oid, 1, false) FROM pg_class WHERE relkind = 'S';
    END $$"""
_END_SESSIONS = """
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{}'"""
_CONTENT = """
    WITH rows AS (
        SELECT format('%s %s %s %s %s', relname, relkind, relacl, reloptions, relowner) AS text
            FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT format('%s %s %s %s', attrelid::regclass, attname, atttypid, attnotnull)
            FROM pg_attribute WHERE attnum > 0 AND attrelid IN (
                SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
        UNION ALL SELECT pg_get_constraintdef(oid) FROM pg_constraint
        UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indexrelid > 16384
        UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT format('%s %s %s', proname, prosrc, proacl) FROM pg_proc WHERE oid > 16384
        UNION ALL SELECT format('%s %s', nspname, nspacl) FROM pg_namespace
            WHERE nspname !~ '^pg_(temp|toast_temp)_'
        UNION ALL SELECT format('%s %s %s', datacl, datconnlimit, datdba)
            FROM pg_database WHERE datname = current_database()
        UNION ALL SELECT array_to_string(setconfig, ' ') FROM pg_db_role_setting
            WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION ALL SELECT version_info::text FROM version_info
        UNION ALL SELECT alembic_version::text FROM alembic_version
        UNION ALL SELECT canopy_alembic_version::text FROM canopy_alembic_version
        UNION ALL SELECT canopy_database::text FROM canopy_database
    )
    SELECT md5(string_agg(text, '|' ORDER BY text)), pg_database_size(current_database()) FROM rows
"""


class Databases:
    """The databases of a server.

    Args:
        url: of the server.
        template: name of a database with all tables and nothing in them.
    """

    def __init__(self, url: str, template: str) -> None:
        self._url = url
        self._template = template
        self._content: str | None = None
        self._server = connected(url)

    def close(self) -> None:
        """Closes the connection, which lasts because to open one takes longer than to use it."""
        self._server.close()

    def take(self) -> str:
        """Returns the name of a database that nobody else has."""
        name = f"canopy_{uuid4().hex}"
        for (found,) in rows(self._server, "SELECT datname FROM pg_database"):
            # Somebody else may be faster.
            with suppress(errors.InvalidCatalogName, psycopg2.InternalError):
                if found.startswith(_FREE):
                    rows(self._server, f"ALTER DATABASE {found} RENAME TO {name}")
                    return name
        rows(self._server, f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return name

    def give_back(self, name: str) -> None:
        """Empties a database for the next test, or drops it if it has changed otherwise."""
        rows(self._server, _END_SESSIONS.format(name))
        hidden = f"canopy_{uuid4().hex}"
        try:
            rows(self._server, f"ALTER DATABASE {name} RENAME TO {hidden}")
        except errors.ObjectInUse:  # somebody came in meanwhile
            rows(self._server, f"DROP DATABASE {name} WITH (FORCE)")
            return
        if self._is_emptied(hidden):
            rows(self._server, f"ALTER DATABASE {hidden} RENAME TO {_FREE}_{uuid4().hex}")
        else:
            rows(self._server, f"DROP DATABASE {hidden} WITH (FORCE)")

    def _is_emptied(self, name: str) -> bool:
        """Whether a database could be made as it was."""
        if self._content is None:
            untouched = f"canopy_{uuid4().hex}"
            rows(self._server, f"CREATE DATABASE {untouched} TEMPLATE {self._template}")
            [(self._content, _)] = execute(within(self._url, untouched), _CONTENT)
            rows(self._server, f"ALTER DATABASE {untouched} RENAME TO {_FREE}_{uuid4().hex}")
        try:
            [(content, size)] = execute(within(self._url, name), f"{_EMPTY}; {_CONTENT}")
        except psycopg2.Error:  # a table is not there, or it can only be read
            return False
        return bool(content == self._content and size < _LARGEST_BYTES)


def within(url: str, name: str) -> str:
    """Returns the URL of another database of a server."""
    return sqlalchemy.make_url(url).set(database=name).render_as_string(hide_password=False)


def stored_trial_id(store: StudyStore, study: str, number: int) -> int:
    """Returns the database's id of a trial."""
    return store.load_study(study).get_trials(deepcopy=False)[number]._trial_id
