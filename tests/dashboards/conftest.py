"""A database that the tests of a file share, who read what one of them wrote."""

from collections.abc import Iterator

import pytest

from canopy_search.storage.database import Database
from canopy_search.storage.workspace import Workspace
from tests.databases import Databases, within


@pytest.fixture(scope="module")
def shared_database(
    databases: Databases, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """A database with all tables, opened, which is there for the whole file."""
    name = databases.take()
    opened = Workspace(tmp_path_factory.mktemp("home"), within(postgres_url, name)).open()
    yield opened
    opened.close()
    databases.give_back(name)
