"""Faults that a process does to itself at a chosen point of the code."""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

Prepare = Callable[[], None]
"""Is called in a process that works, before it begins."""


def nth_time(counter: Path) -> int:
    """Returns how often this was called, in all processes together.

    Each time is a byte in the file: another thread may kill the process at any moment here.
    """
    with counter.open("ab", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(b".")
        return file.tell()


def times(counter: Path) -> int:
    """Returns how often a point was come to."""
    return counter.stat().st_size if counter.exists() else 0


def before(
    owner: Any,
    name: str,
    counter: Path,
    at: Collection[int],
    do: Callable[[], None] | None = None,
) -> Prepare:
    """Does something to the process as it comes to a function the first, third … time.

    Args:
        owner: the class or module that has the function.
        name: of the function.
        counter: a file.
        at: the times, counted over all processes.
        do: kills the process by default.
    """

    def prepare() -> None:
        original = getattr(owner, name)

        def doomed(*arguments: Any, **options: Any) -> Any:
            if nth_time(counter) in at:
                (do or kill_self)()
            return original(*arguments, **options)

        setattr(owner, name, doomed)

    return prepare


def after(owner: Any, name: str, counter: Path, at: Collection[int]) -> Prepare:
    """Kills the process as it leaves a function the first, third … time."""

    def prepare() -> None:
        original = getattr(owner, name)

        def doomed(*arguments: Any, **options: Any) -> Any:
            result = original(*arguments, **options)
            if nth_time(counter) in at:
                kill_self()
            return result

        setattr(owner, name, doomed)

    return prepare


def kill_self() -> None:
    """Ends this process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def freeze_self() -> None:
    """Stops this process until somebody lets it go on."""
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.2)  # this thread may be the last one to stop
