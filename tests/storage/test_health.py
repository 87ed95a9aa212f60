import contextlib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg2
import pytest
import sqlalchemy
from sqlalchemy.exc import DBAPIError
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.connection.urls import (
    DATABASE_FAILURES,
    failure_text,
    parse_database_url,
    version_text,
)
from canopy_search.storage.database import Database
from canopy_search.storage.errors import (
    DatabaseReadOnlyError,
    DatabaseSchemaError,
    DatabaseUnreachableError,
    DatabaseVersionError,
    NoDatabaseError,
)
from canopy_search.storage.health import server_health
from canopy_search.storage.schema import upgrade as schema
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workspace import Workspace
from tests.storage.other_servers import (
    Answer,
    closing_server,
    mysql_server,
    postgres_of_version,
    serving,
    ssh_server,
    web_server,
)

SECRET = "hunter2"


def text_of(url: sqlalchemy.URL) -> str:
    return url.render_as_string(hide_password=False)


def execute(engine: sqlalchemy.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(statement))


@contextlib.contextmanager
def role(engine: sqlalchemy.Engine, options: str) -> Iterator[sqlalchemy.URL]:
    """A user of that kind, as the URL that they come with."""
    name = f"guest_{uuid4().hex}"
    execute(engine, f"CREATE ROLE {name} {options}")
    try:
        yield engine.url.set(username=name)
    finally:
        execute(engine, f"DROP ROLE {name}")


def only_read(database_url: str) -> str:
    """Returns the URL of the same database for somebody who may not write."""
    url = sqlalchemy.make_url(database_url)
    return text_of(url.update_query_dict({"options": "-c default_transaction_read_only=on"}))


@pytest.mark.parametrize("answer", [web_server, mysql_server, closing_server, ssh_server])
def test_what_is_no_postgres_server_is_told(answer: Answer, words: SnapshotAssertion) -> None:
    with serving(answer) as port:
        url = f"postgresql://ann:{SECRET}@127.0.0.1:{port}/canopy?connect_timeout=240"
        with pytest.raises(DatabaseUnreachableError) as caught:
            Workspace(Path(), url).open()
    assert f"127.0.0.1, port {port}" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert str(caught.value).replace(str(port), "PORT") == words


@pytest.mark.parametrize("version", ["9.6.24", "12.19 (Debian 12.19-1)"])
def test_an_old_server_is_refused_with_its_version(version: str, words: SnapshotAssertion) -> None:
    with (
        serving(postgres_of_version(version)) as port,
        pytest.raises(DatabaseVersionError) as caught,
    ):
        Workspace(Path(), f"postgresql://ann:{SECRET}@127.0.0.1:{port}/canopy").open()
    assert version.partition(" ")[0] in str(caught.value)
    assert SECRET not in str(caught.value)
    assert str(caught.value).replace(str(port), "PORT") == words


def test_who_may_not_make_tables_is_told_what_to_do(
    empty_database_url: str, words: SnapshotAssertion
) -> None:
    engine = sqlalchemy.create_engine(parse_database_url(empty_database_url))
    with role(engine, "LOGIN") as guest:
        with pytest.raises(DatabaseSchemaError) as caught:
            Workspace(Path(), text_of(guest)).open()
        message = str(caught.value)
        for text, name in ((guest.username, "GUEST"), (guest.database, "NAME")):
            assert text
            message = message.replace(text, name)
    assert "'GUEST'" in message
    assert sqlalchemy.inspect(engine).get_table_names() == []
    assert message.replace(str(guest.query["host"]), "FOLDER") == words
    engine.dispose()


def test_version_numbers_are_written_as_people_do() -> None:
    assert [version_text(v) for v in (180004, 130000, 90624)] == ["18.4", "13.0", "9.6.24"]


def test_who_only_reads_can_do_with_a_standby(database: Database, database_url: str) -> None:
    StudyStore(database).open_study("planet")

    reading = Workspace(Path(), only_read(database_url)).open_existing()

    assert StudyStore(reading).names() == ["planet"]
    reading.close()
    with pytest.raises(DatabaseReadOnlyError, match="DATABASE_URL"):
        Workspace(Path(), only_read(database_url)).open()


def test_a_standby_without_tables_holds_nothing_yet(empty_database_url: str) -> None:
    with pytest.raises(NoDatabaseError):
        Workspace(Path(), only_read(empty_database_url)).open_existing()
    with pytest.raises(DatabaseReadOnlyError):
        Workspace(Path(), only_read(empty_database_url)).open()


