"""The check of the checkpoint location, if the configuration sets one."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from canopy_search.search.config.settings import StagesSettings
from canopy_search.search.doctor.finding import Finding, ok
from canopy_search.search.study.checkpoint_place import CHECKPOINT_FOLDER, checkpoint_url
from canopy_search.storage.stages.checkpoint_files import CheckpointFiles


def check_checkpoints(settings: StagesSettings, home: Path) -> Iterator[Finding]:
    """Writes a small file to the checkpoint location and removes it.

    Args:
        settings: section ``stages`` of the configuration.
        home: the state folder.

    Raises:
        CheckpointPlaceError: checkpoints cannot be stored there.
        OSError: the location is not writable.
    """
    if not settings.enabled or (
        settings.checkpoints == "auto" and not (home / CHECKPOINT_FOLDER).exists()
    ):
        return
    yield ok("checkpoints", f"{checked_place(settings, home)}: writable")


def checked_place(settings: StagesSettings, home: Path) -> str:
    """Returns the checkpoint location as text, after writing a small file there.

    Raises:
        CheckpointPlaceError: checkpoints cannot be stored there.
        OSError: the location is not writable.
    """
    with closing(CheckpointFiles(checkpoint_url(settings, home), "")) as files:
        files.check()
        return files.place
