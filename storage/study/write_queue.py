"""What a worker owes the database: written in order, on a thread that waits for it if need be."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from canopy_search.storage.connection.retry import (
    HEARTBEAT_S,
    RetryPolicy,
    Unavailability,
    is_unavailability,
)
from canopy_search.storage.errors import LeaseLostError
from canopy_search.storage.study.trial_changes import Lease, TrialChange

_PROMPT_S = 5.0


@dataclass(frozen=True)
class _Entry:
    change: TrialChange
    lease: Lease
    before: int


class WriteQueue:
    """Changes of trials that are handed in here are written in their order, each once.

    While the database is away the caller goes on, and what it hands in waits. The thread tries
    again until the database is back or nobody has patience any more.

    Args:
        write: writes one change, and may fail; see `storage.study.trial_queue.TrialQueue.write`.
        retry_policy: how long to wait.
    """

    def __init__(
        self, write: Callable[[TrialChange, Lease, int], None], retry_policy: RetryPolicy
    ) -> None:
        self._write = write
        self._retry_policy = retry_policy
        self._owed: deque[_Entry] = deque()
        self._changed = threading.Condition()
        self._lost: set[tuple[int, int]] = set()
        self._unavailability: Unavailability | None = None
        self._failure: BaseException | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="canopy ledger", daemon=True)
        self._thread.start()

    @property
    def is_away(self) -> bool:
        """Whether the database is away, as far as is known."""
        return self._unavailability is not None

    def post(self, change: TrialChange, lease: Lease) -> None:
        """Hands in a change, which is written soon.

        Raises:
            LeaseLostError: the trial is another worker's by now.
        """
        with self._changed:
            self._check(lease)
            self._owed.append(_Entry(change, lease, lease.posted))
            lease.posted += 1
            self._changed.notify_all()

    def settle(self, lease: Lease, timeout_s: float | None = None) -> bool:
        """Waits until all that was handed in is written.

        Args:
            lease: of the trial that the caller works on.
            timeout_s: how long to wait; None for as long as it takes.

        Returns:
            Whether everything is written.

        Raises:
            LeaseLostError: the trial is another worker's by now; what was handed in is dropped.
            DatabaseUnavailableError: the database was away for too long.
        """
        until_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while self._owed and self._failure is None and time.monotonic() < until_s:
                self._retry_policy.alive()
                self._changed.wait(min(HEARTBEAT_S, until_s - time.monotonic()))
            self._check(lease)
            return not self._owed

    def settle_promptly(self, lease: Lease) -> bool:
        """Waits for a moment, or not at all while the database is away; see `settle`."""
        return self.settle(lease, 0 if self.is_away else _PROMPT_S)

    def close(self, timeout_s: float = _PROMPT_S) -> None:
        """Writes what is left, as far as that works at once, and ends."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._owed or self._failure is not None or self.is_away, timeout_s
            )
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _check(self, lease: Lease) -> None:
        if (lease.trial_id, lease.token) in self._lost:
            raise LeaseLostError(f"trial {lease.number} is another worker's by now")
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._owed or self._is_closed)
                if self._is_closed:
                    return
                entry = self._owed[0]
            self._try(entry)

    def _try(self, entry: _Entry) -> None:
        try:
            self._write(entry.change, entry.lease, entry.before)
        except LeaseLostError:
            with self._changed:
                self._lost.add((entry.lease.trial_id, entry.lease.token))
                self._owed = deque(e for e in self._owed if e.lease is not entry.lease)
                self._changed.notify_all()
        except (SQLAlchemyError, StorageInternalError) as error:
            if is_unavailability(error):
                self._wait(error)
            else:
                self._fail(error)
        except BaseException as error:  # noqa: BLE001 - handed on to the thread that settles
            self._fail(error)
        else:
            with self._changed:
                self._owed.popleft()
                if self._unavailability is not None:
                    self._unavailability.end()
                    self._unavailability = None
                self._changed.notify_all()

    def _wait(self, error: Exception) -> None:
        if self._unavailability is None:
            self._unavailability = self._retry_policy.unavailability(error)
        try:
            self._unavailability.check(error)
            deadline = time.monotonic() + self._unavailability.pause_s
            with self._changed:
                self._changed.wait_for(
                    lambda: self._is_closed, max(0.0, deadline - time.monotonic())
                )
            self._unavailability.try_revival()
        except BaseException as failure:  # noqa: BLE001 - likewise
            self._fail(failure)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = error
            self._is_closed = True
            self._changed.notify_all()
