"""Checkpoints as any number of workers see them, and servers that a test has for itself."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from canopy_search.storage.database import Database
from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.stages.checkpoint_files import CheckpointFiles
from canopy_search.storage.stages.checkpoints import CheckpointStore
from canopy_search.storage.stages.stages import StageStore
from canopy_search.storage.workers.session import worker_session
from tests.storage.postgres.embedded_tools import MakeServer
from tests.storage.stages.checkpoint_tools import Opener


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def opened(database: Database, folder: Path) -> Iterator[Opener]:
    """Opens the checkpoints as one more living worker sees them."""
    with ExitStack() as sessions:

        def open_store(budget: int | None = None) -> CheckpointStore:
            session = sessions.enter_context(worker_session(database.url))
            files = CheckpointFiles(str(folder), database.read_id())
            return CheckpointStore(database, files, session.worker, budget)

        yield open_store


@pytest.fixture
def stages(database: Database) -> StageStore:
    return StageStore(database, None)


@pytest.fixture
def make_server() -> Iterator[MakeServer]:
    """Makes servers that are stopped after the test."""
    made: list[EmbeddedPostgres] = []

    def make(folder: Path) -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(folder))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def stopped_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a server that was started once; copying it is faster than making another."""
    folder = tmp_path_factory.mktemp("stopped")
    made = EmbeddedPostgres(folder)
    made.start()
    made.stop()
    return folder


@pytest.fixture
def server(make_server: MakeServer, tmp_path: Path, stopped_server: Path) -> EmbeddedPostgres:
    """A running server in `tmp_path / "postgres"`."""
    shutil.copytree(stopped_server, tmp_path / "postgres")
    made = make_server(tmp_path / "postgres")
    made.start()
    return made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of `server`."""
    return tmp_path / "postgres" / "data"
