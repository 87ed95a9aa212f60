"""A database that the tests of a file share, who read what one of them wrote."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
import sqlalchemy

from storage.database import Database, open_database
from tests.shared_servers import execute


@pytest.fixture(scope="module")
def shared_database(
    postgres_url: str, _prepared_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """A database with all tables, opened, which is there for the whole file."""
    name = f"canopy_{uuid4().hex}"
    execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {_prepared_database}")
    url = sqlalchemy.make_url(postgres_url).set(database=name)
    opened = open_database(
        tmp_path_factory.mktemp("home"), url.render_as_string(hide_password=False)
    )
    yield opened
    opened.close()
    execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")
