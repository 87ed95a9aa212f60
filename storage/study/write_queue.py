"""The write queue: a thread writes a worker's changes in order, and retries if needed."""

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
    """Writes queued changes of trials in order, each exactly once.

    While the database is unavailable the caller continues, and its changes stay in the queue. The
    thread retries until the database is back or the retry policy's limit is reached.

    Args:
        write: writes one change, and may fail; see `storage.study.trial_queue.TrialQueue.write`.
        retry_policy: how long to retry.
    """

    def __init__(
        self, write: Callable[[TrialChange, Lease, int], None], retry_policy: RetryPolicy
    ) -> None:
        self._write = write
        self._retry_policy = retry_policy
        self._queue: deque[_Entry] = deque()
        self._changed = threading.Condition()
        self._lost: set[tuple[int, int]] = set()
        self._unavailability: Unavailability | None = None
        self._failure: BaseException | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="canopy write queue", daemon=True)
        self._thread.start()

    @property
    def is_retrying(self) -> bool:
        """Whether the database is unavailable, as far as is known."""
        return self._unavailability is not None

    def post(self, change: TrialChange, lease: Lease) -> None:
        """Queues a change, which is written soon.

        Raises:
            LeaseLostError: another worker took the trial over.
        """
        with self._changed:
            self._check(lease)
            self._queue.append(_Entry(change, lease, lease.posted))
            lease.posted += 1
            self._changed.notify_all()

    def wait_until_written(self, lease: Lease, timeout_s: float | None = None) -> bool:
        """Waits until all queued changes are written.

        Args:
            lease: of the caller's trial.
            timeout_s: how long to wait; None for no limit.

        Returns:
            Whether everything is written.

        Raises:
            LeaseLostError: another worker took the trial over; its queued changes are dropped.
            DatabaseUnavailableError: the database was unavailable for too long.
        """
        until_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while self._queue and self._failure is None and time.monotonic() < until_s:
                self._retry_policy.alive()
                self._changed.wait(min(HEARTBEAT_S, until_s - time.monotonic()))
            self._check(lease)
            return not self._queue

    def wait_shortly_until_written(self, lease: Lease) -> bool:
        """Likewise for a moment, or not at all while the database is unavailable."""
        return self.wait_until_written(lease, 0 if self.is_retrying else _PROMPT_S)

    def close(self, timeout_s: float = _PROMPT_S) -> None:
        """Writes the remaining changes, as far as that works at once, and ends the thread."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._queue or self._failure is not None or self.is_retrying, timeout_s
            )
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _check(self, lease: Lease) -> None:
        if (lease.trial_id, lease.token) in self._lost:
            raise LeaseLostError(f"trial {lease.number} was taken over by another worker")
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._is_closed)
                if self._is_closed:
                    return
                entry = self._queue[0]
            self._try(entry)

    def _try(self, entry: _Entry) -> None:
        try:
            self._write(entry.change, entry.lease, entry.before)
        except LeaseLostError:
            with self._changed:
                self._lost.add((entry.lease.trial_id, entry.lease.token))
                self._queue = deque(e for e in self._queue if e.lease is not entry.lease)
                self._changed.notify_all()
        except (SQLAlchemyError, StorageInternalError) as error:
            if is_unavailability(error):
                self._wait(error)
            else:
                self._fail(error)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that settles
            self._fail(error)
        else:
            with self._changed:
                self._queue.popleft()
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
