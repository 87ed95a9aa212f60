from pathlib import Path

import pytest
import sqlalchemy

from storage.connecting import DATABASE_FAILURES, failure_text, parse_database_url, version_text
from storage.database import Database, open_database, open_existing_database
from storage.errors import (
    DatabaseReadOnlyError,
    DatabaseSchemaError,
    DatabaseUnreachableError,
    DatabaseVersionError,
)
from storage.health import server_health
from storage.schema import HEAD
from storage.studies import StudyStore
from tests.storage.other_servers import (
    Answer,
    closing_server,
    mysql_server,
    postgres_of_version,
    serving,
    silent_server,
    web_server,
)

SECRET = "hunter2"


def text_of(url: sqlalchemy.URL) -> str:
    return url.render_as_string(hide_password=False)


@pytest.fixture
def read_only(database_url: str) -> str:
    """The same database, as somebody sees it who may not write."""
    url = sqlalchemy.make_url(database_url)
    return text_of(url.update_query_dict({"options": "-c default_transaction_read_only=on"}))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (web_server, "no Postgres server"),
        (mysql_server, "no Postgres server"),
        (closing_server, "closed the connection; is it a Postgres server"),
        (silent_server, "does not answer"),
    ],
)
def test_what_is_no_postgres_server_is_told(answer: Answer, reason: str) -> None:
    with serving(answer) as port:
        url = f"postgresql://ann:{SECRET}@127.0.0.1:{port}/canopy?connect_timeout=2"
        with pytest.raises(DatabaseUnreachableError) as caught:
            open_database(Path(), url)
    assert reason in str(caught.value)
    assert f"127.0.0.1, port {port}" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("version", ["9.6.24", "12.19 (Debian 12.19-1)"])
def test_an_old_server_is_refused_with_its_version(version: str) -> None:
    with (
        serving(postgres_of_version(version)) as port,
        pytest.raises(DatabaseVersionError) as caught,
    ):
        open_database(Path(), f"postgresql://ann:{SECRET}@127.0.0.1:{port}/canopy")
    assert f"is Postgres {version.partition(' ')[0]}; 13 or newer is needed" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_version_numbers_are_written_as_people_do() -> None:
    assert [version_text(v) for v in (180004, 130000, 90624)] == ["18.4", "13.0", "9.6.24"]


def test_who_only_reads_can_do_with_a_standby(database: Database, read_only: str) -> None:
    StudyStore(database).open_study("planet")

    reading = open_existing_database(Path(), read_only)

    assert StudyStore(reading).names() == ["planet"]
    reading.close()
    with pytest.raises(DatabaseReadOnlyError, match=r"can only be read.*DATABASE_URL"):
        open_database(Path(), read_only)


def test_without_tables_a_standby_is_no_use_to_readers_either(read_only: str) -> None:
    with pytest.raises(DatabaseReadOnlyError, match="can only be read"):
        open_existing_database(Path(), read_only)


def test_a_refused_write_is_told_in_words(database: Database, read_only: str) -> None:
    reading = open_existing_database(Path(), read_only)
    with pytest.raises(DATABASE_FAILURES) as caught:
        StudyStore(reading).open_study("planet")
    assert failure_text(caught.value).startswith("it may only be read")
    reading.close()


def test_tables_of_another_optuna_are_told(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = 'v9'"))
    with pytest.raises(DatabaseSchemaError, match="another Optuna"):
        StudyStore(database)


def test_a_healthy_server(database: Database, database_url: str) -> None:
    health = server_health(parse_database_url(database_url))

    assert health.version.startswith("18.")
    assert not health.is_read_only
    assert health.may_create
    assert 0 < health.connections_used < health.connections_allowed
    assert health.is_current
    assert health.revision == HEAD


def test_a_server_without_tables_rights_or_writing(
    database_url: str, read_only: str, database: Database
) -> None:
    with database.engine.begin() as connection:
        connection.execute(sqlalchemy.text("DROP TABLE canopy_alembic_version"))
        connection.execute(sqlalchemy.text("CREATE ROLE guest LOGIN"))
    try:
        guest = sqlalchemy.make_url(database_url).set(username="guest")
        health = server_health(parse_database_url(text_of(guest)))
        assert not health.may_create
        assert health.revision is None
        assert not health.is_current
        assert server_health(parse_database_url(read_only)).is_read_only
    finally:
        with database.engine.begin() as connection:
            connection.execute(sqlalchemy.text("DROP ROLE guest"))