def test_a_refused_write_is_told_in_words(
    database: Database, database_url: str, words: SnapshotAssertion
) -> None:
    reading = Workspace(Path(), only_read(database_url)).open_existing()
    with pytest.raises(DATABASE_FAILURES) as caught:
        StudyStore(reading).open_study("planet")
    assert failure_text(caught.value) == words
    reading.close()


def test_tables_of_another_optuna_are_told(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = 'v9'"))
    store = StudyStore(database)
    with pytest.raises(DatabaseSchemaError, match="Optuna"):
        store.open_study("planet")


def test_a_healthy_server(database: Database, database_url: str) -> None:
    health = server_health(parse_database_url(database_url))

    assert health.version.startswith("18.")
    assert not health.is_read_only
    assert health.may_create
    assert 0 < health.connections_used < health.connections_allowed
    assert health.connections_free == health.connections_allowed - health.connections_used + 1
    assert health.tables == "current"


def test_a_server_without_rights_or_writing(empty_database_url: str) -> None:
    other = sqlalchemy.create_engine(parse_database_url(empty_database_url))
    with role(other, "LOGIN") as guest, other.connect():
        health = server_health(guest)
        assert not health.may_create
        # Connections of others count, whatever a guest may know of them.
        assert health.connections_used >= 2
        assert server_health(parse_database_url(only_read(empty_database_url))).is_read_only
    other.dispose()


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        ("DROP TABLE canopy_alembic_version", "none"),
        ("UPDATE canopy_alembic_version SET version_num = 'future'", "newer"),
        ("UPDATE alembic_version SET version_num = 'future'", "newer"),
        ("UPDATE alembic_version SET version_num = 'v2.6.0.a'", "newer"),
    ],
)
def test_the_state_of_the_tables(
    database: Database, database_url: str, statement: str, tables: str
) -> None:
    execute(database.engine, statement)
    assert server_health(parse_database_url(database_url)).tables == tables


def test_older_tables_are_known(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "HEAD", "9999")
    assert server_health(parse_database_url(database_url)).tables == "old"


def test_health_makes_no_tables(empty_database_url: str) -> None:
    assert server_health(parse_database_url(empty_database_url)).tables == "none"
    assert server_health(parse_database_url(empty_database_url)).tables == "none"


class TestFailures:
    """What the server says half way, in our words."""

    def test_the_connection_is_ended_by_somebody(
        self, database: Database, words: SnapshotAssertion
    ) -> None:
        other = sqlalchemy.create_engine(database.url, poolclass=sqlalchemy.NullPool)
        with database.engine.connect() as connection:
            pid = connection.scalar(sqlalchemy.text("SELECT pg_backend_pid()"))
            execute(other, f"SELECT pg_terminate_backend({pid})")
            with pytest.raises(DATABASE_FAILURES) as caught:
                connection.execute(sqlalchemy.text("SELECT 1"))
        assert failure_text(caught.value) == words

    def test_too_many_connections(self, database: Database, words: SnapshotAssertion) -> None:
        with (
            role(database.engine, "LOGIN CONNECTION LIMIT 0") as url,
            pytest.raises(DatabaseUnreachableError) as caught,
        ):
            Workspace(Path(), text_of(url)).open()
        assert str(caught.value).partition(": ")[2] == words

    def test_codes_count_where_the_server_speaks_another_language(
        self, database: Database, words: SnapshotAssertion
    ) -> None:
        found = {}
        for code in ("53100", "42501"):
            statement = f"DO $$ BEGIN RAISE 'das geht nicht' USING ERRCODE = '{code}'; END $$"
            with pytest.raises(DATABASE_FAILURES) as caught:
                execute(database.engine, statement)
            found[code] = failure_text(caught.value)
        assert found == words

    def test_a_full_disk(self, words: SnapshotAssertion) -> None:
        said = 'could not extend file "base/5/16402": No space left on device\nHINT: Check disk.'
        error = DBAPIError("INSERT", {}, psycopg2.OperationalError(said))
        assert failure_text(error) == words

    def test_what_is_not_known_is_one_line(self, database: Database) -> None:
        with pytest.raises(DATABASE_FAILURES) as caught:
            execute(database.engine, "SELECT 1 / 0")
        assert failure_text(caught.value) == "division by zero"
