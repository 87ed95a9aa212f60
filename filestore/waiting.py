"""Retries while a file store is unavailable, shared by all threads that read from it."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from canopy_search.filestore.errors import FileStoreUnavailableError

DEFAULT_RETRY_FOR_S = 300.0
"""How long to retry while a file store is unavailable, in seconds."""

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0

Result = TypeVar("Result")


class Waiting:
    """Retries calls while a file store is unavailable, until none has succeeded for too long.

    All threads that read from a file store share one.

    Args:
        retry_for_s: longest time without a success, in seconds; 0 does not retry.
        on_wait: called with the error before each wait, by one thread at a time.
    """

    def __init__(
        self,
        retry_for_s: float = DEFAULT_RETRY_FOR_S,
        on_wait: Callable[[FileStoreUnavailableError], None] = lambda _error: None,
    ) -> None:
        self._retry_for_s = retry_for_s
        self._on_wait = on_wait
        self._failing_since_s: float | None = None
        self._ended = threading.Event()
        self._on_wait_lock = threading.Lock()

    def call(self, action: Callable[[], Result]) -> Result:
        """Returns what the action returns.

        Args:
            action: may be called several times.

        Raises:
            FileStoreUnavailableError: it was unavailable for too long, or `end` was called.
            OSError: what the action raises otherwise.
        """
        attempt = 0
        while True:
            try:
                result = action()
            except FileStoreUnavailableError as error:
                self._wait(error, attempt)
                attempt += 1
            else:
                self._failing_since_s = None
                return result

    def end(self) -> None:
        """Lets all waiting threads give up now."""
        self._ended.set()

    def _wait(self, error: FileStoreUnavailableError, attempt: int) -> None:
        now_s = time.monotonic()
        since_s = self._failing_since_s
        if since_s is None:
            self._failing_since_s = since_s = now_s
        waited_s = now_s - since_s
        if self._ended.is_set() or not self._retry_for_s:
            raise error
        if waited_s >= self._retry_for_s:
            raise FileStoreUnavailableError(
                f"waited {waited_s:.0f} s without success: {error}"
            ) from error
        with self._on_wait_lock:
            self._on_wait(error)
        self._ended.wait(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt))
