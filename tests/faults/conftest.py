"""Searches to do harm to."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy

from canopy_search.storage.database import Database
from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.workspace import Workspace
from tests.faults.invariants import check
from tests.faults.searching import Search, settings
from tests.faults.servers import Server
from tests.planet_data import write_planet_data

NewSearch = Callable[..., Search]
Facts = list[tuple[Any, ...]]


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_planet_data(folder, images=40, image_px=16)
    return folder


@pytest.fixture
def new_search(
    data_folder: Path, database: Database, database_url: str, tmp_path: Path
) -> Iterator[NewSearch]:
    """Makes a search in the test's own database."""
    database.close()  # no process is to inherit a connection
    yield from searches(data_folder, tmp_path / "home", database_url)


@pytest.fixture
def new_embedded_search(
    data_folder: Path, prepared_data: Path, tmp_path: Path
) -> Iterator[NewSearch]:
    """Makes a search with an embedded Postgres of its own."""
    shutil.copytree(prepared_data, tmp_path / "home" / "postgres" / "data")
    yield from searches(data_folder, tmp_path / "home", None)
    EmbeddedPostgres(tmp_path / "home" / "postgres").stop()


@pytest.fixture(scope="session")
def prepared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a server with all tables, to be copied: that takes no time."""
    folder = tmp_path_factory.mktemp("prepared")
    server = Server(folder / "postgres")
    Workspace(folder, None).open().close()
    for setting in ("fsync", "full_page_writes"):
        server.execute(f"ALTER SYSTEM SET {setting} = off")
    server.postgres.stop()
    return server.data


@pytest.fixture
def server(prepared_data: Path, tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, which no worker may start."""
    shutil.copytree(prepared_data, tmp_path / "server" / "data")
    server = Server(tmp_path / "server")
    server.start()
    yield server
    server.postgres.stop()


@pytest.fixture
def new_own_search(data_folder: Path, server: Server, tmp_path: Path) -> Iterator[NewSearch]:
    """Makes a search on that server."""
    yield from searches(data_folder, tmp_path / "home", server.url)


def searches(data_folder: Path, home: Path, url: str | None) -> Iterator[NewSearch]:
    made: list[Search] = []
    home.mkdir(parents=True, exist_ok=True)

    def make(n_trials: int = 6, *, epochs: int = 4, **options: Any) -> Search:
        names = Search.__dataclass_fields__
        fields = {name: options.pop(name) for name in list(options) if name in names}
        config = settings(data_folder, epochs, **options)
        search = Search(config, home, url, n_trials, **fields)
        made.append(search)
        return search

    yield make
    for search in made:
        search.close()


@pytest.fixture(scope="session")
def undisturbed(
    data_folder: Path, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Facts]:
    """Returns what a search gives that one worker runs without trouble."""
    known: dict[str, Facts] = {}

    def facts(n_trials: int = 6, **options: Any) -> Facts:
        key = repr((n_trials, sorted(options.items())))
        if key not in known:
            name = f"undisturbed_{uuid4().hex}"
            place = sqlalchemy.make_url(postgres_url)
            engine = sqlalchemy.create_engine(place, poolclass=sqlalchemy.NullPool)
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
            url = place.set(database=name).render_as_string(hide_password=False)
            make = searches(data_folder, tmp_path_factory.mktemp("undisturbed"), url)
            search = next(make)(n_trials, **options)
            begun = search.begin()
            assert search.finish() == 0
            outcome = check(search, begun)
            assert outcome.repeated == outcome.wasted == 0
            known[key] = outcome.facts()
        return known[key]

    return facts
