"""Opens the stage tree for one worker."""

from collections.abc import Iterator
from contextlib import contextmanager

from canopy_search.filestore.retry import Retrier
from canopy_search.search.study.checkpoint_place import open_checkpoints
from canopy_search.search.study.plan import StartedStudy
from canopy_search.search.trial.checkpoint_writer import CheckpointWriter
from canopy_search.search.trial.stage_tree import StageTree
from canopy_search.storage.database import Database
from canopy_search.storage.stages.stages import StageStore
from canopy_search.storage.workers.session import WorkerSession


@contextmanager
def open_tree(
    started: StartedStudy, database: Database, session: WorkerSession, retrier: Retrier
) -> Iterator[StageTree]:
    """Opens the stage tree, and ends its threads at the end of the context.

    Args:
        started: the study.
        database: an opened one.
        session: of this worker.
        retrier: repeats calls while the database is unavailable.

    Raises:
        CheckpointPlaceError: checkpoints cannot be stored in the configured filestore.
    """
    stages, home = started.plan.config.stages, started.plan.workspace.home
    store = retrier.call(lambda: open_checkpoints(stages, home, database, session.worker))
    writer = CheckpointWriter(store, retrier.note)
    try:
        yield StageTree(StageStore(database, session), writer, started.dataset, retrier)
    finally:
        writer.close()
        store.close()
