"""Checkpoints of one database in one folder, as any number of workers see them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from storage.checkpoint_files import CheckpointFiles
from storage.checkpoints import CheckpointStore
from storage.database import Database
from storage.stages import StageStore
from storage.worker_session import worker_session
from tests.storage.checkpoint_tools import Opener


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
