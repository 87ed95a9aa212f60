"""Which errors mean that the database is unavailable for now."""

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import (
    DatabaseError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    PendingRollbackError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from canopy_search.filestore.retry import Service
from canopy_search.storage.connection.urls import failure_text
from canopy_search.storage.errors import (
    DatabaseReadOnlyError,
    DatabaseUnavailableError,
    DatabaseUnreachableError,
    EmbeddedPostgresError,
)

# SQLSTATE classes: connection, read-only server after a failover, rollback, resources, a lock that
# is held for long, intervention, system.
_TEMPORARY_CLASSES = ("08", "25", "40", "53", "55", "57", "58")

# Opening a database raises these if it is unavailable.
_OPEN_ERRORS = (DatabaseUnreachableError, DatabaseReadOnlyError, EmbeddedPostgresError)


def is_unavailability(error: BaseException) -> bool:
    """Whether `error` means that the database is unavailable for now, and not a mistake of ours."""
    if isinstance(error, (PoolTimeoutError, PendingRollbackError, *_OPEN_ERRORS)):
        return True
    if not isinstance(error, SQLAlchemyError | StorageInternalError):
        return False
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DBAPIError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return isinstance(error, StorageInternalError)
    code = getattr(cause.orig, "pgcode", None)
    if code:
        return str(code)[:2] in _TEMPORARY_CLASSES
    # Without a code the server sent nothing: the connection broke, or there was none.
    has_no_answer = isinstance(cause, OperationalError | InterfaceError)
    return cause.connection_invalidated or has_no_answer or type(cause) is DatabaseError


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, _OPEN_ERRORS) else failure_text(error)


def _given_up(error: BaseException, waited_s: float) -> DatabaseUnavailableError:
    return DatabaseUnavailableError(
        f"the database has been unavailable for {waited_s / 60:.1f} minutes "
        f"({_reason(error)}); nothing is lost: fix it and run the same command to resume, "
        "and --database-patience sets how long to wait"
    )


DATABASE = Service("the database", is_unavailability, _reason, _given_up)
"""Calls that may find the database unavailable are repeated with this description of it."""
