"""Ends a process whose trial makes no progress: nothing else can end a thread that hangs."""

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from canopy_search.storage.study.trial_changes import Lease
from canopy_search.training.liveness import heard_by

STALLED = 75
"""Exit status of a worker whose trial stalled."""

_CHECKS_PER_STALL = 10


class Watchdog:
    """Watches the running trial.

    Args:
        stall_s: seconds without progress after which the process ends; None watches nothing.
        on_stall: called with the lease and the reason, on the watchdog's thread; records that the
            trial failed.
        end: ends the process.
    """

    def __init__(
        self,
        stall_s: float | None,
        on_stall: Callable[[Lease, str], None],
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._stall_s = stall_s
        self._on_stall = on_stall
        self._end = end
        self._progress_s = self._silent_until_s = time.monotonic()

    def progress(self) -> None:
        """Records that the trial has made progress."""
        self._progress_s = time.monotonic()

    def hear(self, silent_s: float) -> None:
        """Records progress, after which the trial may be silent for a while.

        Args:
            silent_s: for so long, in seconds.
        """
        self.progress()
        self._silent_until_s = self._progress_s + silent_s

    @contextmanager
    def watching(self, lease: Lease) -> Iterator[None]:
        """Watches a trial until the context ends."""
        if self._stall_s is None:
            yield
            return
        is_over = threading.Event()
        self.progress()
        thread = threading.Thread(
            target=self._watch, args=(lease, is_over), name="canopy watchdog", daemon=True
        )
        thread.start()
        try:
            with heard_by(self.hear):
                yield
        finally:
            is_over.set()

    def _watch(self, lease: Lease, is_over: threading.Event) -> None:
        stall_s = self._stall_s or 0.0
        checked_s = time.monotonic()
        while not is_over.wait(stall_s / _CHECKS_PER_STALL):
            now_s = time.monotonic()
            if now_s - checked_s > stall_s / 2:
                self.progress()  # the whole process was stopped, or the machine slept
            checked_s = now_s
            still_s = now_s - max(self._progress_s, self._silent_until_s)
            if still_s > stall_s:
                reason = f"stall_s: no progress for {still_s:.0f} s"
                try:
                    self._on_stall(lease, reason)
                except Exception:  # noqa: BLE001 - printed; other workers notice the death anyway
                    traceback.print_exc()
                finally:
                    self._end(STALLED)
                return
