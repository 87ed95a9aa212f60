"""Who makes and changes tables: writers, in a place of their own, and under nobody's feet."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import optuna
import pytest
import sqlalchemy
from alembic import command
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.connection.urls import parse_database_url
from canopy_search.storage.database import Database
from canopy_search.storage.errors import DatabaseSchemaError, NoDatabaseError, StorageError
from canopy_search.storage.schema import upgrade
from canopy_search.storage.schema.living_workers import living_workers
from canopy_search.storage.schema.upgrade import HEAD, migration_config, table_revision
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.session import WorkerSession, worker_session
from canopy_search.storage.workspace import Workspace
from tests.databases import within
from tests.shared_servers import execute
from tests.storage.dying import die

READ, WRITE = Workspace.open_existing, Workspace.open
Open = Callable[[Workspace], Database]


def downgrade(database: Database, revision: str) -> None:
    config = migration_config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def revision(database: Database) -> str | None:
    with database.engine.connect() as connection:
        return table_revision(connection)


def refusal(url: str, open_: Open, kind: type[StorageError] = DatabaseSchemaError) -> str:
    with pytest.raises(kind) as caught:
        open_(Workspace(Path("/nowhere"), url))
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(repr(sqlalchemy.make_url(url).database), "'NAME'").replace(HEAD, "HEAD")


def relations(url: str) -> list[str]:
    rows = execute(url, "SELECT relname FROM pg_class WHERE oid >= 16384 ORDER BY relname")
    return [name for (name,) in rows]


@contextmanager
def made(postgres_url: str, options: str) -> Iterator[str]:
    """A database of that kind."""
    name = f"canopy_{uuid4().hex}"
    execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE template0 {options}")
    yield within(postgres_url, name)
    execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


class TestReaders:
    """They change nothing, whatever they find."""

    def test_an_empty_database_stays_empty(
        self, empty_database_url: str, words: SnapshotAssertion
    ) -> None:
        assert refusal(empty_database_url, READ, NoDatabaseError) == words
        assert relations(empty_database_url) == []

    def test_who_waits_for_a_study_to_write_there_makes_the_tables(
        self, empty_database_url: str, tmp_path: Path
    ) -> None:
        with closing(Workspace(tmp_path, empty_database_url).open_existing(writes=True)) as opened:
            assert revision(opened) == HEAD
        with pytest.raises(NoDatabaseError):
            Workspace(tmp_path).open_existing(writes=True)

    def test_tables_of_the_last_release_are_read(
        self, database: Database, database_url: str
    ) -> None:
        StudyStore(database).open_study("planet")
        downgrade(database, "0007")
        with closing(READ(Workspace(Path(), database_url))) as reading:
            assert StudyStore(reading).names() == ["planet"]
            assert StudyStore(reading).workers("planet") == []
        assert revision(database) == "0007"

    def test_older_tables_are_left_as_they_are(
        self, database: Database, database_url: str, words: SnapshotAssertion
    ) -> None:
        downgrade(database, "0006")
        assert refusal(database_url, READ) == words
        assert revision(database) == "0006"

    @pytest.mark.parametrize("table", ["canopy_alembic_version", "alembic_version"])
    @pytest.mark.parametrize("open_", [READ, WRITE])
    def test_newer_tables_are_refused(
        self, database: Database, database_url: str, table: str, open_: Open
    ) -> None:
        execute(database_url, f"UPDATE {table} SET version_num = 'v99'")  # noqa: S608 - our names
        before = relations(database_url)
        assert "v99" in refusal(database_url, open_)
        assert relations(database_url) == before


class TestOlderWorkers:
    """Tables are not changed while somebody works with them."""

    @pytest.fixture
    def worker(self, database: Database) -> Iterator[WorkerSession]:
        StudyStore(database).open_study("planet")
        with worker_session(database.url) as session:
            execute(
                database.url.render_as_string(hide_password=False),
                "UPDATE canopy_worker SET host = 'node-a', pid = 12, version = '0.1.9'",
            )
            yield session

    def test_they_are_named(
        self,
        worker: WorkerSession,
        database: Database,
        database_url: str,
        monkeypatch: pytest.MonkeyPatch,
        words: SnapshotAssertion,
    ) -> None:
        del worker
        monkeypatch.setattr(upgrade, "_known_revisions", lambda: {HEAD})
        monkeypatch.setattr(upgrade, "HEAD", "9999")
        assert refusal(database_url, WRITE) == words
        assert revision(database) == HEAD

    def test_of_tables_without_versions(self, database: Database) -> None:
        with worker_session(database.url), database.engine.begin() as connection:
            connection.execute(sqlalchemy.text("ALTER TABLE canopy_worker DROP COLUMN version"))
            connection.execute(sqlalchemy.text("ALTER TABLE canopy_worker DROP silence_allowed_s"))
            [living] = living_workers(connection)
            assert str(living).endswith(" (an older version)")
            connection.rollback()

    def test_dead_ones_do_not_count(self, database: Database, database_url: str) -> None:
        with worker_session(database.url) as session:
            die(database, session)
            execute(database_url, "UPDATE canopy_worker SET seen = now() - interval '1 day'")
            downgrade(database, "0007")
            WRITE(Workspace(Path(), database_url)).close()
        assert revision(database) == HEAD


class TestPlaceOfTables:
    """It is looked at first, and the tables are created afterwards."""

    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE TABLE alembic_version (version_num text); CREATE TABLE runs (id int)",
            "CREATE TABLE trials (id int)",
            "CREATE VIEW studies AS SELECT 1 AS study_id",
            "CREATE TABLE canopy_worker (id int)",
        ],
    )
    def test_tables_of_another_program(
        self, empty_database_url: str, statement: str, words: SnapshotAssertion
    ) -> None:
        execute(empty_database_url, statement)
        before = relations(empty_database_url)
        assert refusal(empty_database_url, WRITE) == words
        assert relations(empty_database_url) == before

    def test_a_schema_of_ones_own_is_enough(self, empty_database_url: str) -> None:
        execute(empty_database_url, "CREATE TABLE alembic_version (version_num text)")
        remedy = refusal(empty_database_url, WRITE)
        execute(empty_database_url, "CREATE SCHEMA canopy")
        [option] = [word for word in remedy.split() if "csearch_path" in word]
        url = empty_database_url + option

        for _ in range(2):
            with closing(WRITE(Workspace(Path(), url))) as database:
                study = StudyStore(database).open_study("planet")
                study.optimize(lambda trial: trial.suggest_float("gamma", 0.8, 1), n_trials=1)
                with worker_session(database.url) as session:
                    StudyStore(database).open_trial_queue("planet", session)
        with closing(READ(Workspace(Path(), url))) as database:
            assert StudyStore(database).names() == ["planet"]
        outside = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        assert execute(empty_database_url, outside) == [("alembic_version",)]

    def test_a_schema_that_does_not_exist(
        self, empty_database_url: str, words: SnapshotAssertion
    ) -> None:
        url = sqlalchemy.make_url(empty_database_url)
        url = url.update_query_dict({"options": "-csearch_path=missing"})
        assert refusal(url.render_as_string(hide_password=False), WRITE) == words
        assert relations(empty_database_url) == []

    def test_studies_of_plain_optuna_are_taken_over(self, empty_database_url: str) -> None:
        study = optuna.create_study(storage=empty_database_url, study_name="theirs")
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
        study._storage.remove_session()
        assert "theirs" not in refusal(empty_database_url, READ, NoDatabaseError)
        with closing(WRITE(Workspace(Path(), empty_database_url))) as database:
            assert StudyStore(database).names() == ["theirs"]

    def test_studies_of_another_optuna_are_left_alone(
        self, empty_database_url: str, words: SnapshotAssertion
    ) -> None:
        optuna.create_study(storage=empty_database_url, study_name="theirs")
        execute(empty_database_url, "UPDATE alembic_version SET version_num = 'v2.6.0.a'")
        before = relations(empty_database_url)
        assert refusal(empty_database_url, WRITE) == words
        assert relations(empty_database_url) == before

    @pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
    def test_another_encoding(
        self, postgres_url: str, encoding: str, words: SnapshotAssertion
    ) -> None:
        with made(postgres_url, f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'") as url:
            assert refusal(url, WRITE) == words
            assert relations(url) == []

    def test_settings_of_the_database_that_change_nothing(self, empty_database_url: str) -> None:
        name = parse_database_url(empty_database_url).database
        for setting in (
            "standard_conforming_strings = off",
            "timezone = 'Asia/Kathmandu'",
            "datestyle = 'SQL, DMY'",
            "bytea_output = 'escape'",
            "client_encoding = 'LATIN1'",
        ):
            execute(empty_database_url, f"ALTER DATABASE {name} SET {setting}")
        for _ in range(2):
            with closing(WRITE(Workspace(Path(), empty_database_url))) as database:
                store = StudyStore(database)
                store.open_study("łąka \\' 草地")
                store.write_record("łąka \\' 草地", {"path": "a\\b'c"})
                assert store.names() == ["łąka \\' 草地"]
                assert store.read_record("łąka \\' 草地") == {"path": "a\\b'c"}
                with worker_session(database.url) as session:
                    assert session.load.is_known
