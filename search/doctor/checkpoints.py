"""The check of the place of checkpoints, where the configuration names one."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from canopy_search.search.config.settings import StagesSettings
from canopy_search.search.doctor.finding import Finding, ok
from canopy_search.search.study.checkpoint_place import checkpoint_url
from canopy_search.storage.stages.checkpoint_files import CheckpointFiles


def check_checkpoints(settings: StagesSettings, home: Path) -> Iterator[Finding]:
    """Writes a small file there, and removes it again.

    Below the state folder there is nothing to check that the state folder's own check does not.

    Args:
        settings: of the configuration.
        home: the state folder.

    Raises:
        CheckpointPlaceError: checkpoints cannot lie there.
        OSError: the place cannot be written to.
    """
    if not settings.enabled or settings.checkpoints == "auto":
        return
    yield ok("checkpoints", f"{checked_place(settings, home)}: can be written")


def checked_place(settings: StagesSettings, home: Path) -> str:
    """Returns where checkpoints lie, in words, after a small file was written there.

    Raises:
        CheckpointPlaceError: checkpoints cannot lie there.
        OSError: the place cannot be written to.
    """
    with closing(CheckpointFiles(checkpoint_url(settings, home), "")) as files:
        files.check()
        return files.place
