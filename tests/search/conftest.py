"""What tests of the stage tree have in common."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from canopy_search.filestore.retry import Retrier, RetryPolicy
from canopy_search.search.trial.checkpoint_writer import CheckpointWriter
from canopy_search.search.trial.stage_tree import StageTree
from canopy_search.storage.connection.retry import DATABASE
from canopy_search.storage.database import Database
from canopy_search.storage.stages.checkpoint_files import CheckpointFiles
from canopy_search.storage.stages.checkpoints import CheckpointStore
from canopy_search.storage.stages.stages import StageStore
from canopy_search.storage.workers.session import worker_session
from canopy_search.training.run import TrainingRun
from tests.search.trial.tree_worker import Hire, Notes, Worker, tiny_dataset
from tests.short_memory import ShortMemory


@pytest.fixture
def hire(database: Database, tmp_path: Path) -> Iterator[Hire]:
    """Makes one more worker on one set of checkpoints."""
    with ExitStack() as stack:

        def hired(**options: Any) -> Worker:
            session = stack.enter_context(worker_session(database.url))
            notes = Notes()
            files = CheckpointFiles(str(tmp_path / "checkpoints"), database.read_id())
            store = CheckpointStore(database, files, session.worker, **options)
            writer = CheckpointWriter(store, notes.append)
            stack.callback(writer.close)
            stages = StageStore(database, session)
            tree = StageTree(
                stages,
                writer,
                tiny_dataset(),
                Retrier(RetryPolicy(), DATABASE, note=notes.append),
            )
            return Worker(tree, writer, session, notes)

        yield hired


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs that were trained, in their order."""
    epochs: list[int] = []
    real = TrainingRun.train_epoch

    def train_epoch(run: TrainingRun, *arguments: Any) -> Any:
        epochs.append(run.epoch + 1)
        return real(run, *arguments)

    monkeypatch.setattr(TrainingRun, "train_epoch", train_epoch)
    return epochs


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> ShortMemory:
    """Networks that take so many images at once."""
    return ShortMemory(monkeypatch)
