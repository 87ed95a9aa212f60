"""Says that a long computation makes progress, to a watchdog if there is one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LONGEST_SILENCE_S = 3600.0
"""A step that cannot report its progress, such as a download, may last this long, in seconds."""

_LISTENER: ContextVar[Callable[[float], None]] = ContextVar(
    "canopy_liveness", default=lambda _silent_s: None
)


@contextmanager
def heard_by(listener: Callable[[float], None]) -> Iterator[None]:
    """Lets `listener` hear of the progress of this thread until the context ends.

    Args:
        listener: called with the seconds for which it need not hear anything further.
    """
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def progressed() -> None:
    """Says that this thread has made progress."""
    _LISTENER.get()(0.0)


@contextmanager
def silent_step() -> Iterator[None]:
    """Says that this thread works on a step that cannot report its progress."""
    _LISTENER.get()(LONGEST_SILENCE_S)
    try:
        yield
    finally:
        progressed()
