"""Graceful exit: a worker that gets a signal exits within seconds, whatever it is doing."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, the signal of SLURM and Kubernetes, and a closed terminal, unless `nohup` ignores it."""
GRACE_S = 3.5
"""Seconds after which a worker that cannot be interrupted exits without a message."""
_MOST_SIGNALS = 4096


@contextmanager
def leaving_in_time(
    parent: int | None = None,
    end: Callable[[int], object] = os._exit,
    *,
    grace_s: float | None = None,
) -> Iterator[None]:
    """Raises KeyboardInterrupt in the main thread at the first order; exits after `grace_s`.

    An order is one of `SIGNALS`; other signals, with handlers or not, change nothing.

    A long torch operation does not notice a signal until it is done. The process then exits as if
    it were killed, which loses only the running epoch. Later signals are ignored: SLURM signals a
    job and each of its workers, and the job signals its workers again; a second interrupt would
    break the release of a trial.

    Args:
        parent: file descriptor that becomes readable when the parent process exits, which counts
            as a signal.
        end: ends the process.
        grace_s: seconds from the first signal to the exit; None for `GRACE_S`.
    """
    grace_s = GRACE_S if grace_s is None else grace_s
    reader, writer = socket.socketpair()
    writer.settimeout(0)
    previous_handlers = {
        number: handler
        for number in SIGNALS
        if not ((handler := signal.getsignal(number)) is signal.SIG_IGN and number == signal.SIGHUP)
    }
    watched: list[socket.socket | int] = [reader]
    watched += [parent] if parent is not None else []

    def watch() -> None:
        # Python writes the number of every signal that has a handler.
        while reader in wait(watched):
            numbers = reader.recv(_MOST_SIGNALS)
            if not numbers:
                reader.close()
                return  # the context ended without an order
            if previous_handlers.keys() & set(numbers):
                break
        else:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_s)
        end(128 + signal.SIGTERM)

    def interrupt(_signal_number: int, _frame: FrameType | None) -> None:
        for number in previous_handlers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in previous_handlers:
        signal.signal(number, interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, previous_handlers)
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, name="canopy graceful exit", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
        writer.close()
