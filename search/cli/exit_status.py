"""The error message and exit status of a failed command; imported only after an error."""

import errno
import os
from pathlib import Path

from canopy_search.dashboards.errors import DashboardError
from canopy_search.filestore.messages import first_line
from canopy_search.filestore.user_files import real_path
from canopy_search.search.environment import HOME_VARIABLE
from canopy_search.search.errors import SearchError
from canopy_search.storage.errors import StorageError
from canopy_search.training.errors import TrainingError

# How Python, NumPy, torch and the loader of libraries say that there is too little memory.
_TOO_LITTLE_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "can't start new thread",
    "failed to map segment",
    "std::bad_alloc",
)

_NO_WRITABLE_FOLDER = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),
}


def explain(error: Exception, home: Path) -> tuple[str, int]:
    """Returns the message, which includes the remedy, and the exit status.

    Args:
        error: the exception that ended the command.
        home: the state folder.
    """
    if isinstance(error, SearchError | DashboardError | StorageError | TrainingError):
        return str(error), error.exit_status
    reason = first_line(error)
    if _is_too_little_memory(error, reason):
        return (
            f"not enough memory: {reason}; nothing is lost: raise the "
            "limit (ulimit -v, or the container's or job's), or end other programs, then run the "
            "same command again"
        ), 1
    # Imported here: there may be too little memory for it.
    from canopy_search.storage.connection.urls import DATABASE_FAILURES, failure_text

    if isinstance(error, DATABASE_FAILURES):
        return (
            f"the database failed: {failure_text(error)}; nothing is lost: fix it, then run the "
            "same command again to resume"
        ), 1
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return where + (error.strerror or reason) + _remedy(error, home), 1
    return (
        f"internal error: {type(error).__name__}: {reason}; nothing is lost; run the same "
        "command with --debug for a traceback, and please report it"
    ), 1


def _is_too_little_memory(error: Exception, reason: str) -> bool:
    if isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    ):
        return True
    text = reason.lower()
    return isinstance(error, RuntimeError | ImportError) and any(
        words in text for words in _TOO_LITTLE_MEMORY
    )


def _remedy(error: OSError, home: Path) -> str:
    inside = error.filename and (
        real_path(Path(os.fsdecode(error.filename))).is_relative_to(real_path(home))
    )
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        elsewhere = f", or set {HOME_VARIABLE} to a folder on a larger disk"
        return "; make room there" + (elsewhere if inside or not error.filename else "")
    if inside and error.errno in _NO_WRITABLE_FOLDER:
        return f"; the state folder is {home}, set {HOME_VARIABLE} to a writable one"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return "; name a file in a writable folder, or change its permissions"
    return ""
