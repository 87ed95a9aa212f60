"""Pipe from a worker's process to its launcher, for every event as it happens."""

import select
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from canopy_search.search.events import SearchWatcher, SharedPrefix, TrialEnd

_BATCH_EVERY_S = 0.2


class EventPipe:
    """Passes every event of a worker to its log and to the launcher.

    Args:
        lines: the log.
        connection: pipe to the launcher; events that would block are only in the log.
    """

    def __init__(self, lines: SearchWatcher, connection: "Connection[Any, Any]") -> None:
        self._lines = lines
        self._connection = connection
        self._lock = threading.Lock()
        self._batch_s = 0.0

    def emit(self, name: str, *arguments: Any) -> None:
        """Sends one event, unless the launcher has exited or its pipe is full."""
        with self._lock, suppress(OSError):
            if select.select([], [self._connection], [], 0)[1]:
                self._connection.send((name, arguments))

    def note(self, text: str) -> None:
        """Something happened that the user should know."""
        self._lines.note(text)
        self.emit("note", text)

    def progress(self, what: str, done: int, total: int) -> None:
        """Progress of a preparation, at most every 0.2 s."""
        self._lines.progress(what, done, total)
        now_s = time.monotonic()
        if done >= total or now_s - self._batch_s > _BATCH_EVERY_S:
            self._batch_s = now_s
            self.emit("progress", what, done, total)

    def search_started(self, study: str, finished: int, n_trials: int, best: float | None) -> None:
        """The worker starts; only the log shows it."""
        self._lines.search_started(study, finished, n_trials, best)

    def trial_started(
        self,
        number: int,
        params: Mapping[str, Any],
        from_epoch: int,
        shared_prefix: SharedPrefix | None = None,
    ) -> None:
        """A trial starts or resumes."""
        self._lines.trial_started(number, params, from_epoch, shared_prefix)
        self.emit("trial_started", number, dict(params), from_epoch, shared_prefix)

    def batch_done(self, epoch: int, done: int, total: int) -> None:
        """One optimizer step is done."""
        now_s = time.monotonic()
        if now_s - self._batch_s > _BATCH_EVERY_S:
            self._batch_s = now_s
            self.emit("batch_done", epoch, done, total)

    def epoch_done(
        self, epoch: int, epochs: int, val_ap: float, best_of_others: float | None
    ) -> None:
        """An epoch is validated."""
        self._lines.epoch_done(epoch, epochs, val_ap, best_of_others)
        self.emit("epoch_done", epoch, epochs, val_ap, best_of_others)

    def trial_ended(self, end: TrialEnd, settled: int, best: float | None) -> None:
        """A trial ended or paused."""
        self._lines.trial_ended(end, settled, best)
        self.emit("trial_ended", end, settled, best)

    def close(self) -> None:
        """The worker ended."""
        self._lines.close()
