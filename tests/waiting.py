"""Waits for what a test waits for; light, for processes of tests import it too."""

import time
from collections.abc import Callable

HANG_S = 240.0
"""What takes as long as this hangs, on any machine."""


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Waits until something is so."""
    deadline_s = time.monotonic() + HANG_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"never: {what}"
        time.sleep(0.02)
