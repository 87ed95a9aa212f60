"""Retries while a service is unavailable: how long, how often, and what the user reads."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    wait_exponential,
    wait_random_exponential,
)
from tenacity.wait import wait_base

from canopy_search.filestore.errors import FileStoreUnavailableError

ALIVE_S = 0.2
"""A waiting call reports this often that its process is alive."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class RetryPolicy:
    """How long calls are repeated while a service is unavailable.

    Attributes:
        limit_s: a call is given up this long after its first failure, in seconds.
        longest_pause_s: between two attempts; the first pauses are shorter.
    """

    limit_s: float = 600.0
    longest_pause_s: float = 5.0

    def pauses(self) -> wait_base:
        """Returns the pauses between attempts: doubled from 0.1 s on, with jitter."""
        half_s = self.longest_pause_s / 2
        return wait_exponential(0.05, half_s) + wait_random_exponential(0.05, half_s)


@dataclass(frozen=True)
class Service:
    """A service that may be unavailable for a while.

    Attributes:
        name: for messages.
        is_unavailable: whether an error means that it is, and not a mistake of ours.
        reason: returns the reason in one line, for messages.
        given_up: returns the error to raise after waiting for some seconds, 0 if it did not wait;
            by default the error of the last attempt.
    """

    name: str
    is_unavailable: Callable[[BaseException], bool]
    reason: Callable[[BaseException], str] = str
    given_up: Callable[[BaseException, float], BaseException] = lambda error, _waited_s: error


class Retrier:
    """Repeats calls while a service is unavailable, for all threads of a process.

    Args:
        policy: how long.
        service: that is called.
        note: gets two messages for the user: when the service becomes unavailable for the first of
            the threads, and when it is back for the last one.
        revive: called before each further attempt; may restart the service.

    Attributes:
        note: as given; for messages of those who wait with it for something else.
        alive: called again and again by a thread that waits, unless it waits in the background.
        reason: why the service was unavailable the last time.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        service: Service,
        *,
        note: Callable[[str], None] = lambda _text: None,
        revive: Callable[[], None] = lambda: None,
    ) -> None:
        self.alive: Callable[[], None] = lambda: None
        self.reason = ""
        self._policy = policy
        self._service = service
        self.note = note
        self._revive = revive
        self._waiting = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()

    @property
    def is_waiting(self) -> bool:
        """Whether a thread waits for the service."""
        return self._waiting > 0

    def call(
        self, action: Callable[[], Result], background: threading.Event | None = None
    ) -> Result:
        """Returns what `action` returns, and repeats it until the service is back.

        Args:
            action: changes nothing when it fails, or finds out itself what it has changed.
            background: ends the wait of a thread in the background; `end` does not.

        Raises:
            Exception: see `Service.given_up`; after `end`, the error of the last attempt.
        """
        wait = _Wait(background or self._ended)
        retrying = Retrying(
            retry=retry_if_exception(self._service.is_unavailable),
            wait=self._policy.pauses(),
            stop=lambda _state: wait.ended.is_set() or wait.duration_s >= self._policy.limit_s,
            before_sleep=lambda state: self._begin(wait, state),
            sleep=lambda pause_s: self._sleep(wait, pause_s, is_background=background is not None),
            retry_error_callback=lambda state: self._give_up(wait, state),
        )
        try:
            result = retrying(action)
        except BaseException:
            self._finish(wait)
            raise
        if self._finish(wait):
            self.note(f"{self._service.name} is back after {wait.duration_s:.0f} s")
        return result

    def end(self) -> None:
        """Lets all waiting threads give up now."""
        self._ended.set()

    def _begin(self, wait: "_Wait", state: RetryCallState) -> None:
        wait.error = _error(state)
        if wait.began_s is not None:
            return
        wait.began_s = time.monotonic()
        with self._lock:
            self._waiting += 1
            if self._waiting == 1:
                self.reason = self._service.reason(wait.error)
                self.note(f"{self._service.name} is unavailable: {self.reason}; retrying")

    def _sleep(self, wait: "_Wait", pause_s: float, *, is_background: bool) -> None:
        until_s = time.monotonic() + pause_s
        while (left_s := until_s - time.monotonic()) > 0:
            if not is_background:
                self.alive()
            if wait.ended.wait(min(ALIVE_S, left_s)) and wait.error is not None:
                raise wait.error
        self._revive()

    def _give_up(self, wait: "_Wait", state: RetryCallState) -> None:
        error = _error(state)
        failure = error if wait.ended.is_set() else self._service.given_up(error, wait.duration_s)
        if failure is error:
            raise error
        raise failure from error

    def _finish(self, wait: "_Wait") -> bool:
        """Returns whether the last waiting thread waits no longer."""
        with self._lock:
            if wait.began_s is None:
                return False
            self._waiting -= 1
            return self._waiting == 0


@dataclass
class _Wait:
    """The wait of one call, if it has to wait.

    Attributes:
        ended: set to end it.
        began_s: when it began.
        error: of the last attempt.
    """

    ended: threading.Event
    began_s: float | None = None
    error: BaseException | None = None

    @property
    def duration_s(self) -> float:
        """How long it has lasted."""
        return 0.0 if self.began_s is None else time.monotonic() - self.began_s


def _error(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome is not None else None
    if error is None:
        raise RuntimeError("only a failed attempt is repeated")
    return error


def _file_store_given_up(error: BaseException, waited_s: float) -> BaseException:
    if not waited_s:
        return error
    return FileStoreUnavailableError(f"waited {waited_s:.0f} s without success: {error}")


FILE_STORE = Service(
    "the file store",
    lambda error: isinstance(error, FileStoreUnavailableError),
    lambda error: str(error).rpartition("; ")[0],
    _file_store_given_up,
)
"""A folder or a bucket that images and labels are read from."""
