"""Opens the stage tree for one worker."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from canopy_search.filestore.retry import Retrier
from canopy_search.search.config.settings import StagesSettings
from canopy_search.search.study.checkpoint_place import open_checkpoints
from canopy_search.search.trial.checkpoint_writer import CheckpointWriter
from canopy_search.search.trial.stage_tree import StageTree
from canopy_search.storage.database import Database
from canopy_search.storage.stages.stages import StageStore
from canopy_search.storage.workers.session import WorkerSession
from canopy_search.training.data.dataset import Dataset


@contextmanager
def open_tree(
    settings: StagesSettings,
    home: Path,
    database: Database,
    session: WorkerSession,
    dataset: Dataset,
    *,
    retrier: Retrier,
    note: Callable[[str], None],
    alive: Callable[[], None] = lambda: None,
) -> Iterator[StageTree]:
    """Opens the stage tree, and ends its threads at the end of the context.

    Args:
        settings: of the configuration.
        home: the state folder.
        database: an opened one.
        session: of this worker.
        dataset: the images and labels.
        retrier: how long to wait for an unavailable database.
        note: gets messages for the user.
        alive: called repeatedly while waiting for another worker.

    Raises:
        CheckpointPlaceError: checkpoints cannot be stored in the configured filestore.
    """
    store = retrier.call(lambda: open_checkpoints(settings, home, database, session.worker))
    writer = CheckpointWriter(store, note)
    try:
        stages = StageStore(database, session)
        yield StageTree(stages, writer, dataset, retrier=retrier, note=note, alive=alive)
    finally:
        writer.close()
        store.close()
