"""Retries while the database is unavailable: which errors are temporary, and how long to wait."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

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

from canopy_search.storage.connection.urls import failure_text
from canopy_search.storage.errors import (
    DatabaseReadOnlyError,
    DatabaseUnavailableError,
    DatabaseUnreachableError,
    EmbeddedPostgresError,
)

DEFAULT_RETRY_FOR_S = 600.0
LONGEST_PAUSE_S = 5.0
_FIRST_PAUSE_S = 0.1
# A waiting call reports this often that its process is alive.
HEARTBEAT_S = 0.2

# SQLSTATE classes: connection, read-only server after a failover, rollback, resources, a lock that
# is held for long, intervention, system.
_TEMPORARY_CLASSES = ("08", "25", "40", "53", "55", "57", "58")

# Opening a database raises these if it is unavailable.
_OPEN_ERRORS = (DatabaseUnreachableError, DatabaseReadOnlyError, EmbeddedPostgresError)

Result = TypeVar("Result")


def is_unavailability(error: BaseException) -> bool:
    """Whether `error` means that the database is unavailable for now, and not a mistake of ours."""
    if isinstance(error, (PoolTimeoutError, PendingRollbackError, *_OPEN_ERRORS)):
        return True
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


def pause_s(attempt: int) -> float:
    """Returns how long to wait after attempt number `attempt`, which counts from 0."""
    longest = min(LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)
    return random.uniform(longest / 2, longest)


class RetryPolicy:
    """How long a worker retries while the database is unavailable; reports each time once.

    Args:
        limit_s: the worker gives up after this long, in seconds.
        revive: restarts the embedded server; may fail.
        note: gets messages for the user.

    Attributes:
        revive: as given; may be set later.
        alive: called again and again while it waits.
    """

    def __init__(
        self,
        limit_s: float = DEFAULT_RETRY_FOR_S,
        *,
        revive: Callable[[], None] | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.limit_s = limit_s
        self.revive = revive or (lambda: None)
        self._note = note or (lambda _text: None)
        self._waiting = 0
        self.alive: Callable[[], None] = lambda: None

    def call(self, action: Callable[[], Result]) -> Result:
        """Returns what `action` returns, and repeats it until the database is back.

        Args:
            action: changes nothing when it fails, or finds out itself what it has changed.

        Raises:
            DatabaseUnavailableError: the database was unavailable for too long.
        """
        unavailability: Unavailability | None = None
        while True:
            try:
                result = action()
            except (SQLAlchemyError, StorageInternalError, *_OPEN_ERRORS) as error:
                if not is_unavailability(error):
                    raise
                unavailability = unavailability or self.unavailability(error)
                unavailability.wait(error)
            else:
                if unavailability is not None:
                    unavailability.end()
                return result

    def unavailability(self, error: Exception) -> "Unavailability":
        """Starts to wait for the database, and reports it unless another thread waits already."""
        if not self._waiting:
            self._note(f"the database is unavailable: {_reason(error)}; retrying")
        self._waiting += 1
        return Unavailability(self.limit_s, self.revive, self._on_end, self.alive)

    def _on_end(self, seconds: float) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._note(f"the database is back after {seconds:.0f} s")


class Unavailability:
    """One period in which the database is unavailable.

    Args:
        limit_s: longest duration, in seconds.
        revive: restarts the embedded server.
        on_end: called at the end with the duration in seconds.
        alive: called again and again during the wait.
    """

    def __init__(
        self,
        limit_s: float,
        revive: Callable[[], None],
        on_end: Callable[[float], None],
        alive: Callable[[], None],
    ) -> None:
        self._limit_s = limit_s
        self._revive = revive
        self._on_end = on_end
        self._alive = alive
        self._started_s = time.monotonic()
        self._attempts = 0

    def wait(self, error: Exception) -> None:
        """Sleeps before the next attempt.

        Raises:
            DatabaseUnavailableError: the database was unavailable for too long.
        """
        self.check(error)
        left_s = pause_s(self._attempts)
        while left_s > 0:
            self._alive()
            time.sleep(min(HEARTBEAT_S, left_s))
            left_s -= HEARTBEAT_S
        self.try_revival()

    def check(self, error: Exception) -> None:
        """Raises DatabaseUnavailableError if the database was unavailable for too long."""
        waited_s = time.monotonic() - self._started_s
        if waited_s > self._limit_s:
            raise DatabaseUnavailableError(
                f"the database has been unavailable for {waited_s / 60:.1f} minutes "
                f"({_reason(error)}); nothing is lost: fix it and run the same command to resume, "
                "and --database-patience sets how long to wait"
            ) from error

    def try_revival(self) -> None:
        """Restarts the embedded server, if that is used."""
        self._attempts += 1
        self._revive()

    @property
    def pause_s(self) -> float:
        """How long to wait before the next attempt."""
        return pause_s(self._attempts)

    def end(self) -> None:
        """Reports that the database is back."""
        self._on_end(time.monotonic() - self._started_s)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, _OPEN_ERRORS) else failure_text(error)
