"""What `canopy studies` removes, renames, copies and archives."""

import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from canopy_search.search.environment import folder_name
from canopy_search.search.errors import SearchError
from canopy_search.search.study.checkpoint_place import NO_SESSION, open_checkpoints
from canopy_search.search.study.request import StudyRequest
from canopy_search.search.workers.logs import log_folder
from canopy_search.storage.catalogue import Belongings, StudyCatalogue
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workspace import Workspace


def removable(request: StudyRequest) -> Belongings:
    """Returns what would be removed with a study.

    Raises:
        UnknownStudyError: there is no such study.
        StudyBusyError: workers search it, or the study that confirms it.
    """
    with closing(request.workspace.open_existing(writes=True)) as database:
        return StudyCatalogue(database).belongings(request.study)


def remove_study(request: StudyRequest) -> Belongings:
    """Removes a study with its confirmation, its own stages, its checkpoints and its logs.

    ClearML is left as it is. After an interruption, the study is there until all of it is gone.

    Args:
        request: the study, and where its checkpoints are.

    Returns:
        What was removed.

    Raises:
        UnknownStudyError: there is no such study.
        StudyBusyError: workers search it.
        OSError: its checkpoints or logs cannot be removed.
    """
    with closing(request.workspace.open_existing(writes=True)) as database:
        catalogue = StudyCatalogue(database)
        belongings = catalogue.belongings(request.study)
        _discard_checkpoints(request, database, belongings.stages)
        for name in belongings.studies:
            for folder in _folders(request.workspace.home, name):
                if folder.exists():
                    shutil.rmtree(folder)
        catalogue.remove(belongings)
        return belongings


def archive_study(request: StudyRequest) -> None:
    """Archives a study, and removes the checkpoints that no other study needs.

    Raises:
        SearchError: plain Optuna wrote it.
        StudyBusyError: workers search it.
        OSError: its checkpoints cannot be removed.
    """
    with closing(request.workspace.open_existing(writes=True)) as database:
        if StudyStore(database).read_record(request.study) is None:
            raise SearchError(
                f"study {request.study!r} was not started by Canopy, which therefore cannot "
                "archive it"
            )
        stages = StudyCatalogue(database).archive(request.study)
        _discard_checkpoints(request, database, stages)


def restore_study(workspace: Workspace, name: str) -> None:
    """Takes a study out of the archive.

    Raises:
        UnknownStudyError: there is no such study.
    """
    with closing(workspace.open_existing(writes=True)) as database:
        StudyCatalogue(database).restore(name)


def rename_study(workspace: Workspace, name: str, new_name: str) -> None:
    """Gives a study another name, and its logs.

    Raises:
        UnknownStudyError: there is no such study.
        StudyExistsError: there is one of the new name.
        StudyBusyError: workers search it.
    """
    with closing(workspace.open_existing(writes=True)) as database:
        StudyCatalogue(database).rename(name, new_name)
    old, new = _folders(workspace.home, name), _folders(workspace.home, new_name)
    for before, after in zip(old, new, strict=True):
        if before.exists() and not after.exists():
            before.rename(after)


def copy_study(
    workspace: Workspace, name: str, new_name: str, target_url: str | None
) -> str | None:
    """Copies a study.

    Args:
        workspace: the workspace of the study.
        name: of the study.
        new_name: of the copy.
        target_url: of another database; None for the same one.

    Returns:
        The other database, as text; None for the same one.

    Raises:
        UnknownStudyError: there is no such study.
        StudyExistsError: there is one of the new name.
        StudyBusyError: workers search it.
        StorageError: one of the databases cannot be used.
    """
    with closing(workspace.open_existing(writes=True)) as database:
        if target_url is None:
            StudyCatalogue(database).copy(name, new_name, database)
            return None
        with closing(Workspace(workspace.home, target_url).open()) as target:
            StudyCatalogue(database).copy(name, new_name, target)
            return target.place


def _discard_checkpoints(request: StudyRequest, database: Database, keys: Sequence[str]) -> None:
    settings, home = request.configuration.settings.stages, request.workspace.home
    with closing(open_checkpoints(settings, home, database, NO_SESSION)) as checkpoints:
        checkpoints.discard(list(checkpoints.find(keys)))


def _folders(home: Path, study: str) -> list[Path]:
    """Returns the folders that a study may have in the state folder."""
    return [log_folder(home, study), home / "jobs" / folder_name(study)]
