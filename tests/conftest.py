"""What many tests need: a real Postgres with a database for each test, and a server of buckets."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg2
import pytest
import sqlalchemy
from hypothesis import settings

from search.thread_waiting import spin_briefly
from storage.database import Database, open_database
from storage.embedded import EmbeddedPostgres
from tests.bucket import Bucket, BucketServer

_PREPARED = "canopy_prepared"

spin_briefly()
# How long an example takes depends on what else the machine does. The examples are the same
# in every run, so that a run of CI fails by what was changed; the other profile looks for new ones.
settings.register_profile("canopy", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.load_profile("canopy")


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the server of this test session."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    url = server.start().render_as_string(hide_password=False)
    # What tests store need not survive a power cut.
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        _execute(url, f"ALTER SYSTEM SET {setting} = off")
    _execute(url, "SELECT pg_reload_conf()")
    yield url
    server.stop()


@pytest.fixture
def database_url(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    """URL of a database that is there for this test only, and empty unless `database` opens it."""
    name = f"canopy_{uuid4().hex}"
    # Copying the tables is faster than making them.
    opened = "database" in request.fixturenames
    template = request.getfixturevalue("_prepared_database") if opened else "template1"
    _execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _with_name(postgres_url, name)
    _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """The database of `database_url`, opened, with all tables and nothing in them."""
    opened = open_database(tmp_path / "home", database_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def bucket_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    """The server of buckets of this test session; nothing of it is on the internet."""
    server = BucketServer(tmp_path_factory.mktemp("buckets"))
    yield server
    server.stop()


@pytest.fixture
def bucket(bucket_server: BucketServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket, which the environment leads to."""
    opened = Bucket(bucket_server)
    for name, value in opened.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def _prepared_database(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a database with all tables."""
    _execute(postgres_url, f"CREATE DATABASE {_PREPARED}")
    home = tmp_path_factory.mktemp("home")
    open_database(home, _with_name(postgres_url, _PREPARED)).close()
    return _PREPARED


def _with_name(url: str, name: str) -> str:
    return sqlalchemy.make_url(url).set(database=name).render_as_string(hide_password=False)


def _execute(url: str, statement: str) -> None:
    place = sqlalchemy.make_url(url)
    connection = psycopg2.connect(user=place.username, dbname=place.database, **place.query)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()
