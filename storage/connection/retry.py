"""A database that is away for a while: what passes by itself, and how long to wait for it."""

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
# Who watches whether a worker is alive may be as impatient as this.
HEARTBEAT_S = 0.2

# SQLSTATE classes: connection, rolled back, resources, intervention, system, as of a read-only
# server after a failover and a lock that somebody holds for long.
_PASSING_CLASSES = ("08", "25", "40", "53", "55", "57", "58")

# What opening a database says where using it would say that the database is away.
_CLOSED = (DatabaseUnreachableError, DatabaseReadOnlyError, EmbeddedPostgresError)

Result = TypeVar("Result")


def is_unavailability(error: BaseException) -> bool:
    """Whether `error` says that the database is away, which passes, and not that we are wrong."""
    if isinstance(error, (PoolTimeoutError, PendingRollbackError, *_CLOSED)):
        return True
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DBAPIError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return isinstance(error, StorageInternalError)
    code = getattr(cause.orig, "pgcode", None)
    if code:
        return str(code)[:2] in _PASSING_CLASSES
    # Without a code the server said nothing: the connection broke, or there was none.
    says_nothing = isinstance(cause, OperationalError | InterfaceError)
    return cause.connection_invalidated or says_nothing or type(cause) is DatabaseError


def pause_s(attempt: int) -> float:
    """Returns how long to wait before the attempt after number `attempt`, which counts from 0."""
    longest = min(LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)
    return random.uniform(longest / 2, longest)


class RetryPolicy:
    """How long a worker waits for a database that is away, told once per outage.

    Args:
        limit_s: after as long an outage the worker gives up, in seconds.
        revive: starts a server that is ours to start, and may fail.
        note: is told what a person should know.

    Attributes:
        revive: as given; may be set later.
        alive: is called again and again while it waits.
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
        self._outages = 0
        self.alive: Callable[[], None] = lambda: None

    def call(self, action: Callable[[], Result]) -> Result:
        """Returns what `action` returns, tried again until the database is back.

        Args:
            action: changes nothing when it fails, or finds out itself what it has changed.

        Raises:
            DatabaseUnavailableError: it was away for too long.
        """
        unavailability: Unavailability | None = None
        while True:
            try:
                result = action()
            except (SQLAlchemyError, StorageInternalError, *_CLOSED) as error:
                if not is_unavailability(error):
                    raise
                unavailability = unavailability or self.unavailability(error)
                unavailability.wait(error)
            else:
                if unavailability is not None:
                    unavailability.end()
                return result

    def unavailability(self, error: Exception) -> "Unavailability":
        """Begins an outage, and tells of it unless another thread has."""
        if not self._outages:
            self._note(f"the database is away: {_reason(error)}; waiting for it")
        self._outages += 1
        return Unavailability(self.limit_s, self.revive, self._over, self.alive)

    def _over(self, seconds: float) -> None:
        self._outages -= 1
        if not self._outages:
            self._note(f"the database is back after {seconds:.0f} s")


class Unavailability:
    """One time that the database is away.

    Args:
        limit_s: after as long it is given up.
        revive: starts a server that is ours to start.
        over: is told when it is over, and how long it lasted in seconds.
        alive: is called again and again while somebody waits.
    """

    def __init__(
        self,
        limit_s: float,
        revive: Callable[[], None],
        over: Callable[[float], None],
        alive: Callable[[], None],
    ) -> None:
        self._limit_s = limit_s
        self._revive = revive
        self._over = over
        self._alive = alive
        self._began_s = time.monotonic()
        self._attempts = 0

    def wait(self, error: Exception) -> None:
        """Sleeps before the next attempt.

        Raises:
            DatabaseUnavailableError: the outage has lasted for too long.
        """
        self.check(error)
        left_s = pause_s(self._attempts)
        while left_s > 0:
            self._alive()
            time.sleep(min(HEARTBEAT_S, left_s))
            left_s -= HEARTBEAT_S
        self.try_revival()

    def check(self, error: Exception) -> None:
        """Raises DatabaseUnavailableError if the outage has lasted for too long."""
        away_s = time.monotonic() - self._began_s
        if away_s > self._limit_s:
            raise DatabaseUnavailableError(
                f"the database has been away for {away_s / 60:.1f} minutes "
                f"({_reason(error)}); nothing is lost, the same command goes on when that is "
                "mended, and --database-patience sets how long to wait"
            ) from error

    def try_revival(self) -> None:
        """Starts the server again, if it is ours to start."""
        self._attempts += 1
        self._revive()

    @property
    def pause_s(self) -> float:
        """How long to wait before the next attempt."""
        return pause_s(self._attempts)

    def end(self) -> None:
        """Tells that the database is back."""
        self._over(time.monotonic() - self._began_s)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, _CLOSED) else failure_text(error)
