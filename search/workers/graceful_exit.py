"""Leaving in time: a worker that is told to go does so within seconds, whatever it is at."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, what SLURM and Kubernetes send, and a terminal that is closed."""
GRACE_S = 3.5
"""After as long as this a worker that cannot be interrupted ends without a word."""


@contextmanager
def leaving_in_time(
    parent: int | None = None,
    end: Callable[[int], object] = os._exit,
    *,
    signals: Sequence[signal.Signals] = SIGNALS,
    grace_s: float | None = None,
) -> Iterator[None]:
    """Raises KeyboardInterrupt in the main thread at the first signal, and ends after the grace.

    A long operation of torch does not notice a signal until it is over; then the process ends as if
    it were killed, which loses the epoch under way and nothing else. What comes after the first
    signal is ignored: SLURM tells a job and each of its workers, whom the job tells again, and the
    second time would interrupt the release of a trial.

    Args:
        parent: file descriptor that becomes readable when the parent process is gone, which counts
            as a signal.
        end: ends the process.
        signals: that say so.
        grace_s: seconds from the first one to the end; None for `GRACE_S`.
    """
    grace_s = GRACE_S if grace_s is None else grace_s
    ours, theirs = socket.socketpair()
    theirs.settimeout(0)
    before = {number: signal.getsignal(number) for number in signals}
    watched: list[socket.socket | int] = [ours]
    watched += [parent] if parent is not None else []

    def watch() -> None:
        ready = wait(watched)
        if ours in ready and not ours.recv(1):
            return  # the context ended in peace
        if ours not in ready:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_s)
        end(128 + signal.SIGTERM)

    def interrupt(_signal_number: int, _frame: FrameType | None) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, interrupt)
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, name="canopy graceful exit", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        theirs.close()
