"""Where a study's checkpoints are: in the state folder, another one, or a bucket."""

from pathlib import Path

from canopy_search.search.config.settings import StagesSettings
from canopy_search.storage.database import Database
from canopy_search.storage.stages.checkpoint_files import CheckpointFiles
from canopy_search.storage.stages.checkpoints import GIB, CheckpointStore

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
