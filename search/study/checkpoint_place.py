"""Where a study's checkpoints are stored: the state folder, another folder, or object storage."""

from pathlib import Path

from canopy_search.search.config.settings import StagesSettings
from canopy_search.storage.database import Database
from canopy_search.storage.stages.checkpoint_files import CheckpointFiles
from canopy_search.storage.stages.checkpoints import GIB, CheckpointStore

CHECKPOINT_FOLDER = "checkpoints"
NO_SESSION = 0
"""Stands for the session of a process that writes no checkpoint; no session has this number."""


def checkpoint_url(settings: StagesSettings, home: Path) -> str:
    """Returns the URL or folder of the checkpoints.

    Args:
        settings: stage settings of the configuration.
        home: the state folder.
    """
    automatic = settings.checkpoints == "auto"
    return str(home / CHECKPOINT_FOLDER) if automatic else settings.checkpoints


def check_place(settings: StagesSettings, home: Path) -> None:
    """Raises CheckpointPlaceError if the configured checkpoint storage cannot be used."""
    CheckpointFiles(checkpoint_url(settings, home), "")


def open_checkpoints(
    settings: StagesSettings, home: Path, database: Database, worker: int
) -> CheckpointStore:
    """Returns the checkpoints of a database, in the configured storage.

    Raises:
        CheckpointPlaceError: the file system is unknown, or a package for it is missing.
    """
    files = CheckpointFiles(checkpoint_url(settings, home), database.read_id())
    automatic = settings.budget_gib == "auto"
    budget = None if automatic else int(float(settings.budget_gib) * GIB)
    return CheckpointStore(database, files, worker, budget)
