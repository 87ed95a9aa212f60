"""The write queue: a thread writes a worker's changes in order, and retries if needed."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from canopy_search.filestore.retry import ALIVE_S, Retrier
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
        retrier: how long to retry.
    """

    def __init__(self, write: Callable[[TrialChange, Lease, int], None], retrier: Retrier) -> None:
        self._write = write
        self._retrier = retrier
        self._queue: deque[_Entry] = deque()
        self._changed = threading.Condition()
        self._lost: set[tuple[int, int]] = set()
        self._failure: BaseException | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="canopy write queue", daemon=True)
        self._thread.start()

    @property
    def is_retrying(self) -> bool:
        """Whether the database is unavailable, as far as is known."""
        return self._retrier.is_waiting

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
                self._retrier.alive()
                self._changed.wait(min(ALIVE_S, until_s - time.monotonic()))
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
            self._closed.set()
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
                self._changed.wait_for(lambda: self._queue or self._closed.is_set())
                if self._closed.is_set():
                    return
                entry = self._queue[0]
            try:
                write = partial(self._write, entry.change, entry.lease, entry.before)
                self._retrier.call(write, self._closed)
            except LeaseLostError:
                with self._changed:
                    self._lost.add((entry.lease.trial_id, entry.lease.token))
                    self._queue = deque(e for e in self._queue if e.lease is not entry.lease)
                    self._changed.notify_all()
            except BaseException as error:  # noqa: BLE001 - raised in the thread that settles
                self._fail(error)
            else:
                with self._changed:
                    self._queue.popleft()
                    self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = error
            self._closed.set()
            self._changed.notify_all()
