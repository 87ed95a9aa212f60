"""What can go wrong with a server, on demand."""

import re
import threading
from dataclasses import dataclass

DOWN = "down"
HANG = "hang"
LOST = "lost"
REFUSED = "refused"
STATUSES = {"500": 500, "502": 502, "503": 503, "429": 429}
KINDS = (DOWN, HANG, LOST, REFUSED, *STATUSES)
"""Connections are refused; requests stay without answer; they are acted upon and the answer is
lost; credentials and tokens are refused; every answer has that status."""


@dataclass
class Misbehaviour:
    """One of `KINDS`, for as long as it is wanted.

    Attributes:
        kind: which.
        times: how many requests it strikes; None for all.
        actions: regular expression that finds the actions which it strikes.
    """

    kind: str
    times: int | None = None
    actions: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind} is none of {', '.join(KINDS)}")


class Mood:
    """How the server is disposed, and whom it has struck."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: Misbehaviour | None = None
        self._well = threading.Event()
        self._well.set()
        self.struck = 0

    def misbehave(self, how: Misbehaviour) -> None:
        with self._lock:
            self._now, self.struck = how, 0
            self._well.clear()

    def behave(self) -> None:
        with self._lock:
            self._now = None
            self._well.set()

    @property
    def kind(self) -> str | None:
        with self._lock:
            return self._now.kind if self._now else None

    def strikes(self, action: str) -> str | None:
        """Returns what befalls a request, which counts."""
        with self._lock:
            now = self._now
            if now is None or not re.search(now.actions, action):
                return None
            if now.times is not None:
                if now.times <= 0:
                    return None
                now.times -= 1
            self.struck += 1
            return now.kind

    def wait_until_well(self, limit_s: float) -> None:
        """Returns when the server behaves again."""
        self._well.wait(limit_s)
