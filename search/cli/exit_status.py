"""What ended a command, in words, and its exit status; imported when something is wrong."""

import errno
import os
from pathlib import Path

from canopy_search.dashboards.errors import DashboardError
from canopy_search.search.environment import HOME_VARIABLE
from canopy_search.search.errors import SearchError
from canopy_search.storage.connection.urls import DATABASE_FAILURES, failure_text
from canopy_search.storage.errors import StorageError
from canopy_search.training.errors import TrainingError


def explain(error: Exception, home: Path) -> tuple[str, int]:
    """Returns what went wrong in words, with the remedy, and the exit status.

    Args:
        error: what ended the command.
        home: the state folder.
    """
    if isinstance(error, SearchError | DashboardError | StorageError | TrainingError):
        return str(error), error.exit_status
    if isinstance(error, DATABASE_FAILURES):
        return (
            f"the database failed: {failure_text(error)}; nothing is lost, the same command goes "
            "on when that is mended"
        ), 1
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return where + (error.strerror or str(error)) + _remedy(error, home), 1
    first_line = str(error).partition("\n")[0]
    return (
        f"this should not have happened: {type(error).__name__}: {first_line}; nothing is lost; "
        "the same command with --debug shows where, please report it"
    ), 1


def _remedy(error: OSError, home: Path) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"; make room there, or set {HOME_VARIABLE} to a folder on a larger disk"
    inside = error.filename and Path(os.fsdecode(error.filename)).is_relative_to(home)
    if inside and error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}:
        return f"; the state folder is {home}, set {HOME_VARIABLE} to one that you can write to"
    return ""
