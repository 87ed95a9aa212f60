"""Pipe from a worker's process to its launcher, for every event as it happens."""

import select
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from canopy_search.search.events import BatchDone, Emit, Event, Progress, SearchStarted

_BATCH_EVERY_S = 0.2


class EventPipe:
    """Passes every event of a worker to its log and to the launcher.

    Args:
        connection: pipe to the launcher; events that would block are only in the log.

    Attributes:
        log: writes the log.
    """

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self.log: Emit = lambda _event: None
        self._connection = connection
        self._lock = threading.Lock()
        self._batch_s = 0.0

    def emit(self, event: Event) -> None:
        """Sends an event, unless the launcher has exited or its pipe is full.

        Of steps and preparations, one in 0.2 s is sent. The launcher has shown the start itself.
        """
        self.log(event)
        is_step = isinstance(event, BatchDone | Progress)
        if isinstance(event, SearchStarted) or (is_step and self._is_too_soon(event)):
            return
        with self._lock, suppress(OSError):
            if select.select([], [self._connection], [], 0)[1]:
                self._connection.send(event)

    def _is_too_soon(self, event: Event) -> bool:
        now_s = time.monotonic()
        if isinstance(event, Progress) and event.done >= event.total:
            return False
        if now_s - self._batch_s <= _BATCH_EVERY_S:
            return True
        self._batch_s = now_s
        return False
