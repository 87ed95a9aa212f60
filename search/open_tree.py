"""Opens the stage tree for one worker."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from canopy_search.search.checkpoint_writer import CheckpointWriter
from canopy_search.search.settings import StagesSettings
from canopy_search.search.stage_tree import StageTree
from canopy_search.storage.checkpoint_files import CheckpointFiles
from canopy_search.storage.checkpoints import GIB, CheckpointStore
from canopy_search.storage.database import Database
from canopy_search.storage.outages import Patience
from canopy_search.storage.stages import StageStore
from canopy_search.storage.worker_session import WorkerSession
from canopy_search.training.data.dataset import Dataset

CHECKPOINT_FOLDER = "checkpoints"


def checkpoint_url(settings: StagesSettings, home: Path) -> str:
    """Returns where checkpoints lie.

    Args:
        settings: of the configuration.
        home: the state folder.
    """
    automatic = settings.checkpoints == "auto"
    return str(home / CHECKPOINT_FOLDER) if automatic else settings.checkpoints


def check_place(settings: StagesSettings, home: Path) -> None:
    """Raises CheckpointPlaceError if checkpoints cannot lie where the configuration says."""
    CheckpointFiles(checkpoint_url(settings, home), "")


def open_checkpoints(
    settings: StagesSettings, home: Path, database: Database, worker: int
) -> CheckpointStore:
    """Returns the checkpoints of a database where the configuration says.

    Raises:
        CheckpointPlaceError: there is no such file system, or a package for it is missing.
    """
    files = CheckpointFiles(checkpoint_url(settings, home), database.read_id())
    automatic = settings.budget_gib == "auto"
    budget = None if automatic else int(float(settings.budget_gib) * GIB)
    return CheckpointStore(database, files, worker, budget)


@contextmanager
def open_tree(
    settings: StagesSettings,
    home: Path,
    database: Database,
    session: WorkerSession,
    dataset: Dataset,
    *,
    patience: Patience,
    note: Callable[[str], None],
    alive: Callable[[], None] = lambda: None,
) -> Iterator[StageTree]:
    """Opens the stage tree, and ends its threads when the work is over.

    Args:
        settings: of the configuration.
        home: the state folder.
        database: an opened one.
        session: of this worker.
        dataset: the images and labels.
        patience: how long to wait for a database that is away.
        note: is told what a person should know.
        alive: is called again and again while somebody else is waited for.

    Raises:
        CheckpointPlaceError: checkpoints cannot lie where they are said to.
    """
    store = patience.call(lambda: open_checkpoints(settings, home, database, session.worker))
    writer = CheckpointWriter(store, note)
    try:
        stages = StageStore(database, session)
        yield StageTree(stages, writer, dataset, patience=patience, note=note, alive=alive)
    finally:
        writer.close()
        store.close()
