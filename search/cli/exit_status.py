"""The error message and exit status of a failed command; imported only after an error."""

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
    """Returns the message, which includes the remedy, and the exit status.

    Args:
        error: the exception that ended the command.
        home: the state folder.
    """
    if isinstance(error, SearchError | DashboardError | StorageError | TrainingError):
        return str(error), error.exit_status
    if isinstance(error, DATABASE_FAILURES):
        return (
            f"the database failed: {failure_text(error)}; nothing is lost: fix it, then run the "
            "same command again to resume"
        ), 1
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return where + (error.strerror or str(error)) + _remedy(error, home), 1
    first_line = str(error).partition("\n")[0]
    return (
        f"internal error: {type(error).__name__}: {first_line}; nothing is lost; run the same "
        "command with --debug for a traceback, and please report it"
    ), 1


def _remedy(error: OSError, home: Path) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"; make room there, or set {HOME_VARIABLE} to a folder on a larger disk"
    inside = error.filename and Path(os.fsdecode(error.filename)).is_relative_to(home)
    if inside and error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}:
        return f"; the state folder is {home}, set {HOME_VARIABLE} to a writable one"
    return ""
